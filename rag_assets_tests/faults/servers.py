"""A PostgreSQL server of the campaign's own, and its death: all of it at once, or one session."""

import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import psycopg

from rag_assets.database.cluster import Cluster
from rag_assets.database.embedded import EmbeddedPostgres, embedded
from rag_assets.database.location import existing_cluster
from rag_assets.database.migrate import migrate
from rag_assets_tests.faults.databases import named

DEATH_SECONDS = 20


class Server:
    """An embedded server in a folder of its own. Its settings are the product's: what it acknowledges is on disk."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._embedded: EmbeddedPostgres = embedded(home)
        self.url = self._embedded.acquire()

    def revive(self) -> None:
        """Return when it accepts connections."""
        self._embedded.acquire()

    def postmaster(self) -> psutil.Process:
        """The server's first process, named by the pid file of its own data folder, whose path its command line holds."""
        pid = self._cluster().postmaster()
        assert pid is not None, "the server does not run"
        return psutil.Process(pid)

    def _cluster(self) -> Cluster:
        cluster = existing_cluster(self.home.resolve())
        assert cluster is not None
        return cluster

    def kill_everything(self) -> int:
        """SIGKILL the postmaster and all its children; returns how many processes died.

        Killing the postmaster alone would be no crash: its sessions would go on, and commit.
        """
        postmaster = self.postmaster()
        postmaster.suspend()  # lest it starts another while its children are counted
        victims = [*postmaster.children(recursive=True), postmaster]
        for process in victims:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL)
        _, alive = psutil.wait_procs(victims, timeout=DEATH_SECONDS)
        left = [process for process in alive if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]
        assert not left, f"still alive: {left}"
        return len(victims)

    def kill_session(self, database: str) -> bool:
        """SIGKILL one session of a database that is in a transaction, or any; False when there is none."""
        with psycopg.connect(self.url) as connection:
            row = connection.execute(
                "SELECT pid FROM pg_stat_activity WHERE datname = %s AND backend_type = 'client backend'"
                " AND application_name = 'rag-assets' ORDER BY xact_start NULLS LAST LIMIT 1",
                (database,),
            ).fetchone()
        if row is None:
            return False
        children = {process.pid: process for process in self.postmaster().children()}
        if row[0] not in children:
            return False
        children[row[0]].send_signal(signal.SIGKILL)
        psutil.wait_procs([children[row[0]]], timeout=DEATH_SECONDS)
        return True

    def close(self) -> None:
        self._embedded.acquire()
        self._embedded.destroy()


@contextmanager
def own_server() -> Iterator[Server]:
    """A server whose database ``template_rag`` has every migration."""
    # Open to the service user that runs PostgreSQL for root.
    home = Path(tempfile.mkdtemp(prefix="rag-faults-"))
    home.chmod(0o711)
    server = Server(home)
    try:
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute("CREATE DATABASE template_rag")
        with psycopg.connect(named(server.url, "template_rag")) as connection:
            migrate(connection)
        yield server
    finally:
        server.close()
        shutil.rmtree(home, ignore_errors=True)


class Witness:
    """Commits pairs of rows, one transaction after the other, and notes which the server acknowledged."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.acknowledged: list[int] = []
        self._stop = threading.Event()
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("CREATE TABLE IF NOT EXISTS public.witness (id int, half int, PRIMARY KEY (id, half))")
        self._thread = threading.Thread(target=self._write, daemon=True)
        self._thread.start()

    def _write(self) -> None:
        with suppress(psycopg.Error), psycopg.connect(self._url) as connection:
            number = 0
            while not self._stop.wait(0.002):
                number += 1
                for half in (1, 2):
                    connection.execute("INSERT INTO public.witness VALUES (%s, %s)", (number, half))
                connection.commit()
                self.acknowledged.append(number)

    def verdict(self) -> tuple[int, int]:
        """After the server is back: (acknowledged transactions that are gone, transactions that are there by half)."""
        self._stop.set()
        self._thread.join(30)
        with psycopg.connect(self._url) as connection:
            halves = dict(connection.execute("SELECT id, count(*) FROM public.witness GROUP BY id").fetchall())
        lost = sum(number not in halves for number in self.acknowledged)
        return lost, sum(count != 2 for count in halves.values())
