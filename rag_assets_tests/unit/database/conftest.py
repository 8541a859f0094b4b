"""A pool on a fresh database, and homes of embedded servers."""

from collections.abc import Iterator

import pytest

from rag_assets.database.pool import Database
from rag_assets_tests.unit.database.homes import home, new_home, template

__all__ = ["home", "new_home", "template"]


@pytest.fixture
def database(postgres_url: str) -> Iterator[Database]:
    """The project's pool, as a runtime has it."""
    pool = Database(postgres_url)
    yield pool
    pool.close()
