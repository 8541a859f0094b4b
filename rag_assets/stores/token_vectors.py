"""Token vectors of texts, where an index keeps them. Addressed by content like the vectors of whole texts, which they go with."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import psycopg
from psycopg import sql

from rag_assets.database.generations import Generation
from rag_assets.stores import pgvector

Connection = psycopg.Connection[Any]


def are_kept(generation: Generation) -> bool:
    """True when the index was made to have them."""
    return bool(generation.config.get("index", {}).get("token_vectors"))


def read(connection: Connection, generation: Generation, chunk_ids: Sequence[str]) -> dict[str, bytes]:
    """Chunk id -> quantised token vectors of its text, of those that have them."""
    statement = sql.SQL(
        "SELECT e.chunk_id, t.vectors FROM {} e JOIN token_vectors t ON t.embedder_fp = %s AND t.text_hash = e.text_hash"
        " WHERE e.generation_id = %s AND e.chunk_id = ANY(%s)"
    ).format(pgvector.table(generation))
    parameters = (generation.key.embedder_fp, generation.id, list(chunk_ids))
    return dict(connection.execute(statement, parameters, binary=True).fetchall())


def write(connection: Connection, embedder_fp: str, vectors: Mapping[str, bytes]) -> None:
    """Keep them by text hash; not those of a text that has lost its vector meanwhile, for it was forgotten."""
    held = connection.execute(
        "SELECT text_hash FROM embedding WHERE embedder_fp = %s AND text_hash = ANY(%s) ORDER BY text_hash FOR KEY SHARE",
        (embedder_fp, list(vectors)),
    ).fetchall()
    rows: Iterable[tuple[str, str, bytes]] = ((embedder_fp, digest, vectors[digest]) for (digest,) in held)
    with connection.cursor() as cursor:
        cursor.executemany("INSERT INTO token_vectors VALUES (%s, %s, %s) ON CONFLICT DO NOTHING", rows)
