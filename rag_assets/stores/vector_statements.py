"""Statements that read a generation's rows and graph, sent without waiting where the connection is in a pipeline.

Their text is made once per generation: composing it anew costs a search as much as two round trips.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, LiteralString

import psycopg
from pgvector import HalfVector
from psycopg import sql

from rag_assets.database.generations import Generation
from rag_assets.stores.protocol import Connection

_KEPT = 256
"""Texts of statements in memory."""
Answer = psycopg.Cursor[Any]


def set_beam(connection: Connection, k: int, ef_search: int, *, exact: bool = False) -> None:
    """Set what :func:`nearest` goes by, for the rest of the transaction."""
    connection.execute(
        "SELECT set_config('enable_indexscan', %s, true), set_config('hnsw.ef_search', %s, true),"
        " set_config('hnsw.iterative_scan', 'strict_order', true)",
        ("off" if exact else "on", str(_beam(k, ef_search))),
    )


def _beam(k: int, ef_search: int) -> int:
    return min(1000, max(k, ef_search))


def nearest(connection: Connection, generation: Generation, vector: HalfVector, k: int) -> Answer:
    """(chunk id, cosine similarity) of the ``k`` rows the graph finds nearest, nearest first."""
    statement = _nearest(generation.id, generation.dimension, k, "chunk_id")
    return connection.execute(statement, {"vector": vector}, binary=True)


def nearest_rows(connection: Connection, generation: Generation, vector: HalfVector, k: int) -> Answer:
    """The same with whole rows: (chunk id, document id, text, payload, cosine similarity)."""
    statement = _nearest(generation.id, generation.dimension, k, "chunk_id, doc_id, text, payload")
    return connection.execute(statement, {"vector": vector}, binary=True)


def keep_beam(connection: Connection, k: int, ef_search: int) -> None:
    """Set what :func:`nearest_if_live` goes by, and is planned by, for as long as the connection lasts; call outside a transaction."""
    connection.execute(
        "SELECT set_config('hnsw.ef_search', %s, false), set_config('hnsw.iterative_scan', 'strict_order', false)",
        (str(_beam(k, ef_search)),),
    )


def nearest_if_live(connection: Connection, generation: Generation, vector: HalfVector, k: int) -> Answer:
    """As :func:`nearest_rows`, in one statement, which is a snapshot by itself; nothing is found, if the generation as it is here is
    not the one that is live."""
    asked = {
        "vector": vector,
        "collection": generation.collection,
        "id": generation.id,
        "embedder_fp": generation.key.embedder_fp,
        "created_at": generation.created_at,
        "beam": generation.beam,
    }
    return connection.execute(_nearest_if_live(generation.id, generation.dimension, k), asked, binary=True)


def similarities(
    connection: Connection, generation: Generation, chunk_ids: Sequence[str], vector: HalfVector
) -> Answer:
    """(chunk id, cosine similarity) of rows named by id, in any order."""
    return connection.execute(_similarities(generation.id), (vector, generation.id, list(chunk_ids)), binary=True)


def rows(connection: Connection, generation: Generation, chunk_ids: Sequence[str], vector: HalfVector | None) -> Answer:
    """(chunk id, document id, text, payload, cosine similarity or nan) of rows named by id, in any order."""
    parameters = {"id": generation.id, "ids": list(chunk_ids), "vector": vector}
    return connection.execute(_rows(generation.id, vector is not None), parameters, binary=True)


def table(generation_id: int) -> sql.Identifier:
    """The partition that holds a generation."""
    return sql.Identifier(f"index_entry_g{generation_id}")


@lru_cache(_KEPT)
def _nearest(
    generation_id: int, dimension: int, k: int, columns: LiteralString, condition: LiteralString = "true"
) -> bytes:
    # The number of rows is part of the text: the plan that the server keeps for any number would be one for many.
    column = sql.SQL(f"(embedding::halfvec({dimension:d}))")
    return (
        sql.SQL(
            "SELECT {columns}, 1 - ({column} <=> %(vector)s) FROM {table} WHERE {condition}"
            " ORDER BY {column} <=> %(vector)s LIMIT {k}"
        )
        .format(
            columns=sql.SQL(columns),
            column=column,
            table=table(generation_id),
            condition=sql.SQL(condition),
            k=sql.Literal(k),
        )
        .as_bytes()
    )


@lru_cache(_KEPT)
def _nearest_if_live(generation_id: int, dimension: int, k: int) -> bytes:
    found = _nearest(generation_id, dimension, k, "chunk_id, doc_id, text, payload", "is_live")
    return b"".join([_IF_LIVE, b" CROSS JOIN LATERAL (", found, b") found"])


_IF_LIVE = b"""
SELECT found.* FROM (
    SELECT live.id = %(id)s AND live.embedder_fp = %(embedder_fp)s AND live.created_at = %(created_at)s
        AND live.beam IS NOT DISTINCT FROM %(beam)s::int AS is_live
    FROM collection JOIN generation live ON live.id = live_generation WHERE name = %(collection)s
    OFFSET 0
) seen"""
"""The graph is walked only where this is true: OFFSET keeps the planner from looking into it, LATERAL from walking the graph first."""


@lru_cache(_KEPT)
def _similarities(generation_id: int) -> bytes:
    # The key's first column is named, too: releases before 18 find nothing by the second alone.
    statement = sql.SQL(
        "SELECT chunk_id, 1 - (embedding <=> %s) FROM {} WHERE generation_id = %s AND chunk_id = ANY(%s)"
    )
    return statement.format(table(generation_id)).as_bytes()


@lru_cache(_KEPT)
def _rows(generation_id: int, compared: bool) -> bytes:
    similarity = sql.SQL("1 - (embedding <=> %(vector)s)") if compared else sql.SQL("'nan'::float8")
    return (
        sql.SQL(
            "SELECT chunk_id, doc_id, text, payload, {} FROM {} WHERE generation_id = %(id)s AND chunk_id = ANY(%(ids)s)"
        )
        .format(similarity, table(generation_id))
        .as_bytes()
    )
