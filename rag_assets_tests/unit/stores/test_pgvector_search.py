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


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"language": "de"}, set(range(1, 100, 2))),
        ({"tags": "b"}, set(range(0, 100, 10))),
        ({"page": "7"}, {7}),
        ({"language": "en", "tags": "a"}, set(range(0, 100, 10))),
        ({"language": "de", "tags": "a"}, set()),
        ({"nothing": "x"}, set()),
        ({"language": "de' OR '1'='1"}, set()),
        ({"x' = 'x' OR 'a": "a"}, set()),
    ],
)
def test_filters_are_equalities_on_a_field_or_a_member_of_a_list(
    database: Database, generation: Generation, filters: dict[str, str], expected: set[int]
) -> None:
    fill(database, generation, random_units(100), payload)
    build(database, generation)
    for exact in (True, False):
        found = search(database, generation, unit(3), 100, filters=filters, exact=exact)
        assert {row.payload["page"] for row in found} == expected


@pytest.mark.parametrize("far", [False, True])
def test_as_many_results_come_as_were_asked_for_when_they_exist_behind_a_filter(
    database: Database, generation: Generation, far: bool
) -> None:
    vectors, query = random_units(3000), unit(3)
    order = np.argsort(vectors @ query)
    # 1 % of the rows: scattered, or the very ones farthest from the question.
    chosen = set(order[:30].tolist()) if far else set(range(0, 3000, 100))
    fill(database, generation, vectors, lambda number: {"team": "x" if number in chosen else "y", "page": number})
    build(database, generation)
    found = search(database, generation, query, 10, filters={"team": "x"})
    exact = search(database, generation, query, 10, filters={"team": "x"}, exact=True)
    assert len(found) == 10
    assert {row.chunk_id for row in found} == {row.chunk_id for row in exact}


def test_k_may_be_more_than_the_table_holds_or_than_ef_search(database: Database, generation: Generation) -> None:
    fill(database, generation, random_units(300), payload)
    build(database, generation)
    assert len(search(database, generation, unit(1), 250, ef_search=10)) == 250
    assert len(search(database, generation, unit(1), 1000)) == 300
