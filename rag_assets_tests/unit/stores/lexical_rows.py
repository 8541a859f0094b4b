"""A generation's rows and their lexical index, without the stages before: what the tests of lexical search work on."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from psycopg import sql
from psycopg.types.json import Jsonb

from rag_assets.database import generations
from rag_assets.database.generations import Generation, GenerationKey
from rag_assets.database.pool import Database
from rag_assets.fingerprint import hash_parts
from rag_assets.stores import lexical, lexical_integrity, pgvector
from rag_assets.stores.lexical import Match
from rag_assets.stores.pgvector import Connection

DIMENSION = 4


def begin(database: Database, **lexical_settings: Any) -> Generation:
    """An empty generation with a lexical index."""
    config = {"lexical": {"language": "auto", "stop_words": True, **lexical_settings}}
    with database.transaction() as connection:
        key = GenerationKey("chunker", "embedder", hash_parts([str(config)]))
        made = generations.create(connection, "c", key, config, DIMENSION)
        pgvector.create(connection, made)
        lexical.create(connection, made)
        return made


def id_of(name: str) -> str:
    return hash_parts([name])


def insert(
    connection: Connection, generation: Generation, texts: Mapping[str, str], payload: Mapping[str, Any] | None = None
) -> list[str]:
    """Rows by name, without their posting lists; returns their ids."""
    vector = np.full(DIMENSION, 0.5, np.float32)
    connection.cursor().executemany(
        sql.SQL("INSERT INTO {} VALUES (%s, %s, %s, %s, %s, %s, %s::halfvec, 'embedder')").format(
            pgvector.table(generation)
        ),
        [
            (generation.id, id_of(name), f"doc {name}", id_of(text), text, Jsonb(dict(payload or {})), vector)
            for name, text in texts.items()
        ],
    )
    return [id_of(name) for name in texts]


def delete(connection: Connection, generation: Generation, names: Iterable[str]) -> list[str]:
    ids = [id_of(name) for name in names]
    connection.execute(sql.SQL("DELETE FROM {} WHERE chunk_id = ANY(%s)").format(pgvector.table(generation)), (ids,))
    return ids


def put(database: Database, generation: Generation, texts: Mapping[str, str], **payload: Any) -> None:
    """Add rows, as one shard's transaction does."""
    with database.transaction() as connection:
        lexical.apply(connection, generation, insert(connection, generation, texts, payload), [])
    compact(database, generation)


def remove(database: Database, generation: Generation, names: Sequence[str]) -> None:
    with database.transaction() as connection:
        lexical.apply(connection, generation, [], delete(connection, generation, names))
    compact(database, generation)


def compact(database: Database, generation: Generation) -> None:
    with database.transaction() as connection:
        lexical.compact(connection, generation)


def ask(database: Database, generation: Generation, question: str, k: int = 10, **options: Any) -> list[Match]:
    with database.transaction(snapshot=True) as connection:
        return lexical.search(connection, generation, question, k, **options).matches


def faults(database: Database, generation: Generation) -> int:
    with database.transaction(snapshot=True) as connection:
        return lexical_integrity.faults(connection, generation)


def segments(database: Database, generation: Generation) -> list[tuple[int, int]]:
    """(id, rows) of every segment, oldest first."""
    with database.transaction() as connection:
        return connection.execute(
            "SELECT id, row_count FROM lexical_segment WHERE generation_id = %s ORDER BY id", (generation.id,)
        ).fetchall()


def vocabulary(database: Database, generation: Generation) -> set[str]:
    """Every term that has a posting list."""
    with database.transaction() as connection:
        rows = connection.execute(
            sql.SQL("SELECT term FROM {}").format(sql.Identifier(f"lexical_posting_g{generation.id}"))
        )
        return {row[0] for row in rows.fetchall()}
