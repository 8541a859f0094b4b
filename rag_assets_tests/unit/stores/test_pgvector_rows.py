"""What applying documents writes into a generation's table, and what the table refuses."""

from dataclasses import replace

import numpy as np
import psycopg
import pytest
from pgvector import HalfVector

from rag_assets.database.generations import Generation
from rag_assets.database.pool import Database
from rag_assets.fingerprint import text_hash
from rag_assets.stores.pgvector import Applied
from rag_assets_tests.unit.stores.tables import (
    apply,
    put,
    rows,
    search,
    unit,
    vector_of,
)


def test_applying_a_new_document_adds_its_chunks_with_their_vectors(database: Database, generation: Generation) -> None:
    doc_id = put(database, "a.md", ["one", "two"], {"author": "Ann"})
    assert apply(database, generation, doc_id) == Applied(added=2)
    found = rows(database, generation)
    assert {text: row[0] for text, row in found.items()} == {"one": "a.md", "two": "a.md"}
    assert found["one"][2] == tuple(vector_of("one").astype(np.float16).astype(np.float32))


def test_applying_again_writes_no_row(database: Database, generation: Generation) -> None:
    doc_id = put(database, "a.md", ["one", "two"])
    apply(database, generation, doc_id)
    before = rows(database, generation)
    assert apply(database, generation, doc_id) == Applied()
    assert rows(database, generation) == before


def test_applying_an_edit_adds_and_removes_exactly_the_difference(database: Database, generation: Generation) -> None:
    doc_id = put(database, "a.md", ["one", "two", "three"])
    apply(database, generation, doc_id)
    kept = rows(database, generation)["one"]
    put(database, "a.md", ["one", "four"])
    # "one" keeps its place in the document, so its payload is the same.
    assert apply(database, generation, doc_id) == Applied(added=1, removed=2)
    assert rows(database, generation).keys() == {"one", "four"}
    assert rows(database, generation)["one"] == kept


def test_a_change_of_payload_alone_rewrites_the_row_and_keeps_its_vector(
    database: Database, generation: Generation
) -> None:
    doc_id = put(database, "a.md", ["one"], {"author": "Ann"})
    apply(database, generation, doc_id)
    before = rows(database, generation)["one"]
    put(database, "a.md", ["one"], {"author": "Bob"})
    with database.transaction() as connection:
        connection.execute("UPDATE embedding SET vector = %s", (unit(999),))
    assert apply(database, generation, doc_id) == Applied(updated=1)
    assert rows(database, generation)["one"][2] == before[2]
    (found,) = search(database, generation, vector_of("one"), 1)
    assert found.payload["author"] == "Bob"


def test_only_the_documents_named_are_touched(database: Database, generation: Generation) -> None:
    first, second = put(database, "a.md", ["one"]), put(database, "b.md", ["two"])
    apply(database, generation, first, second)
    put(database, "a.md", ["changed"])
    put(database, "b.md", ["changed too"])
    apply(database, generation, first)
    assert rows(database, generation).keys() == {"changed", "two"}


def test_a_document_that_is_gone_loses_its_rows(database: Database, generation: Generation) -> None:
    first, second = put(database, "a.md", ["one", "two"]), put(database, "b.md", ["three"])
    apply(database, generation, first, second)
    with database.transaction() as connection:
        connection.execute("DELETE FROM source_file WHERE doc_id = %s", (first,))
        connection.execute("DELETE FROM chunked WHERE doc_id = %s", (first,))
    assert apply(database, generation, first) == Applied(removed=2)
    assert rows(database, generation).keys() == {"three"}


def test_a_row_shows_its_document_and_place_and_metadata_never_hides_them(
    database: Database, generation: Generation
) -> None:
    doc_id = put(database, "a.md", ["one"], {"author": "Ann", "document": "forged.md", "title": "forged"})
    apply(database, generation, doc_id)
    (found,) = search(database, generation, vector_of("one"), 1)
    assert (found.payload["document"], found.payload["title"]) == ("a.md", "Title of a.md")
    assert (found.payload["author"], found.payload["position"], found.payload["tokens"]) == ("Ann", 0, 5)


def test_equal_texts_of_two_documents_are_two_rows(database: Database, generation: Generation) -> None:
    first, second = put(database, "a.md", ["same"]), put(database, "b.md", ["same"])
    assert apply(database, generation, first, second) == Applied(added=2)
    found = search(database, generation, vector_of("same"), 5)
    assert sorted(row.payload["document"] for row in found) == ["a.md", "b.md"]


@pytest.mark.parametrize(
    ("vector", "error"),
    [
        ("[1,0,0,0]", psycopg.errors.CheckViolation),
        ("[1,0,0,0,0,0,0,0,0]", psycopg.errors.CheckViolation),
        ("[NaN,0,0,0,0,0,0,0]", psycopg.DataError),
        ("[Infinity,0,0,0,0,0,0,0]", psycopg.DataError),
    ],
)
def test_the_table_refuses_a_vector_of_another_dimension_or_without_a_value(
    database: Database, generation: Generation, vector: str, error: type[Exception]
) -> None:
    with pytest.raises(error), database.transaction() as connection:
        connection.execute(
            f"INSERT INTO index_entry_g{generation.id} VALUES (%s, 'c', 'd', 't', 'text', '{{}}', %s::halfvec, 'embedder')",
            (generation.id, vector),
        )


@pytest.mark.parametrize("vector", ["[0,0,0,0,0,0,0,0]", "[2,0,0,0,0,0,0,0]", "[NaN,0,0,0,0,0,0,0]"])
def test_the_cache_of_vectors_refuses_one_that_is_not_of_unit_length(database: Database, vector: str) -> None:
    with pytest.raises((psycopg.errors.CheckViolation, psycopg.DataError)), database.transaction() as connection:
        connection.execute("INSERT INTO embedding VALUES ('e', 't', %s::vector)", (vector,))


def test_a_row_of_another_generation_does_not_fit_into_the_table(database: Database, generation: Generation) -> None:
    with pytest.raises(psycopg.errors.CheckViolation), database.transaction() as connection:
        connection.execute(
            f"INSERT INTO index_entry_g{generation.id} VALUES (%s, 'c', 'd', 't', 'x', '{{}}', %s::halfvec, 'embedder')",
            (generation.id + 1, HalfVector(unit(1))),
        )


@pytest.mark.parametrize("embedder", ["another model", None])
def test_a_vector_of_another_model_does_not_fit_into_the_table(
    database: Database, generation: Generation, embedder: str | None
) -> None:
    doc_id = put(database, "a.md", ["one"])
    with (
        pytest.raises(psycopg.errors.CheckViolation, match="index_entry_embedder"),
        database.transaction() as connection,
    ):
        connection.execute(
            f"INSERT INTO index_entry_g{generation.id} VALUES (%s, 'c', 'd', 't', 'x', '{{}}', %s::halfvec, %s)",
            (generation.id, HalfVector(unit(1)), embedder),
        )
    # Nor through the parent, nor by moving a row that is there.
    apply(database, generation, doc_id)
    with (
        pytest.raises(psycopg.errors.CheckViolation, match="index_entry_embedder"),
        database.transaction() as connection,
    ):
        connection.execute("UPDATE index_entry SET embedder_fp = %s", (embedder,))
    assert rows(database, generation).keys() == {"one"}


def test_the_store_itself_can_only_write_vectors_of_the_generations_model(
    database: Database, generation: Generation
) -> None:
    """As if its query had taken the vectors of a wrong fingerprint."""
    doc_id = put(database, "a.md", ["one"])
    with database.transaction() as connection:
        connection.execute("INSERT INTO embedding VALUES ('other', %s, %s)", (text_hash("one"), unit(5)))
    other = replace(generation, key=replace(generation.key, embedder_fp="other"))
    with pytest.raises(psycopg.errors.CheckViolation, match="index_entry_embedder"):
        apply(database, other, doc_id)
    assert rows(database, generation) == {}
