"""Searches of a generation's table on a real server, against numpy and plain sets."""

import numpy as np
import pytest

from rag_assets.database.generations import Generation
from rag_assets.database.pool import Database
from rag_assets.settings import IndexSettings
from rag_assets.stores import pgvector
from rag_assets_tests.unit.stores.tables import (
    build,
    fill,
    payload,
    plan_of,
    random_units,
    search,
    unit,
)


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("indexed", [True, False])
def test_the_nearest_rows_come_in_numpys_order(
    database: Database, generation: Generation, indexed: bool, exact: bool
) -> None:
    vectors = random_units(400)
    fill(database, generation, vectors, lambda number: {})
    if indexed:
        build(database, generation)
    query = unit(77)
    found = search(database, generation, query, 10, exact=exact)
    halves = vectors.astype(np.float16).astype(np.float64)
    cosine = halves @ query / np.linalg.norm(halves, axis=1)
    expected = np.argsort(-cosine)[:10]
    assert [row.chunk_id for row in found] == [f"{number:06d}" for number in expected]
    np.testing.assert_allclose([row.dense for row in found], cosine[expected], atol=1e-3)


def test_exact_search_does_not_use_the_index_and_ordinary_search_does(
    database: Database, generation: Generation
) -> None:
    fill(database, generation, random_units(3000), lambda number: {})
    build(database, generation)
    assert "_hnsw" in plan_of(database, generation, unit(5))
    assert "_hnsw" not in plan_of(database, generation, unit(5), exact=True)


def test_exact_search_finds_what_the_index_misses(database: Database, generation: Generation) -> None:
    """With ``exact`` ignored, recall would be the index against itself: always perfect."""
    vectors = random_units(3000)
    fill(database, generation, vectors, lambda number: {})
    with database.transaction() as connection:
        pgvector.build_index(connection, generation, IndexSettings(m=2, ef_construction=4))
    missed = 0
    for seed in range(20):
        query = unit(1000 + seed)
        exact = [row.chunk_id for row in search(database, generation, query, 10, exact=True)]
        best = np.argsort(-(vectors.astype(np.float16).astype(np.float32) @ query))[:10]
        assert len({f"{number:06d}" for number in best} & set(exact)) >= 9  # half precision may swap the last place
        missed += exact != [row.chunk_id for row in search(database, generation, query, 10, ef_search=1)]
    assert missed > 0


def test_k_may_be_more_than_the_table_holds_or_than_ef_search(database: Database, generation: Generation) -> None:
    fill(database, generation, random_units(300), payload)
    build(database, generation)
    assert len(search(database, generation, unit(1), 250, ef_search=10)) == 250
    assert len(search(database, generation, unit(1), 1000)) == 300
