"""One pooled connection to the project's PostgreSQL, embedded or not."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import psycopg
from psycopg import errors, sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg_pool import ConnectionPool, PoolTimeout

from rag_assets.database.embedded import embedded
from rag_assets.database.migrate import SCHEMA, migrate
from rag_assets.errors import ConfigurationError, DatabaseLost, RagAssetsError
from rag_assets.failpoints import failpoint
from rag_assets.settings import Settings

CONNECT_SECONDS = 10
POOL_SIZE = 10
POOL_WAITING = 100
RETURN_SECONDS = 120.0
"""How long work waits for a database that went away: a restart with its log replay takes seconds."""
FROZEN_SECONDS = 30
"""A writer that is silent this long inside a transaction is frozen; the server ends its session, so that its lock is free."""
BRIEF = 4
"""How many times that a brief transaction may last. To the server, one that is frozen in the middle of a pipeline is not silent but
at work."""
_TRANSACTION_TIMEOUT_SINCE = 170_000
"""PostgreSQL's version that has ``transaction_timeout``."""
_LOST = (
    errors.AdminShutdown,
    errors.CrashShutdown,
    errors.CannotConnectNow,
    errors.ConnectionException,
    errors.IdleInTransactionSessionTimeout,
    errors.TransactionTimeout,
)


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


def open_database(settings: Settings, report: Callable[[str], None] | None = None) -> "Database":
    """The project's database; an embedded server that dies meanwhile is started again by whoever needs it next."""
    url = database_url(settings, report)
    return Database(url, revive=None if settings.postgres_url else embedded(settings.home).acquire)


class Database:
    """A pool of connections whose ``search_path`` is the project's schema, migrated on first use."""

    def __init__(
        self,
        url: str,
        *,
        name: str = "rag-assets",
        revive: Callable[[], object] | None = None,
        frozen_seconds: float = FROZEN_SECONDS,
    ) -> None:
        """``revive`` brings the server back when it is found gone; None: somebody else does.

        ``frozen_seconds``: after so long a silence inside a transaction the server ends the session.
        """
        self.url = url
        self._conninfo = _conninfo(url, name)
        self._revive = revive
        self._frozen_seconds = frozen_seconds
        self._check()
        self.pool: ConnectionPool[psycopg.Connection[Any]] = ConnectionPool(
            self._conninfo,
            min_size=1,
            max_size=POOL_SIZE,
            max_waiting=POOL_WAITING,
            max_lifetime=3600,
            timeout=CONNECT_SECONDS,
            # Reconnecting goes on for as long as anybody waits for it.
            reconnect_timeout=RETURN_SECONDS,
            configure=partial(_configure, frozen_seconds=frozen_seconds),
            check=self._check_connection,
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

    def _check_connection(self, connection: psycopg.Connection[Any]) -> None:
        """Before a pooled connection is lent: does its server still live?"""
        try:
            ConnectionPool.check_connection(connection)
        except psycopg.OperationalError:
            if self._revive is not None:
                self._revive()
            raise

    def wait_until_back(self, seconds: float = RETURN_SECONDS) -> None:
        """Return when the database accepts connections again, bringing it back if that is ours to do.

        Raises:
            RagAssetsError: it did not come back within ``seconds``.
        """
        deadline = time.monotonic() + seconds
        while True:
            if self._revive is not None:
                self._revive()
            with suppress(psycopg.OperationalError):
                psycopg.connect(self._conninfo).close()
                return
            if time.monotonic() > deadline:
                raise RagAssetsError(f"The database went away and did not come back within {seconds:.0f} s.")
            time.sleep(0.2)

    @contextmanager
    def transaction(
        self, *, snapshot: bool = False, brief: bool = False, pipelined: bool = False
    ) -> Iterator[psycopg.Connection[Any]]:
        """One transaction on a pooled connection.

        Args:
            snapshot: read-only and repeatable-read.
            brief: it writes what is ready to be written; if it lasts, its process is frozen, and the server ends it
                (PostgreSQL 17 and later).
            pipelined: brief, and statements are sent at once and waited for when their results are asked for. On older
                servers, where nothing would end a process that is frozen meanwhile, it is a transaction like any other.

        Raises:
            DatabaseLost: the connection broke, or none could be made.
            RagAssetsError: the disk is full.
        """
        try:
            with (
                self.pool.connection() as connection,
                _pipeline(connection, wanted=pipelined),
                connection.transaction(),
            ):
                if snapshot:
                    connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
                if (brief or pipelined) and connection.info.server_version >= _TRANSACTION_TIMEOUT_SINCE:
                    milliseconds = int(BRIEF * self._frozen_seconds * 1000)
                    connection.execute(sql.SQL("SET LOCAL transaction_timeout = {}").format(sql.Literal(milliseconds)))
                yield connection
                if not snapshot:
                    failpoint("transaction.commit")
            if not snapshot:
                failpoint("transaction.committed")
        except PoolTimeout:
            raise DatabaseLost(f"No database connection could be had within {CONNECT_SECONDS} s.") from None
        except errors.DiskFull as error:
            raise RagAssetsError(
                f"The database's disk is full: {str(error).strip()}. Nothing of this step was written. Free some space, "
                "then run it again."
            ) from None
        except psycopg.Error as error:
            if isinstance(error, _LOST) or (isinstance(error, psycopg.OperationalError) and error.sqlstate is None):
                # At once: Dagster, too, wants to write down what became of its run.
                if self._revive is not None:
                    self._revive()
                raise DatabaseLost(
                    f"The connection to the database was lost: {str(error).strip()}. What was not committed is undone; "
                    "run it again."
                ) from error
            raise

    def close(self) -> None:
        """Close every pooled connection."""
        self.pool.close()


@contextmanager
def _pipeline(connection: psycopg.Connection[Any], *, wanted: bool) -> Iterator[None]:
    limited = connection.info.server_version >= _TRANSACTION_TIMEOUT_SINCE
    if wanted and limited and psycopg.Pipeline.is_supported():
        with connection.pipeline():
            yield
    else:
        yield


def _conninfo(url: str, name: str) -> str:
    return make_conninfo(url, application_name=name, connect_timeout=CONNECT_SECONDS)


def _configure(connection: psycopg.Connection[Any], *, frozen_seconds: float) -> None:
    from pgvector.psycopg import register_vector

    connection.execute(sql.SQL("SET search_path = {}, public").format(sql.Identifier(SCHEMA)))
    connection.execute(
        sql.SQL("SET idle_in_transaction_session_timeout = {}").format(sql.Literal(int(frozen_seconds * 1000)))
    )
    register_vector(connection)
    connection.commit()
