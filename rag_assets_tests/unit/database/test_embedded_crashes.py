"""The embedded server under what happens to it: killed holders, forks, crashes, damage."""

import os
import signal
import subprocess
import threading
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest

from rag_assets.database.embedded import EmbeddedPostgres, embedded
from rag_assets.database.lease import Leases, start_time
from rag_assets.errors import ConfigurationError, RagAssetsError
from rag_assets_tests.unit.database.homes import (
    Holder,
    cluster_of,
    kill_whole_cluster,
    postmaster_of,
    python,
    query,
)

# --- killed holders, forks ---


def test_a_killed_holder_neither_keeps_the_server_nor_stops_it_under_others(home: Path) -> None:
    killed, other = Holder(home).acquired(), Holder(home).acquired()
    killed.kill()
    assert query(other.url, "SELECT 1") == 1
    other.end()
    assert cluster_of(home).postmaster() is None
    assert list((home / "postgres" / "leases").iterdir()) == []


def test_a_server_left_by_a_killed_holder_is_taken_over(home: Path) -> None:
    killed = Holder(home).acquired()
    killed.kill()
    pid = postmaster_of(home)
    server = embedded(home)
    server.acquire()
    assert postmaster_of(home) == pid
    server.release()
    assert cluster_of(home).postmaster() is None


def test_a_lease_whose_pid_was_given_to_a_later_process_is_dead(tmp_path: Path) -> None:
    leases = Leases(tmp_path / "leases")
    leases.take()
    (leases.folder / f"{os.getppid()}-1").write_text("")
    assert leases.live_holders() == [os.getpid()]
    assert len(list(leases.folder.iterdir())) == 1


def test_a_zombie_is_not_alive() -> None:
    child = subprocess.Popen(["/bin/sh", "-c", "exit 0"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert start_time(child.pid) is None
    child.wait()


def test_a_forked_child_keeps_its_hands_off_the_lease_of_its_parent(home: Path) -> None:
    """The child exits normally, so its inherited exit handlers run too."""
    script = """
    import os
    server = embedded(Path(sys.argv[1]))
    server.acquire()
    child = os.fork()
    if child == 0:
        server.release()
        sys.exit(0)
    os.waitpid(child, 0)
    print(server.is_running())
    child = os.fork()
    if child == 0:
        server.acquire()
        os._exit(0 if len(list((server.home / "postgres" / "leases").iterdir())) == 2 else 1)
    print(os.waitpid(child, 0)[1], server.is_running())
    server.release()
    print(server.is_running())
    """
    assert python(script, home).stdout.split() == ["True", "0", "True", "False"]


# --- crashes ---


def test_after_a_kill_of_the_whole_cluster_the_next_acquire_recovers_committed_rows_only(home: Path) -> None:
    server = embedded(home)
    url = server.acquire()
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE rows (value int)")
        connection.execute("INSERT INTO rows SELECT generate_series(1, 1000)")
    unfinished = psycopg.connect(url)
    unfinished.execute("INSERT INTO rows VALUES (-1)")
    kill_whole_cluster(home)
    assert not server.is_running()
    assert query(server.acquire(), "SELECT array[count(*), min(value)] FROM rows") == [1000, 1]
    unfinished.close()


def test_sessions_that_outlive_a_killed_server_are_waited_for(home: Path) -> None:
    server = EmbeddedPostgres(home)
    url = server.acquire()
    ended: list[bool] = []

    def end_session(message: str) -> None:
        if "sessions of a killed server" in message and not ended:
            os.kill(busy, signal.SIGKILL)
            ended.append(True)

    def run_endlessly() -> None:
        # A loop without waits never looks whether its server still lives.
        with suppress(psycopg.OperationalError):
            connection.execute("DO $$ BEGIN LOOP PERFORM 1; END LOOP; END $$")

    with psycopg.connect(url, autocommit=True) as connection:
        busy = connection.info.backend_pid
        thread = threading.Thread(target=run_endlessly)
        thread.start()
        try:
            while query(url, f"SELECT state FROM pg_stat_activity WHERE pid = {busy}") != "active":
                thread.join(0.01)
            os.kill(postmaster_of(home), signal.SIGKILL)
            server.report = end_session
            server.acquire()
        finally:
            if not ended:
                os.kill(busy, signal.SIGKILL)
            thread.join()
    assert ended


def test_a_server_that_is_slow_to_answer_is_waited_for_with_progress(home: Path) -> None:
    EmbeddedPostgres(home).acquire()
    pid = postmaster_of(home)
    messages: list[str] = []

    def thaw(message: str) -> None:
        messages.append(message)
        os.kill(pid, signal.SIGCONT)

    os.kill(pid, signal.SIGSTOP)
    EmbeddedPostgres(home, report=thaw).acquire()
    assert messages
    assert postmaster_of(home) == pid


def test_a_missed_deadline_says_what_why_and_what_to_do_and_the_start_goes_on(home: Path) -> None:
    embedded(home).acquire()
    embedded(home).release()
    with pytest.raises(RagAssetsError, match=r"(?s)is not ready after 0 s.*server\.log"):
        EmbeddedPostgres(home, start_deadline=0.0).acquire()
    assert list((home / "postgres" / "leases").iterdir()) == []
    assert query(embedded(home).acquire(), "SELECT 1") == 1


def test_a_server_that_can_not_start_is_explained_with_its_last_words(home: Path) -> None:
    embedded(home).acquire()
    embedded(home).release()
    with (cluster_of(home).data / "postgresql.auto.conf").open("a") as settings_file:
        settings_file.write("shared_buffers = 'nonsense'\n")
    with pytest.raises(RagAssetsError, match=r"(?s)did not start.*nonsense.*try again"):
        embedded(home).acquire()


@pytest.mark.parametrize("file", ["data/postmaster.pid", "run/.s.PGSQL.5432.lock"])
def test_a_stale_lock_file_with_a_foreign_live_pid_is_no_obstacle_and_no_death_sentence(home: Path, file: str) -> None:
    server = embedded(home)
    server.acquire()
    kill_whole_cluster(home)
    cluster = cluster_of(home)
    user = {} if cluster.account.uid == os.geteuid() else {"user": cluster.account.uid, "group": cluster.account.gid}
    foreign = subprocess.Popen(["sleep", "600"], **user)  # type: ignore[call-overload]
    try:
        stale = cluster.data.parent / file
        lines = stale.read_text().splitlines()
        stale.write_text("\n".join([str(foreign.pid), *lines[1:]]) + "\n")
        server.stop()
        assert foreign.poll() is None
        assert query(server.acquire(), "SELECT 1") == 1
        server.release()
        assert foreign.poll() is None
    finally:
        foreign.kill()
        foreign.wait()


def test_what_an_interrupted_or_damaged_start_left_is_no_obstacle_and_nobodys_rows_are_deleted(new_home: Path) -> None:
    interrupted = new_home / "postgres" / "unfinished-killed"
    interrupted.mkdir(parents=True)
    (interrupted / "PG_VERSION").write_text("18\n")
    damaged = new_home / "postgres" / "data" / "base"
    damaged.mkdir(parents=True)
    (damaged / "precious").write_text("rows")
    assert query(embedded(new_home).acquire(), "SELECT 1") == 1
    assert not interrupted.exists()
    assert (new_home / "postgres" / "data.damaged-1" / "base" / "precious").read_text() == "rows"


def test_data_of_another_major_version_are_refused_and_left_alone(home: Path) -> None:
    embedded(home).acquire()
    embedded(home).release()
    version = cluster_of(home).data / "PG_VERSION"
    version.write_text("17\n")
    with pytest.raises(ConfigurationError, match="PostgreSQL 17"):
        embedded(home).acquire()
    version.write_text("18\n")
    assert query(embedded(home).acquire(), "SELECT 1") == 1
