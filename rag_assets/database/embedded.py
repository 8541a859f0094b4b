"""The embedded PostgreSQL server of a home folder: started on demand, shared by processes, stopped by the last one.

Layout of ``<home>/postgres``::

    lock          held while anybody decides about starting or stopping
    leases/       one file per process that uses the server
    server.log    what the server says (about 10 MB at most, and one older part)
    data/  run/   the cluster and its socket, or, where the service user can't come here (root only),
    LOCATION      a text file that says where they are
"""

import atexit
import logging
import os
import shutil
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from rag_assets.database.binaries import binaries_for
from rag_assets.database.cluster import Cluster
from rag_assets.database.lease import Leases, exclusive, start_time
from rag_assets.database.location import (
    control_folder,
    existing_cluster,
    make_cluster,
    make_control_folder,
    make_socket_folder,
)
from rag_assets.errors import RagAssetsError

_POLL_SECONDS = 0.03
_REPORT_SECONDS = 1.0
_ORPHANS = "pre-existing shared memory block"
"""PostgreSQL's words when sessions of a killed server still live; they end with their present statement."""

_logger = logging.getLogger(__name__)


class EmbeddedPostgres:
    """The server of one home. Use ``embedded(home)``: a process should have one object per home.

    Safe to use from several threads and after a fork: a lease belongs to the process that took it.
    """

    def __init__(
        self, home: Path, *, start_deadline: float = 300.0, report: Callable[[str], None] | None = None
    ) -> None:
        """Touch nothing yet. ``start_deadline`` is in seconds; ``report`` gets progress at most once a second."""
        self.home = home.resolve()
        self.report = report
        self._deadline = start_deadline
        self._control = control_folder(self.home)
        self._leases = Leases(self._control / "leases")
        self._cluster: Cluster | None = None
        self._holder: int | None = None
        self._reported = time.monotonic()

    @property
    def log_path(self) -> Path:
        """The server's log."""
        return self._control / "server.log"

    def acquire(self) -> str:
        """Make sure the server runs, and keeps running until this process releases it or ends.

        Returns:
            A libpq URL of the database ``rag``, for psycopg 3 and psycopg2. It holds no secret.

        Raises:
            ConfigurationError: the server can't run here (rights, users, versions, missing programs).
            RagAssetsError: it did not become ready; the message says what, why and what to do.
        """
        cluster = self._cluster
        if cluster is not None and self._holder == os.getpid() and cluster.probe() is None:
            return cluster.url
        make_control_folder(self.home)
        with self._exclusive():
            self._leases.take()
            try:
                cluster = existing_cluster(self.home) or self._initialise()
                self._bring_up(cluster)
            except BaseException:
                self._leases.drop()
                raise
            if self._cluster is None:
                atexit.register(self._release_at_exit)
            self._cluster, self._holder = cluster, os.getpid()
        return cluster.url

    def release(self) -> None:
        """Give up this process's lease; the last live lease out stops the server. Without a lease: do nothing.

        Raises:
            RagAssetsError: the server did not stop.
        """
        if self._holder != os.getpid() or not self._control.is_dir():
            return
        with self._exclusive():
            self._holder = None
            self._leases.drop()
            if not self._leases.live_holders():
                self._stop()

    def stop(self) -> None:
        """Stop the server even if this process holds no lease, as after a killed holder.

        Raises:
            RagAssetsError: other live processes use it (they are named), or it did not stop.
        """
        if not self._control.is_dir():
            return
        with self._exclusive():
            others = [pid for pid in self._leases.live_holders() if pid != os.getpid()]
            if others:
                raise RagAssetsError(
                    f"The embedded PostgreSQL of {self.home} is in use by process {', '.join(map(str, others))}. "
                    "End that first; the last one out stops the server."
                )
            self._stop()
            self._holder = None
            self._leases.drop()

    def holders(self) -> list[int]:
        """Pids of the live processes that use the server, ascending."""
        return self._leases.live_holders() if self._control.is_dir() else []

    def destroy(self) -> None:
        """Stop the server and delete its data, wherever they are. What was indexed is gone then.

        Raises:
            RagAssetsError: other live processes use the server, or it did not stop.
        """
        self.stop()
        if self._control.is_dir():
            cluster = existing_cluster(self.home)
            if cluster is not None:
                shutil.rmtree(cluster.data.parent)

    def is_running(self) -> bool:
        """Whether the server accepts connections now."""
        cluster = existing_cluster(self.home)
        return cluster is not None and cluster.probe() is None

    def _exclusive(self) -> AbstractContextManager[None]:
        def waiting(seconds: float) -> None:
            self._progress(f"Another process is starting or stopping PostgreSQL; waiting ({seconds:.0f} s) …")

        return exclusive(self._control / "lock", deadline=self._deadline, waiting=waiting)

    def _initialise(self) -> Cluster:
        if self.report:
            self.report("Creating the embedded PostgreSQL (a few seconds, once) …")
        return make_cluster(self.home)

    def _bring_up(self, cluster: Cluster) -> None:
        """Return when the server accepts connections; start it unless it is on its way."""
        cluster.check_version()
        cluster.trim_log()
        began = time.monotonic()
        launched: int | None = None
        offset = cluster.log_size()
        while (answer := cluster.probe()) is not None:
            seconds = time.monotonic() - began
            # A server may be on its way that another process started and did not live to see ready.
            if launched is None and cluster.postmaster() is None:
                make_socket_folder(cluster)
                cluster.configure()
                offset = cluster.log_size()
                launched = cluster.launch(binaries_for(cluster.account))
            elif launched is not None and start_time(launched) is None:
                if _ORPHANS not in cluster.log_tail(offset):
                    raise self._not_ready(cluster, "did not start", offset)
                launched, answer = None, _ORPHANS
                time.sleep(10 * _POLL_SECONDS)
            if seconds > self._deadline:
                raise self._not_ready(cluster, f"is not ready after {seconds:.0f} s ({answer})", offset)
            self._progress(_describe(answer, seconds))
            time.sleep(_POLL_SECONDS)

    def _not_ready(self, cluster: Cluster, what: str, offset: int) -> RagAssetsError:
        return RagAssetsError(
            f"The embedded PostgreSQL in {cluster.data} {what}. It last said:\n{cluster.log_tail(offset)}\n"
            "Correct what it names and try again; if it is still replaying its log, that goes on: try again later. "
            f"The whole log is {cluster.log}."
        )

    def _stop(self) -> None:
        cluster = existing_cluster(self.home)
        if cluster is not None:
            cluster.stop(binaries_for(cluster.account))

    def _release_at_exit(self) -> None:
        try:
            self.release()
        except Exception as error:  # at exit nobody is left to handle it
            _logger.warning("%s", error)

    def _progress(self, message: str) -> None:
        now = time.monotonic()
        if self.report and now - self._reported >= _REPORT_SECONDS:
            self._reported = now
            self.report(message)


def _describe(answer: str, seconds: float) -> str:
    doing = "is starting"
    if answer == _ORPHANS:
        doing = "waits for sessions of a killed server to end"
    elif "starting up" in answer or "recovery" in answer:
        doing = "is replaying its log"
    elif "shutting down" in answer:
        doing = "is stopping before it starts again"
    return f"PostgreSQL {doing} ({seconds:.0f} s) …"


_instances: dict[Path, EmbeddedPostgres] = {}
_instances_lock = threading.Lock()


def _after_fork() -> None:
    global _instances_lock
    _instances_lock = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)


def embedded(home: Path) -> EmbeddedPostgres:
    """The one object of this process for ``home``."""
    resolved = home.resolve()
    with _instances_lock:
        return _instances.setdefault(resolved, EmbeddedPostgres(resolved))
