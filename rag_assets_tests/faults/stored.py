"""What a database holds, read by plain statements in one snapshot: the other side of every comparison."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import psycopg
from pgvector.psycopg import register_vector
from psycopg import sql

from rag_assets.settings import ChunkingSettings
from rag_assets_tests.faults.oracle import Recipe, Row, canonical


@dataclass(frozen=True)
class StoredGeneration:
    """One generation and its rows."""

    id: int
    state: str
    recipe: Recipe
    key: tuple[str, str]
    """Fingerprints of chunker and embedder, as recorded."""
    dimension: int
    indexed: dict[str, str]
    """doc_id: document hash."""
    rows: tuple[tuple[str, Row], ...]
    """(chunk_id, row) of every row, duplicates included."""


@dataclass
class Stored:
    """Everything the trials compare."""

    files: dict[str, tuple[str, str, str]] = field(default_factory=dict)
    documents: dict[str, str] = field(default_factory=dict)
    chunked: dict[tuple[str, str], str] = field(default_factory=dict)
    chunks: dict[tuple[str, str], tuple[Any, ...]] = field(default_factory=dict)
    vectors: dict[tuple[str, str], bytes] = field(default_factory=dict)
    generations: dict[int, StoredGeneration] = field(default_factory=dict)
    pointer: int | None = None
    """The generation ``collection.live_generation`` names."""
    unreachable: list[str] = field(default_factory=list)
    """Rows of the live generation that its graph does not find by their own vector."""
    debris: list[str] = field(default_factory=list)
    """Invalid indexes, tables without generation, generations without table."""

    @property
    def live(self) -> StoredGeneration | None:
        return None if self.pointer is None else self.generations.get(self.pointer)


def read(url: str, *, reachability: bool = True) -> Stored:
    """Read everything of the collection ``default``."""
    with psycopg.connect(url) as connection:
        connection.execute("SET search_path = rag, public")
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        register_vector(connection)
        return _read(connection, reachability)


def _read(connection: psycopg.Connection[Any], reachability: bool) -> Stored:
    def rows(statement: str) -> list[tuple[Any, ...]]:
        return connection.execute(statement).fetchall()  # type: ignore[call-overload, no-any-return]

    found = Stored()
    found.files = {r[0]: r[1:] for r in rows("SELECT doc_id, uri, content_hash, state FROM source_file")}
    found.documents = dict(rows("SELECT doc_id, document_hash FROM document"))  # type: ignore[arg-type]
    found.chunked = {r[:2]: r[2] for r in rows("SELECT chunker_fp, doc_id, document_hash FROM chunked")}
    found.chunks = {
        r[:2]: (*r[2:9], canonical(r[9]), r[10], canonical(r[11]), r[12])
        for r in rows(
            "SELECT chunker_fp, chunk_id, doc_id, position, text_hash, text, context, start_offset, end_offset,"
            " headings, page, kinds, tokens FROM chunk"
        )
    }
    found.vectors = {
        (model, digest): vector.to_numpy().astype(np.float32).tobytes()
        for model, digest, vector in rows("SELECT embedder_fp, text_hash, vector FROM embedding")
    }
    pointer = rows("SELECT live_generation FROM collection WHERE name = 'default'")
    found.pointer = pointer[0][0] if pointer else None
    for row in rows("SELECT id, state, config, chunker_fp, embedder_fp, dimension FROM generation ORDER BY id"):
        found.generations[row[0]] = _generation(connection, row)
    found.debris = _debris(connection, found)
    if reachability and found.live is not None and not found.debris:
        found.unreachable = _unreachable(connection, found.live)
    return found


def _generation(connection: psycopg.Connection[Any], row: tuple[Any, ...]) -> StoredGeneration:
    number, state, config, chunker_fp, embedder_fp, dimension = row
    recipe = Recipe(ChunkingSettings(**config["chunking"]), config["embedder"]["model"])
    indexed = connection.execute("SELECT doc_id, document_hash FROM indexed WHERE generation_id = %s", (number,))
    entries = connection.execute(
        "SELECT chunk_id, doc_id, payload, text, text_hash, embedding FROM index_entry WHERE generation_id = %s",
        (number,),
    ).fetchall()
    stored = tuple(
        (
            chunk_id,
            Row(doc_id, payload.get("document", ""), text, digest, canonical(payload), vector.to_numpy().tobytes()),
        )
        for chunk_id, doc_id, payload, text, digest, vector in entries
    )
    key = (chunker_fp, embedder_fp)
    return StoredGeneration(number, state, recipe, key, dimension, dict(indexed.fetchall()), stored)


def _debris(connection: psycopg.Connection[Any], found: Stored) -> list[str]:
    invalid = connection.execute(
        "SELECT 'invalid index ' || indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid"
    ).fetchall()
    tables = connection.execute(
        "SELECT relname FROM pg_class WHERE relkind = 'r' AND relname ~ '^index_entry_g[0-9]+$'"
    ).fetchall()
    have = Counter(row[0] for row in tables)
    want = Counter(f"index_entry_g{number}" for number in found.generations)
    return [
        *(row[0] for row in invalid),
        *(f"table {name} without generation" for name in have - want),
        *(f"generation without table {name}" for name in want - have),
    ]


def _unreachable(connection: psycopg.Connection[Any], live: StoredGeneration) -> list[str]:
    """Each row is looked up by its own vector through the graph and nothing else."""
    connection.execute("SET LOCAL enable_seqscan = off")
    connection.execute("SET LOCAL enable_bitmapscan = off")
    connection.execute("SET LOCAL enable_sort = off")
    connection.execute("SET LOCAL hnsw.ef_search = 200")
    statement = sql.SQL(
        """
        SELECT mine.chunk_id FROM {table} mine WHERE NOT EXISTS (
            SELECT 1 FROM (SELECT near.text_hash FROM {table} near ORDER BY near.{column} <=> mine.{column} LIMIT 10) hit
            WHERE hit.text_hash = mine.text_hash)
        """
    ).format(table=sql.Identifier(f"index_entry_g{live.id}"), column=sql.SQL(f"embedding::halfvec({live.dimension})"))
    explained = connection.execute(sql.SQL("EXPLAIN ") + statement).fetchall()
    if not any("hnsw" in row[0] for row in explained):
        return ["the live generation has no graph that searches use"]
    return [row[0] for row in connection.execute(statement).fetchall()]
