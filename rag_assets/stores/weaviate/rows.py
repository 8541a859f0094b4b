"""What PostgreSQL holds for the mirror: the wanted rows, and which of them the server may have otherwise."""

from collections.abc import Iterator, Sequence

import numpy as np
from psycopg import sql

from rag_assets.database.generations import Generation
from rag_assets.stores import pgvector
from rag_assets.stores.protocol import Connection
from rag_assets.stores.weaviate.objects import Entry

LOCK = 0x776561  # "wea": class of the advisory locks, whose key is the generation


def lock(connection: Connection, generation: Generation, *, seconds: float) -> None:
    """One sender for each generation, so that an older state never overwrites a newer one; until the transaction ends.

    ``seconds``: the longest the transaction may be silent while the server is waited for. A sender that is frozen for longer
    loses the lock; what it then still sends is found, and put right, by :func:`mirror.compare`.
    """
    connection.execute(
        "SELECT set_config('idle_in_transaction_session_timeout', %s, true)", (f"{int(seconds * 1000)}ms",)
    )
    connection.execute("SELECT pg_advisory_xact_lock(%s, %s)", (LOCK, generation.id))


def note(connection: Connection, generation: Generation, chunk_ids: Sequence[str]) -> None:
    """The server may have these rows otherwise from the end of this transaction on."""
    if chunk_ids:
        connection.execute(
            "INSERT INTO store_outbox (generation_id, chunk_id) SELECT %s, id FROM unnest(%s::text[]) AS id"
            " ORDER BY id ON CONFLICT (generation_id, chunk_id) DO UPDATE SET version = DEFAULT",
            (generation.id, sorted(set(chunk_ids))),
        )


def note_all(connection: Connection, generation: Generation) -> None:
    """The server may have every row otherwise."""
    connection.execute(
        sql.SQL(
            "INSERT INTO store_outbox (generation_id, chunk_id) SELECT %s, chunk_id FROM {}"
            " ON CONFLICT (generation_id, chunk_id) DO UPDATE SET version = DEFAULT"
        ).format(pgvector.table(generation)),
        (generation.id,),
    )


def noted(connection: Connection, generation: Generation, after: str, limit: int) -> dict[str, int]:
    """The first noted rows after a chunk id, in their order, and the version of the change."""
    return dict(
        connection.execute(
            "SELECT chunk_id, version FROM store_outbox WHERE generation_id = %s AND chunk_id > %s ORDER BY chunk_id LIMIT %s",
            (generation.id, after, limit),
        ).fetchall()
    )


def done(connection: Connection, generation: Generation, sent: dict[str, int]) -> None:
    """The server confirmed these changes; a later change of the same row stays noted."""
    connection.execute(
        # Locked in the order in which writers note them: neither waits for the other in turn.
        """
        WITH confirmed AS MATERIALIZED (
            SELECT o.chunk_id, o.version FROM store_outbox o
            JOIN unnest(%(ids)s::text[], %(versions)s::bigint[]) AS sent (chunk_id, version) USING (chunk_id, version)
            WHERE o.generation_id = %(generation)s ORDER BY o.chunk_id FOR UPDATE OF o)
        DELETE FROM store_outbox o USING confirmed c
        WHERE o.generation_id = %(generation)s AND o.chunk_id = c.chunk_id AND o.version = c.version
        """,
        {"ids": list(sent), "versions": list(sent.values()), "generation": generation.id},
    )


def count_noted(connection: Connection, generation: Generation) -> int:
    """Rows the server may have otherwise."""
    row = connection.execute("SELECT count(*) FROM store_outbox WHERE generation_id = %s", (generation.id,)).fetchone()
    return int(row[0]) if row else 0


def read(connection: Connection, generation: Generation, chunk_ids: Sequence[str]) -> dict[str, Entry]:
    """The wanted rows of these ids; one that is not wanted is left out."""
    rows = connection.execute(
        sql.SQL(
            "SELECT chunk_id, doc_id, text_hash, text, payload, embedding FROM {} WHERE generation_id = %s AND chunk_id = ANY(%s)"
        ).format(pgvector.table(generation)),
        (generation.id, list(chunk_ids)),
        binary=True,
    ).fetchall()
    return {
        row[0]: Entry(row[0], row[1], row[2], row[3], row[4], np.asarray(row[5].to_numpy(), dtype=np.float32))
        for row in rows
    }


def all_ids(connection: Connection, generation: Generation) -> Iterator[str]:
    """Chunk ids of every wanted row."""
    with connection.cursor(name="wanted_rows") as cursor:
        cursor.itersize = 10_000
        cursor.execute(sql.SQL("SELECT chunk_id FROM {}").format(pgvector.table(generation)))
        for row in cursor:
            yield row[0]


def sample(connection: Connection, generation: Generation, limit: int) -> dict[str, Entry]:
    """Always the same rows while they are there: chunk ids are hashes, so their order is random."""
    ids = connection.execute(
        sql.SQL("SELECT chunk_id FROM {} ORDER BY chunk_id LIMIT %s").format(pgvector.table(generation)), (limit,)
    ).fetchall()
    return read(connection, generation, [row[0] for row in ids])


def installation(connection: Connection) -> str:
    """Whose names on a shared server these are."""
    row = connection.execute("SELECT id FROM installation").fetchone()
    assert row is not None
    return str(row[0])
