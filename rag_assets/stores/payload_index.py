"""The indexes that filters find rows by: of every field and value (hashed, so of any length), and of how a document's name begins."""

from typing import Any

import psycopg
from psycopg import sql

from rag_assets.database.generations import Generation
from rag_assets.stores.conditions import DOCUMENT_CHARACTERS

# New entries wait in a list that every filtered search reads, so it is kept short: 512 kB cost a search less than 1 ms, and writers
# a tenth to a fifth of what a row costs them in the graph; without the list it is as much again.
_PAYLOAD = sql.SQL(
    "CREATE INDEX {name} ON {table} USING gin (payload jsonb_path_ops)"
    " WITH (fastupdate = on, gin_pending_list_limit = 512)"
)
_DOCUMENT = sql.SQL("CREATE INDEX {name} ON {table} (left(payload ->> 'document', {characters}) text_pattern_ops)")


def build(connection: psycopg.Connection[Any], generation: Generation) -> None:
    """Build them if the generation has none: it is loaded without them, and one of an earlier release has none yet."""
    if exists(connection, generation):
        return
    table = sql.Identifier(f"index_entry_g{generation.id}")
    connection.execute(sql.SQL("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE").format(table))
    if exists(connection, generation):
        return
    connection.execute("SET LOCAL maintenance_work_mem = '512MB'")
    characters = sql.Literal(DOCUMENT_CHARACTERS)
    connection.execute(_DOCUMENT.format(name=_name(generation, "document"), table=table, characters=characters))
    connection.execute(_PAYLOAD.format(name=_name(generation, "payload"), table=table))


def exists(connection: psycopg.Connection[Any], generation: Generation) -> bool:
    """Whether the generation has them."""
    found = connection.execute(
        "SELECT to_regclass(%s) IS NOT NULL", (f"rag.index_entry_g{generation.id}_payload",)
    ).fetchone()
    return bool(found and found[0])


def _name(generation: Generation, of: str) -> sql.Identifier:
    return sql.Identifier(f"index_entry_g{generation.id}_{of}")
