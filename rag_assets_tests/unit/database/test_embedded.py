"""The embedded server as it should be: started on demand, shared by threads and processes, stopped by the last one."""

import os
import threading
from pathlib import Path

import psutil
import psycopg
import pytest
from sqlalchemy import create_engine, text

from rag_assets.database.embedded import embedded
from rag_assets.errors import RagAssetsError
from rag_assets_tests.unit.database.homes import Holder, cluster_of, postmaster_of, python, query


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
