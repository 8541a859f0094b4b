"""Numbered migrations: ``migrations/NNNN_name.sql``, applied in order, each once, in one transaction."""

from importlib import resources

import psycopg
from psycopg import sql

from rag_assets.errors import RagAssetsError

SCHEMA = "rag"
_LOCK = 0x7261675F  # "rag_": advisory lock key, so that two processes never migrate at once
MINIMUM_POSTGRES = 140000
MINIMUM_PGVECTOR = (0, 8, 4)
"""Earlier releases have known faults in the HNSW build and vacuum (CVE-2026-3172 and the fixes of 0.8.3 and 0.8.4)."""


def migrations() -> list[tuple[int, str, str]]:
    """All migrations as (number, name, SQL), in order."""
    folder = resources.files("rag_assets.database") / "migrations"
    found = []
    for item in folder.iterdir():
        if item.name.endswith(".sql"):
            found.append((int(item.name[:4]), item.name, item.read_text(encoding="utf-8")))
    return sorted(found)


def migrate(connection: psycopg.Connection) -> list[str]:
    """Bring the schema up to date; returns the names of the migrations applied now.

    Raises:
        RagAssetsError: the server or pgvector is too old, the extension is missing and can't be made, or the
            database was migrated by a newer release.
    """
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
        connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(SCHEMA)))
        connection.execute(sql.SQL("SET LOCAL search_path = {}, public").format(sql.Identifier(SCHEMA)))
        connection.execute("CREATE TABLE IF NOT EXISTS migration (number int PRIMARY KEY, name text NOT NULL)")
        done = {row[0] for row in connection.execute("SELECT number FROM migration").fetchall()}
        known = migrations()
        unknown = done - {number for number, _, _ in known}
        if unknown:
            raise RagAssetsError(
                f"The database has migration {max(unknown)}, which this release does not know. "
                "It was used with a newer release: install that one, or point RAG_HOME elsewhere."
            )
        applied = []
        for number, name, statements in known:
            if number not in done:
                _check_server(connection)
                connection.execute(statements.encode("utf-8"))
                connection.execute("INSERT INTO migration VALUES (%s, %s)", (number, name))
                applied.append(name)
        return applied


def _check_server(connection: psycopg.Connection) -> None:
    if connection.info.server_version < MINIMUM_POSTGRES:
        raise RagAssetsError(f"PostgreSQL {connection.info.server_version // 10000} is too old; 14 or later is needed.")
    row = connection.execute("SELECT default_version FROM pg_available_extensions WHERE name = 'vector'").fetchone()
    if row is None:
        raise RagAssetsError("The PostgreSQL server has no pgvector extension. Install pgvector 0.8.4 or later on it.")
    version = tuple(int(part) for part in row[0].split("."))
    if version < MINIMUM_PGVECTOR:
        raise RagAssetsError(f"pgvector {row[0]} is too old; 0.8.4 or later is needed (older ones lose index entries).")
