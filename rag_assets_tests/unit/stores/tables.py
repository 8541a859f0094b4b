"""A generation's table in tests: documents as the stages before leave them, many rows at once, searches, plans."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import psycopg
from pgvector import HalfVector
from psycopg.types.json import Jsonb

from rag_assets.database import generations
from rag_assets.database.generations import Generation, GenerationKey
from rag_assets.database.pool import Database
from rag_assets.fingerprint import bucket_of, chunk_id, document_id, text_hash
from rag_assets.retrieval.filters import parse_filters
from rag_assets.settings import IndexSettings
from rag_assets.stores import filtered, pgvector
from rag_assets.stores.pgvector import Applied
from rag_assets.stores.postgres import PostgresSearcher

DIMENSION = 8
CHUNKER, EMBEDDER = "chunker", "embedder"
Vector = npt.NDArray[np.float32]


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
        columns = "generation_id, chunk_id, doc_id, text_hash, text, payload, embedding, embedder_fp"
        with connection.cursor().copy(f"COPY {name} ({columns}) FROM STDIN (FORMAT BINARY)") as copy:
            copy.set_types(["int8", "text", "text", "text", "text", "jsonb", "halfvec", "text"])
            for number, vector in enumerate(vectors):
                text = f"{number:06d}"
                copy.write_row(
                    (
                        generation.id,
                        text,
                        text,
                        text,
                        text,
                        Jsonb(payload(number)),
                        HalfVector(vector.tolist()),
                        EMBEDDER,
                    )
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
        searcher = PostgresSearcher(connection, generation)
        found = searcher.nearest(vector, k, **options).found
        rows = searcher.fetch(list(found), vector)
        return [rows[chunk_id] for chunk_id in found]


def search_filtered(
    database: Database, generation: Generation, vector: Vector, k: int, *filters: str, **options: Any
) -> tuple[list[str], filtered.Plan]:
    """(ids of the rows a filtered search finds, in order; the way it took)."""
    with database.transaction(snapshot=True) as connection:
        force_index(connection)
        found, _, plan = filtered.find(connection, generation, vector, k, parse_filters(filters), **options)
        return list(found), plan


def build(database: Database, generation: Generation) -> bool:
    with database.transaction() as connection:
        return pgvector.build_index(connection, generation, IndexSettings())


def plan_of(database: Database, generation: Generation, vector: Vector, **options: Any) -> str:
    """How the server runs a search, under the settings that ``search`` leaves in its transaction."""
    with database.transaction(snapshot=True) as connection:
        if not options.get("exact"):
            force_index(connection)
        PostgresSearcher(connection, generation).nearest(vector, 3, **options)
        found = connection.execute(
            f"EXPLAIN SELECT chunk_id FROM index_entry_g{generation.id}"
            f" ORDER BY (embedding::halfvec({DIMENSION})) <=> %s LIMIT 3",
            (HalfVector(vector),),
        ).fetchall()
    return "\n".join(row[0] for row in found)


def payload(number: int) -> dict[str, Any]:
    return {"language": "de" if number % 2 else "en", "tags": ["a", "b"] if number % 10 == 0 else ["c"], "page": number}
