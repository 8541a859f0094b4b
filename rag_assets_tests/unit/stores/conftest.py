"""A pool on a fresh database, with one empty generation."""

from collections.abc import Iterator

import pytest

from rag_assets.database.generations import Generation
from rag_assets.database.pool import Database
from rag_assets_tests.unit.stores.tables import begin


@pytest.fixture
def database(postgres_url: str) -> Iterator[Database]:
    pool = Database(postgres_url)
    yield pool
    pool.close()


@pytest.fixture
def generation(database: Database) -> Generation:
    return begin(database, "index")
