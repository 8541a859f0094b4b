"""One pooled connection to the project's PostgreSQL, embedded or not."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg_pool import ConnectionPool, PoolTimeout

from rag_assets.database.embedded import embedded
from rag_assets.database.migrate import SCHEMA, migrate
from rag_assets.errors import ConfigurationError, RagAssetsError
from rag_assets.settings import Settings

CONNECT_SECONDS = 10
POOL_SIZE = 10
POOL_WAITING = 100


def database_url(settings: Settings, report: Callable[[str], None] | None = None) -> str:
    """The libpq URL of the database: ``RAG_POSTGRES_URL``, else the embedded server, started if need be."""
    if settings.postgres_url:
        if urlsplit(settings.postgres_url).scheme not in ("postgresql", "postgres"):
            raise ConfigurationError("RAG_POSTGRES_URL must look like postgresql://user:password@host:5432/database.")
        return settings.postgres_url
    server = embedded(settings.home)
    if report is not None:
        server.report = report
    return server.acquire()


class Database:
    """A pool of connections whose ``search_path`` is the project's schema, migrated on first use."""

    def __init__(self, url: str, *, name: str = "rag-assets") -> None:
        self.url = url
        self._conninfo = _conninfo(url, name)
        self._check()
        self.pool: ConnectionPool[psycopg.Connection[Any]] = ConnectionPool(
            self._conninfo,
            min_size=1,
            max_size=POOL_SIZE,
            max_waiting=POOL_WAITING,
            max_lifetime=3600,
            timeout=CONNECT_SECONDS,
            configure=_configure,
            check=ConnectionPool.check_connection,
            open=True,
        )

    def _check(self) -> None:
        try:
            with psycopg.connect(self._conninfo) as connection:
                migrate(connection)
        except psycopg.OperationalError as error:
            parts = conninfo_to_dict(self.url)
            where = f"{parts.get('host') or 'localhost'}:{parts.get('port') or 5432}, database {parts.get('dbname')!r},"
            raise RagAssetsError(
                f"PostgreSQL at {where} can't be reached: {str(error).strip()} "
                "Check that it runs, or unset RAG_POSTGRES_URL to use the embedded one."
            ) from None

    @contextmanager
    def transaction(self, *, snapshot: bool = False) -> Iterator[psycopg.Connection[Any]]:
        """One transaction on a pooled connection; with ``snapshot`` read-only and repeatable-read."""
        try:
            with self.pool.connection() as connection, connection.transaction():
                if snapshot:
                    connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
                yield connection
        except PoolTimeout:
            raise RagAssetsError(f"No database connection became free within {CONNECT_SECONDS} s.") from None

    def close(self) -> None:
        """Close every pooled connection."""
        self.pool.close()


def _conninfo(url: str, name: str) -> str:
    return make_conninfo(url, application_name=name, connect_timeout=CONNECT_SECONDS)


def _configure(connection: psycopg.Connection[Any]) -> None:
    from pgvector.psycopg import register_vector

    connection.execute(sql.SQL("SET search_path = {}, public").format(sql.Identifier(SCHEMA)))
    register_vector(connection)
    connection.commit()
