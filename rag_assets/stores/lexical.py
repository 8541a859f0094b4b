"""The lexical index of a generation: what follows its rows, and what answers from it.

Every function that writes is called in the transaction that writes the rows, so that both are there or neither is.
"""

from collections.abc import Sequence

import numpy as np
from psycopg import sql

from rag_assets.database.generations import Generation
from rag_assets.failpoints import failpoint
from rag_assets.stores.analysis import analyzer_fingerprint
from rag_assets.stores.lexical_codec import TOMBSTONE
from rag_assets.stores.lexical_compaction import compact, optimise
from rag_assets.stores.lexical_search import search
from rag_assets.stores.lexical_segments import (
    Connection,
    dead_rows,
    index,
    locate,
    lock_alone,
    lock_shared,
    read_segments,
    replace,
    settings_of,
    table,
)
from rag_assets.stores.protocol import Match

__all__ = [
    "Match",
    "apply",
    "compact",
    "create",
    "drop",
    "forget",
    "optimise",
    "rebuild",
    "search",
    "settings_of",
]


def create(connection: Connection, generation: Generation) -> None:
    """Make the generation's table if it is not there."""
    if settings_of(generation) is not None:
        connection.execute(
            sql.SQL("CREATE TABLE IF NOT EXISTS {} (LIKE lexical_posting INCLUDING ALL)").format(table(generation))
        )


def drop(connection: Connection, generation: Generation) -> None:
    """Delete the generation's lexical index."""
    connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(table(generation)))
    connection.execute("DELETE FROM lexical_segment WHERE generation_id = %s", (generation.id,))


def apply(connection: Connection, generation: Generation, added: Sequence[str], removed: Sequence[str]) -> None:
    """Follow a change of the generation's rows (chunk ids), which is already written in this transaction; :func:`compact`
    belongs into one of its own, for other writers wait for it.

    Writes in proportion to the change; reads 16 bytes for every row there is when any is removed. An index whose texts were
    analysed by another version is made again.
    """
    settings = settings_of(generation)
    if settings is None or not (added or removed):
        return
    if _analyzers(connection, generation) - {analyzer_fingerprint(settings)}:
        rebuild(connection, generation)
        return
    lock_shared(connection, generation)
    gone = locate(connection, generation, [*removed, *added])
    index(connection, generation, settings, added, gone)
    failpoint("lexical.written")


def rebuild(connection: Connection, generation: Generation) -> None:
    """Make the generation's lexical index again from its rows; readers see the old one until the transaction ends."""
    settings = settings_of(generation)
    if settings is None:
        return
    lock_alone(connection, generation)
    connection.execute("DELETE FROM lexical_segment WHERE generation_id = %s", (generation.id,))
    connection.execute(sql.SQL("DELETE FROM {}").format(table(generation)))
    chunk_ids = connection.execute(
        "SELECT chunk_id FROM index_entry WHERE generation_id = %s ORDER BY chunk_id", (generation.id,)
    ).fetchall()
    index(connection, generation, settings, [row[0] for row in chunk_ids], np.empty(0, TOMBSTONE))
    failpoint("lexical.rebuilt")


def forget(connection: Connection, generation: Generation, chunk_ids: Sequence[str]) -> None:
    """Delete rows so that no term of theirs, nor of any row that was deleted before, is left in a posting list."""
    if settings_of(generation) is None:
        return
    lock_alone(connection, generation)
    gone = locate(connection, generation, chunk_ids)
    segments = read_segments(connection, generation)
    dead = dead_rows(segments, gone)
    for segment in segments:
        if segment.id in dead:
            replace(connection, generation, [segment], dead)


def _analyzers(connection: Connection, generation: Generation) -> set[str]:
    rows = connection.execute(
        "SELECT DISTINCT analyzer FROM lexical_segment WHERE generation_id = %s", (generation.id,)
    ).fetchall()
    return {row[0] for row in rows}
