"""Has anything been written since? What was found out about rows holds for as long as they are sealed as they were.

A seal is made of the place and the writing transaction of every row, so that no insert, update or delete, whoever makes it,
leaves it as it was; it costs a scan of the tables, a hundredth of what looking every row up in the graph does.
"""

import time
from collections.abc import Callable
from threading import Lock
from typing import Any, TypeVar

from psycopg import sql

from rag_assets.database.generations import Generation
from rag_assets.stores.lexical_segments import settings_of
from rag_assets.stores.lexical_segments import table as postings_table
from rag_assets.stores.pgvector import table
from rag_assets.stores.protocol import Connection

_T = TypeVar("_T")
FRESH_SECONDS = 600.0
"""What was found longer ago is looked for again: a disk may damage what nobody wrote."""

_ROWS = sql.SQL(
    "SELECT count(*), coalesce(sum(hashtextextended(ctid::text || ' ' || xmin::text, 0)), 0)::text FROM {} WHERE {}"
)


def graph_seal(connection: Connection, generation: Generation) -> tuple[Any, ...]:
    """Of the rows that have vectors, and of the file that holds their graph.

    Vacuum repairs the graph around rows that went, within :data:`FRESH_SECONDS` unseen: the rows that went were seen to go.
    """
    file = connection.execute(
        "SELECT pg_relation_filenode(to_regclass(%s))", (f"rag.index_entry_g{generation.id}_hnsw",)
    ).fetchone()
    return (*_rows(connection, table(generation)), *(file or ()))


def words_seal(connection: Connection, generation: Generation) -> tuple[Any, ...]:
    """Of the rows, of their posting lists, and of the chunks whose context is indexed with them."""
    if settings_of(generation) is None:
        return ()
    return (
        *_rows(connection, table(generation)),
        *_rows(connection, postings_table(generation)),
        *_rows(connection, sql.Identifier("lexical_segment"), "generation_id", generation.id),
        *_rows(connection, sql.Identifier("chunk"), "chunker_fp", generation.key.chunker_fp),
    )


def _rows(connection: Connection, name: sql.Identifier, column: str | None = None, value: Any = None) -> Any:
    where = sql.SQL("{} = %s").format(sql.Identifier(column)) if column else sql.SQL("true")
    return connection.execute(_ROWS.format(name, where), (value,) if column else ()).fetchone()


class Findings:
    """What was found out in this process, by what it is of. Thread-safe."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, int], tuple[tuple[Any, ...], float, Any]] = {}
        self._lock = Lock()

    def of(
        self,
        look: Callable[[Connection, Generation], _T],
        connection: Connection,
        generation: Generation,
        seal: Callable[[Connection, Generation], tuple[Any, ...]],
    ) -> _T:
        """What ``look`` finds, or found a short while ago under the same seal; both see one snapshot."""
        key, sealed = (seal.__name__, generation.id), seal(connection, generation)
        with self._lock:
            before = self._found.get(key)
        if before is not None and before[0] == sealed and time.monotonic() - before[1] < FRESH_SECONDS:
            found: _T = before[2]
            return found
        found = look(connection, generation)
        with self._lock:
            self._found[key] = (sealed, time.monotonic(), found)
        return found
