"""One pass of exact search for many vectors finds what PostgreSQL finds for each of them."""

import numpy as np
import pytest

from rag_assets.database.generations import Generation
from rag_assets.database.pool import Database
from rag_assets.stores.exact import best_similarities
from rag_assets_tests.unit.stores.tables import DIMENSION, fill, random_units, search


def found_at_once(database: Database, generation: Generation, vectors: np.ndarray, k: int) -> np.ndarray:
    with database.transaction(snapshot=True) as connection:
        return best_similarities(connection, generation, vectors, k)


# Fewer than a block, exactly one, and some with a rest.
@pytest.mark.parametrize("rows", [7, 8192, 20_001])
def test_similarities_are_those_of_an_exact_search_in_the_database(
    database: Database, generation: Generation, rows: int
) -> None:
    fill(database, generation, random_units(rows), lambda number: {})
    queries = random_units(5, seed=9)
    found = found_at_once(database, generation, queries, 10)
    one_by_one = [[row.dense for row in search(database, generation, query, 10, exact=True)] for query in queries]
    assert found.shape == (5, min(10, rows))
    np.testing.assert_allclose(found, one_by_one, atol=1e-6)


def test_no_rows_or_no_queries_give_nothing(database: Database, generation: Generation) -> None:
    assert found_at_once(database, generation, random_units(3), 10).shape == (3, 0)
    fill(database, generation, random_units(20), lambda number: {})
    assert found_at_once(database, generation, np.empty((0, DIMENSION), np.float32), 10).shape == (0, 10)
