"""A generation's table on a real server, against numpy and plain sets."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import psycopg
import pytest
from pgvector import HalfVector
from psycopg.types.json import Jsonb

from rag_assets.database import generations
from rag_assets.database.generations import Generation, GenerationKey
from rag_assets.database.pool import Database
from rag_assets.fingerprint import bucket_of, chunk_id, document_id, text_hash
from rag_assets.settings import IndexSettings
from rag_assets.stores import pgvector
from rag_assets.stores.pgvector import Applied

DIMENSION = 8
CHUNKER, EMBEDDER = "chunker", "embedder"
Vector = npt.NDArray[np.float32]


@pytest.fixture
def database(postgres_url: str) -> Iterator[Database]:
    pool = Database(postgres_url)
    yield pool
    pool.close()


@pytest.fixture
def generation(database: Database) -> Generation:
    return begin(database, "index")


def begin(database: Database, index: str) -> Generation:
    with database.transaction() as connection:
        made = generations.create(connection, "c", GenerationKey(CHUNKER, EMBEDDER, index), {}, DIMENSION)
        pgvector.create(connection, made)
        return made


def unit(seed: int) -> Vector:
    vector = np.random.default_rng(seed).standard_normal(DIMENSION)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def vector_of(text: str) -> Vector:
    return unit(int(text_hash(text)[:8], 16))


def put(database: Database, name: str, texts: Sequence[str], metadata: Mapping[str, Any] | None = None) -> str:
    """Make a document with these chunks, as the stages before the store leave it; returns its id."""
    doc_id = document_id("c", name.encode())
    with database.transaction() as connection:
        connection.execute("INSERT INTO collection VALUES ('c') ON CONFLICT DO NOTHING")
        connection.execute("DELETE FROM source_file WHERE doc_id = %s", (doc_id,))
        connection.execute("DELETE FROM chunked WHERE doc_id = %s", (doc_id,))
        connection.execute(
            "INSERT INTO source_file VALUES (%s, 'c', %s, %s, %s, 1, 1, 'h', 'parsed', NULL, 'p')",
            (doc_id, bucket_of(doc_id), name.encode(), name),
        )
        connection.execute(
            "INSERT INTO document VALUES (%s, 'c', %s, 'h', 'p', %s, '[]', %s, 'b', 'd')",
            (doc_id, bucket_of(doc_id), f"Title of {name}", Jsonb(dict(metadata or {}))),
        )
        connection.execute("INSERT INTO chunked VALUES (%s, %s, 'c', %s, 'd')", (CHUNKER, doc_id, bucket_of(doc_id)))
        for position, text in enumerate(texts):
            connection.execute(
                "INSERT INTO chunk VALUES (%s, %s, %s, %s, %s, %s, '', 0, 9, '[]', NULL, '[]', 5)",
                (CHUNKER, chunk_id(doc_id, text_hash(text), 0), doc_id, position, text_hash(text), text),
            )
            connection.execute(
                "INSERT INTO embedding VALUES (%s, %s, %s) ON CONFLICT DO NOTHING",
                (EMBEDDER, text_hash(text), vector_of(text)),
            )
    return doc_id


def apply(database: Database, generation: Generation, *doc_ids: str) -> Applied:
    with database.transaction() as connection:
        return pgvector.apply(connection, generation, doc_ids)


def rows(database: Database, generation: Generation) -> dict[str, tuple[Any, ...]]:
    """Text -> (document, place of the row on disk, vector), of every row."""
    with database.transaction() as connection:
        found = connection.execute(
            "SELECT text, payload ->> 'document', ctid, embedding FROM index_entry WHERE generation_id = %s",
            (generation.id,),
        ).fetchall()
    return {row[0]: (row[1], row[2], tuple(row[3].to_numpy())) for row in found}


def fill(database: Database, generation: Generation, vectors: npt.NDArray[np.float32], payload: Any) -> None:
    """Many rows without the stages before; ``payload(number)`` is a row's metadata."""
    with database.transaction() as connection:
        name = f"index_entry_g{generation.id}"
        columns = "generation_id, chunk_id, doc_id, text_hash, text, payload, embedding"
        with connection.cursor().copy(f"COPY {name} ({columns}) FROM STDIN (FORMAT BINARY)") as copy:
            copy.set_types(["int8", "text", "text", "text", "text", "jsonb", "halfvec"])
            for number, vector in enumerate(vectors):
                text = f"{number:06d}"
                copy.write_row(
                    (generation.id, text, text, text, text, Jsonb(payload(number)), HalfVector(vector.tolist()))
                )


def random_units(count: int, seed: int = 1) -> npt.NDArray[np.float32]:
    vectors = np.random.default_rng(seed).standard_normal((count, DIMENSION))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def force_index(connection: psycopg.Connection[Any]) -> None:
    """These tables are so small that the planner would rather read them whole; what is tested is the index."""
    connection.execute("SET LOCAL enable_seqscan = off")
    # As if the table were that much larger than what an index scan is allowed to look at.
    connection.execute("SET LOCAL hnsw.max_scan_tuples = 500")


def search(database: Database, generation: Generation, vector: Vector, k: int, **options: Any) -> list[pgvector.Row]:
    with database.transaction(snapshot=True) as connection:
        if not options.get("exact"):
            force_index(connection)
        return pgvector.search(connection, generation, vector, k, **options)


def build(database: Database, generation: Generation) -> bool:
    with database.transaction() as connection:
        return pgvector.build_index(connection, generation, IndexSettings())


def plan_of(database: Database, generation: Generation, vector: Vector, **options: Any) -> str:
    """How the server runs a search, under the settings that ``search`` leaves in its transaction."""
    with database.transaction(snapshot=True) as connection:
        if not options.get("exact"):
            force_index(connection)
        pgvector.search(connection, generation, vector, 3, **options)
        found = connection.execute(
            f"EXPLAIN SELECT chunk_id FROM index_entry_g{generation.id}"
            f" ORDER BY (embedding::halfvec({DIMENSION})) <=> %s LIMIT 3",
            (HalfVector(vector),),
        ).fetchall()
    return "\n".join(row[0] for row in found)


# --- apply -------------------------------------------------------------------------------------------------------


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
    (found,) = search(database, generation, vector_of("one"), 1, filters={"author": "Bob"})
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
            f"INSERT INTO index_entry_g{generation.id} VALUES (%s, 'c', 'd', 't', 'text', '{{}}', %s::halfvec)",
            (generation.id, vector),
        )


@pytest.mark.parametrize("vector", ["[0,0,0,0,0,0,0,0]", "[2,0,0,0,0,0,0,0]", "[NaN,0,0,0,0,0,0,0]"])
def test_the_cache_of_vectors_refuses_one_that_is_not_of_unit_length(database: Database, vector: str) -> None:
    with pytest.raises((psycopg.errors.CheckViolation, psycopg.DataError)), database.transaction() as connection:
        connection.execute("INSERT INTO embedding VALUES ('e', 't', %s::vector)", (vector,))


def test_a_row_of_another_generation_does_not_fit_into_the_table(database: Database, generation: Generation) -> None:
    with pytest.raises(psycopg.errors.CheckViolation), database.transaction() as connection:
        connection.execute(
            f"INSERT INTO index_entry_g{generation.id} VALUES (%s, 'c', 'd', 't', 'x', '{{}}', %s::halfvec)",
            (generation.id + 1, HalfVector(unit(1))),
        )


# --- search ------------------------------------------------------------------------------------------------------


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


def payload(number: int) -> dict[str, Any]:
    return {"language": "de" if number % 2 else "en", "tags": ["a", "b"] if number % 10 == 0 else ["c"], "page": number}


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


# --- the index and its generations -------------------------------------------------------------------------------


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
