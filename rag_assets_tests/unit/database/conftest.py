"""A pool on a fresh database."""

from collections.abc import Iterator

import pytest

from rag_assets.database.pool import Database


@pytest.fixture
def database(postgres_url: str) -> Iterator[Database]:
    """The project's pool, as a runtime has it."""
    pool = Database(postgres_url)
    yield pool
    pool.close()
