"""Dagster's own tables, asked and written as seldom as is safe: a shard's run is many small events and little else."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cached_property
from typing import Any

from dagster import DagsterEventType, DagsterInstance
from dagster._core.events import ASSET_CHECK_EVENTS, ASSET_EVENTS
from dagster._core.events.log import EventLogEntry
from dagster._core.storage.event_log import SqlEventLogStorageTable
from dagster_postgres.event_log import PostgresEventLogStorage
from dagster_postgres.run_storage import PostgresRunStorage
from dagster_postgres.utils import create_pg_engine
from sqlalchemy.engine import Connection
from sqlalchemy.pool import NullPool

_WAITING = frozenset(
    {
        DagsterEventType.ASSET_MATERIALIZATION_PLANNED,
        DagsterEventType.ENGINE_EVENT,
        DagsterEventType.RESOURCE_INIT_STARTED,
        DagsterEventType.RESOURCE_INIT_SUCCESS,
        DagsterEventType.LOGS_CAPTURED,
        DagsterEventType.ASSET_OBSERVATION,
        DagsterEventType.STEP_OUTPUT,
        DagsterEventType.ASSET_MATERIALIZATION,
        DagsterEventType.STEP_SUCCESS,
    }
)
"""Events with no work of ours between them and the next that is written: beginnings and ends of runs and steps, failures."""


class ProjectEventLog(PostgresEventLogStorage):
    """Events in the project's PostgreSQL. Within :meth:`batched`, those that follow on one another go in one transaction."""

    def __init__(self, postgres_url: str) -> None:
        """The tables have to be there."""
        self._lock = threading.Lock()
        self._batching = False
        self._waiting: list[EventLogEntry] = []
        self._own = threading.local()
        self._schema: set[tuple[str, str]] = set()
        super().__init__(postgres_url, should_autocreate_tables=False)

    @contextmanager
    def batched(self) -> Iterator[None]:
        """Let events wait until one comes that must be seen at once, or anything is asked of this storage.

        A process that is killed loses what waits, as it loses what it has not come to: rows are committed before the events
        that report them, and what has to be done is decided by the rows. Batches of one thread may lie in one another.
        """
        self._write_waiting()
        around, self._batching = self._batching, True
        try:
            yield
            self._write_waiting()
        finally:
            self._batching = around
            self._waiting = []

    def store_event(self, event: EventLogEntry) -> None:
        """Store an event, after those that wait; without the NOTIFY that Dagster keeps for watchers of old versions."""
        kind = event.dagster_event_type if event.is_dagster_event else None
        if kind in ASSET_CHECK_EVENTS:
            # They have a table of their own.
            self._write_waiting()
            super().store_event(event)
        elif not self._batching:
            self._write([event])
        else:
            with self._lock:
                self._waiting.append(event)
            if kind not in _WAITING:
                self._write_waiting()

    def _write_waiting(self) -> None:
        """Store what waits. If that fails it is lost, as a single event is: the run it is of fails, too."""
        with self._lock:
            events, self._waiting = self._waiting, []
        if events:
            self._write(events)

    def _write(self, events: Sequence[EventLogEntry]) -> None:
        insert = SqlEventLogStorageTable.insert().returning(SqlEventLogStorageTable.c.id, sort_by_parameter_order=True)
        with self.index_transaction() as connection:
            rows = connection.execute(insert, [self._event_to_row(event) for event in events])
            stored = [(event, int(row[0])) for event, row in zip(events, rows.fetchall(), strict=True)]
            self._store_asset_events(connection, stored)

    def _store_asset_events(self, connection: Connection, stored: list[tuple[EventLogEntry, int]]) -> None:
        """Note events of assets in the tables by asset, in the order of their keys: two processes never wait for each other."""
        found = [
            (event, number) for event, number in stored if event.is_dagster_event and _asset_key_of(event) is not None
        ]
        if found:
            self._store_asset_event_tags(connection, [event for event, _ in found], [number for _, number in found])
        for event, number in sorted(found, key=lambda pair: str(_asset_key_of(pair[0]))):
            self._store_asset_event(connection, event, number)

    def _connect(self) -> AbstractContextManager[Connection]:
        shared = getattr(self._own, "connection", None)
        if shared is not None:
            return nullcontext(shared)
        # Whoever asks sees what was stored.
        self._write_waiting()
        return super()._connect()

    @contextmanager
    def _in_one_transaction(self) -> Iterator[None]:
        """Everything this thread asks of the storage meanwhile is one transaction, and nothing of it is about events."""
        with super()._connect() as connection:
            connection = connection.execution_options(isolation_level="READ COMMITTED")
            with connection.begin():
                self._own.connection = connection
                try:
                    yield
                finally:
                    self._own.connection = None

    def claim_concurrency_slot(self, *arguments: Any, **named: Any) -> Any:
        """Claim a place in a pool: one commit, not one for each of seven statements."""
        with self._in_one_transaction():
            status = super().claim_concurrency_slot(*arguments, **named)
        if not status.is_claimed:
            # The run waits now, for whoever has the place.
            self._write_waiting()
        return status

    def free_concurrency_slot_for_step(self, run_id: str, step_key: str) -> None:
        """Free a step's place in a pool, in one transaction."""
        with self._in_one_transaction():
            super().free_concurrency_slot_for_step(run_id, step_key)

    def has_table(self, table_name: str) -> bool:
        """Whether a table is there; asked of the database until it is, for tables don't go."""
        return self._is_there("table", table_name, super().has_table)

    def has_asset_key_col(self, column_name: str) -> bool:
        """Whether ``asset_keys`` has a column; asked of the database until it has."""
        return self._is_there("column", column_name, super().has_asset_key_col)

    def _is_there(self, kind: str, name: str, ask: Any) -> bool:
        if (kind, name) not in self._schema and ask(name):
            self._schema.add((kind, name))
        return (kind, name) in self._schema


class ProjectRunStorage(PostgresRunStorage):
    """Runs in the project's PostgreSQL, without asking at every event which columns its tables have."""

    def __init__(self, postgres_url: str) -> None:
        """The tables have to be there."""
        super().__init__(postgres_url, should_autocreate_tables=False)

    def has_run_stats_index_cols(self) -> bool:
        """Whether ``runs`` has the columns of start and end."""
        return self._run_columns[0]

    def has_backfill_id_column(self) -> bool:
        """Whether ``runs`` has the column of the backfill."""
        return self._run_columns[1]

    @cached_property
    def _run_columns(self) -> tuple[bool, bool]:
        return super().has_run_stats_index_cols(), super().has_backfill_id_column()

    def has_execution_plan_snapshot(self, execution_plan_snapshot_id: str) -> bool:
        """Whether a plan is stored, without unpacking it."""
        return self._has_snapshot_id(execution_plan_snapshot_id)


def _asset_key_of(event: EventLogEntry) -> Any:
    found = event.get_dagster_event()
    return found.asset_key if found.event_type in ASSET_EVENTS else None


def keep_connections(instance: DagsterInstance) -> None:
    """Let an instance of ours keep its connections: Dagster connects anew for every event, which takes longer than the event. What
    the server has closed meanwhile is replaced. For processes that end with their work, so that idle ones hold no connection.
    """
    for storage in (instance.event_log_storage, instance.run_storage):
        if isinstance(storage, ProjectEventLog | ProjectRunStorage) and isinstance(storage._engine.pool, NullPool):
            storage._engine = create_pg_engine(
                storage.postgres_url, isolation_level="AUTOCOMMIT", pool_size=1, max_overflow=10, pool_pre_ping=True
            )


def batched(instance: DagsterInstance) -> AbstractContextManager[None]:
    """Batches the events of an instance of ours; does nothing to any other."""
    storage = instance.event_log_storage
    return storage.batched() if isinstance(storage, ProjectEventLog) else nullcontext()
