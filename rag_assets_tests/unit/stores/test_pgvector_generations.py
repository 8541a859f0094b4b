"""The index of a generation's table, and generations beside one another."""

import numpy as np

from rag_assets.database import generations
from rag_assets.database.generations import Generation
from rag_assets.database.pool import Database
from rag_assets.settings import IndexSettings
from rag_assets.stores import pgvector
from rag_assets_tests.unit.stores.tables import (
    DIMENSION,
    apply,
    begin,
    build,
    fill,
    payload,
    put,
    random_units,
    search,
    vector_of,
)


def test_the_index_is_built_once_and_kept_up_by_later_writes(database: Database, generation: Generation) -> None:
    doc_id = put(database, "a.md", ["one", "two"])
    apply(database, generation, doc_id)
    assert build(database, generation)
    assert not build(database, generation)
    put(database, "a.md", ["one", "three"])
    apply(database, generation, doc_id)
    assert [row.text for row in search(database, generation, vector_of("three"), 1)] == ["three"]


def test_a_generation_has_no_index_until_it_is_built(database: Database, generation: Generation) -> None:
    with database.transaction() as connection:
        assert not pgvector.has_index(connection, generation)
    build(database, generation)
    with database.transaction() as connection:
        assert pgvector.has_index(connection, generation)


def test_the_index_has_the_parameters_asked_for(database: Database, generation: Generation) -> None:
    with database.transaction() as connection:
        pgvector.build_index(connection, generation, IndexSettings(m=5, ef_construction=11))
        row = connection.execute(
            "SELECT reloptions FROM pg_class WHERE relname = %s", (f"index_entry_g{generation.id}_hnsw",)
        ).fetchone()
    assert row == (["m=5", "ef_construction=11"],)


def test_two_generations_do_not_see_each_others_rows(database: Database, generation: Generation) -> None:
    other = begin(database, "other index")
    first, second = put(database, "a.md", ["one"]), put(database, "b.md", ["two"])
    apply(database, generation, first)
    apply(database, other, second)
    assert [row.text for row in search(database, generation, vector_of("two"), 5)] == ["one"]
    assert [row.text for row in search(database, other, vector_of("one"), 5)] == ["two"]
    with database.transaction() as connection:
        assert (pgvector.count(connection, generation), pgvector.count(connection, other)) == (1, 1)


def test_making_a_table_again_keeps_its_rows(database: Database, generation: Generation) -> None:
    apply(database, generation, put(database, "a.md", ["one"]))
    with database.transaction() as connection:
        pgvector.create(connection, generation)
        assert pgvector.count(connection, generation) == 1


def test_dropping_a_generation_leaves_the_others(database: Database, generation: Generation) -> None:
    other = begin(database, "other index")
    apply(database, other, put(database, "a.md", ["one"]))
    with database.transaction() as connection:
        pgvector.drop(connection, generation)
        assert [item.id for item in generations.all_generations(connection, "c")] == [other.id]
        assert pgvector.count(connection, other) == 1
        row = connection.execute("SELECT to_regclass(%s)", (f"rag.index_entry_g{generation.id}",)).fetchone()
    assert row == (None,)


def test_a_sample_of_vectors_is_always_the_same(database: Database, generation: Generation) -> None:
    fill(database, generation, random_units(50), payload)
    with database.transaction() as connection:
        first = pgvector.sample_vectors(connection, generation, 7)
        again = pgvector.sample_vectors(connection, generation, 7)
    assert first.shape == (7, DIMENSION)
    np.testing.assert_array_equal(first, again)
