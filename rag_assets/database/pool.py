"""One pooled connection to the project's PostgreSQL, embedded or not."""

import json
import select
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, LiteralString
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

import psycopg
from psycopg import errors, sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import TransactionStatus
from psycopg.types.json import set_json_loads
from psycopg_pool import ConnectionPool, PoolTimeout

from rag_assets.database.embedded import embedded
from rag_assets.database.migrate import SCHEMA, migrate
from rag_assets.database.state import STATE, State
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
PROVEN_SECONDS = 10.0
"""How long a connection that answered counts as one that would, while nothing has come in unasked: a server that ends a session says
so or closes the socket. A network that swallowed it says nothing."""
_TRANSACTION_TIMEOUT_SINCE = 170_000
"""PostgreSQL's version that has ``transaction_timeout``."""
_JSON = json.JSONDecoder()
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
        self._proven: WeakKeyDictionary[psycopg.Connection[Any], float] = WeakKeyDictionary()
        self.state_when_opened: State | None = None
        """As :mod:`rag_assets.database.state` tells it; None where it can't be told."""
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
                self.state_when_opened = _state(connection)
        except psycopg.OperationalError as error:
            parts = conninfo_to_dict(self.url)
            where = f"{parts.get('host') or 'localhost'}:{parts.get('port') or 5432}, database {parts.get('dbname')!r},"
            raise RagAssetsError(
                f"PostgreSQL at {where} can't be reached: {str(error).strip()} "
                "Check that it runs, or unset RAG_POSTGRES_URL to use the embedded one."
            ) from None

    def state(self) -> State | None:
        """As :mod:`rag_assets.database.state` tells it now; None: it can't be told, or somebody is writing."""
        try:
            with self.pool.connection() as connection:
                return _state(connection)
        except psycopg.OperationalError:
            return None

    def _check_connection(self, connection: psycopg.Connection[Any]) -> None:
        """Before a pooled connection is lent: does its server still live?"""
        now = time.monotonic()
        if now - self._proven.get(connection, -PROVEN_SECONDS) < PROVEN_SECONDS and _is_silent(connection):
            return
        try:
            ConnectionPool.check_connection(connection)
            self._proven[connection] = now
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
        kind: LiteralString = "ISOLATION LEVEL REPEATABLE READ READ ONLY" if snapshot else ""
        with self._explained():
            with self.pool.connection() as connection, _begun(connection, kind, pipelined=pipelined):
                if not (brief or pipelined) and _can_be_limited(connection):
                    connection.execute("SET LOCAL transaction_timeout = 0")
                yield connection
                if not snapshot:
                    failpoint("transaction.commit")
            if not snapshot:
                failpoint("transaction.committed")

    @contextmanager
    def statement(self) -> Iterator[psycopg.Connection[Any]]:
        """A pooled connection for one statement that reads, is brief, and needs no other in its snapshot: no transaction is begun for it.

        Raises:
            DatabaseLost: the connection broke, or none could be made.
        """
        with self._explained(), self.pool.connection() as connection:
            yield connection

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
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


def _state(connection: psycopg.Connection[Any]) -> State | None:
    try:
        row = connection.execute(STATE).fetchone()
    except psycopg.DatabaseError:
        if connection.closed:
            raise
        # Some hosted servers don't let everybody ask.
        connection.rollback()
        return None
    return None if row is None else (row[0], row[1])


def _can_be_limited(connection: psycopg.Connection[Any]) -> bool:
    return connection.info.server_version >= _TRANSACTION_TIMEOUT_SINCE


@contextmanager
def _begun(connection: psycopg.Connection[Any], kind: LiteralString, *, pipelined: bool) -> Iterator[None]:
    """A transaction of a kind. In a pipeline BEGIN travels with what follows it, and COMMIT is waited for once, with the rest: psycopg's own
    ``transaction()`` would wait at both ends of it."""
    if not (pipelined and _can_be_limited(connection) and psycopg.Pipeline.is_supported()):
        with connection.transaction():
            if kind:
                connection.execute("SET TRANSACTION " + kind)
            yield
        return
    try:
        with connection.pipeline():
            connection.execute("BEGIN " + kind)
            yield
            connection.execute("COMMIT")
    finally:
        if not connection.closed and connection.info.transaction_status != TransactionStatus.IDLE:
            # A statement failed.
            connection.rollback()


def _is_silent(connection: psycopg.Connection[Any]) -> bool:
    """Whether nothing has come in since the last answer: neither a farewell nor the end of the stream."""
    if connection.closed or not hasattr(select, "poll"):
        return False
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return not poll.poll(0)


def _conninfo(url: str, name: str) -> str:
    return make_conninfo(url, application_name=name, connect_timeout=CONNECT_SECONDS)


def _configure(connection: psycopg.Connection[Any], *, frozen_seconds: float) -> None:
    from pgvector.psycopg import register_vector

    # Every transaction begins with a BEGIN of its own.
    connection.autocommit = True
    connection.execute(sql.SQL("SET search_path = {}, public").format(sql.Identifier(SCHEMA)))
    silent = int(frozen_seconds * 1000)
    connection.execute(sql.SQL("SET idle_in_transaction_session_timeout = {}").format(sql.Literal(silent)))
    if _can_be_limited(connection):
        # Of the brief ones, which are the many; another lifts it for itself.
        connection.execute(sql.SQL("SET transaction_timeout = {}").format(sql.Literal(BRIEF * silent)))
    register_vector(connection)
    set_json_loads(_json_value, connection)


def _json_value(data: str | bytes) -> Any:
    """A value as PostgreSQL prints it: UTF-8, with nothing around it. ``json.loads`` would look for both, which takes as long again."""
    return _JSON.raw_decode(data if isinstance(data, str) else data.decode("utf-8"))[0]
