"""The database goes away under running work: everything ends well without anybody's help."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from rag_assets.database.binaries import binaries_for
from rag_assets.database.embedded import EmbeddedPostgres, embedded
from rag_assets.database.pool import Database
from rag_assets.definitions import build_definitions
from rag_assets.defs.instance import open_instance
from rag_assets.defs.local import LocalRunner
from rag_assets.documents.parsing import ParserPool
from rag_assets.indexing.sync import sync
from rag_assets.settings import Settings
from rag_assets_tests.driving import WarmRuntime, corpus, live_rows, query, wanted_rows, write
from rag_assets_tests.fakes import DirectRunner, FakeEmbedder
from rag_assets_tests.unit.database.homes import cluster_of, dispose, folder_for_homes, kill_whole_cluster


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """A home with an embedded server of its own."""
    with folder_for_homes() as folder:
        yield folder / "home"
        embedded(folder / "home").release()
        dispose(folder / "home")


@pytest.fixture
def own(home: Path, source: Path, parsers: ParserPool) -> Iterator[WarmRuntime]:
    """An index in the embedded server of ``home``, with nothing in it."""
    with opened(home, source, parsers) as runtime:
        query(runtime, "DELETE FROM promotion")
        query(runtime, "UPDATE collection SET live_generation = NULL")
        for table in ("embedding", "chunked", "source_file", "generation", "collection"):
            query(runtime, f"DELETE FROM {table}")
        yield runtime


def opened(home: Path, source: Path, parsers: ParserPool, url: str | None = None) -> WarmRuntime:
    settings = Settings(
        home=home,
        postgres_url=url,
        collections={"default": {"source": source}},  # type: ignore[dict-item]
        sync={"shards": 2},  # type: ignore[arg-type]
        chunking={"max_tokens": 64, "overlap_tokens": 0},  # type: ignore[arg-type]
        benchmark={"enabled": False},  # type: ignore[arg-type]
    )
    return WarmRuntime(settings, parsers)


class Once(FakeEmbedder):
    """Lets something happen the first time it is asked to embed."""

    def __init__(self, happening: Callable[[], None]) -> None:
        super().__init__(version="all-MiniLM-L6-v2", dimension=64)
        self._happening: Callable[[], None] | None = happening

    def embed_documents(self, texts: Any) -> Any:
        happening, self._happening = self._happening, None
        if happening is not None:
            happening()
        return super().embed_documents(texts)


class KilledDatabase:
    """Kills the server within the ``at``-th transaction (counted from 1) of one stage, after its first statement."""

    def __init__(self, database: Database, stage: str, at: int, kill: Callable[[], None]) -> None:
        self._database, self._module, self._at, self._kill = database, f"rag_assets.indexing.{stage}", at, kill
        self.begun = 0
        """Transactions of the stage so far. Only one thread works on a stage."""

    @contextmanager
    def transaction(
        self, *, snapshot: bool = False, brief: bool = False, pipelined: bool = False
    ) -> Iterator[psycopg.Connection[Any]]:
        mine = self._is_the_stages()
        self.begun += mine
        kill = mine and self.begun == self._at
        with self._database.transaction(snapshot=snapshot, brief=brief) as connection:
            if kill:
                connection.execute("SELECT 1")
                self._kill()
            yield connection

    def _is_the_stages(self) -> bool:
        frame = sys._getframe()
        while frame is not None and frame.f_globals["__name__"] != self._module:
            frame = frame.f_back  # type: ignore[assignment]
        return frame is not None

    def wait_until_back(self) -> None:
        self._database.wait_until_back()

    def close(self) -> None:
        self._database.close()


def test_the_next_transaction_after_a_kill_of_the_whole_server_works(own: WarmRuntime, home: Path) -> None:
    assert query(own, "SELECT 1") == [(1,)]
    kill_whole_cluster(home)
    assert query(own, "SELECT 1") == [(1,)]


def kill_within(own: WarmRuntime, home: Path, stage: str) -> None:
    """Have the server killed within a transaction of the first run's ``stage`` that writes."""
    at = {"raw_documents": 2, "index_entries": 4}[stage]
    own.__dict__["database"] = KilledDatabase(own.database, stage, at, lambda: kill_whole_cluster(home))


@pytest.mark.parametrize("stage", ["raw_documents", "index_entries"])
def test_a_sync_under_which_the_server_is_killed_ends_well_by_itself(
    own: WarmRuntime, home: Path, source: Path, stage: str
) -> None:
    corpus(source)
    runner = DirectRunner(own)
    kill_within(own, home, stage)
    report = sync(own, "default", lambda: runner)
    assert own.database.begun > 4  # type: ignore[attr-defined]
    assert report.generation["promoted"]
    assert live_rows(own) == wanted_rows(own, source)
    assert sync(own, "default", lambda: runner).nothing_changed


def test_a_run_under_which_the_server_is_killed_is_marked_failed_and_holds_nothing(
    own: WarmRuntime, home: Path, source: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    corpus(source)
    (tmp_path / "rag_assets.toml").write_text("")
    monkeypatch.setenv("RAG_CONFIG", str(tmp_path / "rag_assets.toml"))
    monkeypatch.setenv("RAG_HOME", str(home))
    with open_instance(own.settings) as instance:
        runner = LocalRunner(own, build_definitions(runtime=own), instance)
        kill_within(own, home, "index_entries")
        report = sync(own, "default", lambda: runner)
        # The run it happened under, one in its place, one for the other shard, one that published.
        statuses = sorted(run.status.value for run in instance.get_runs())
        assert statuses == ["FAILURE", "SUCCESS", "SUCCESS", "SUCCESS"]
        for pool in ("embedder", "vector_store_writes", "llm_api"):
            assert instance.event_log_storage.get_concurrency_info(pool).active_slot_count == 0
    assert report.generation["promoted"]
    assert live_rows(own) == wanted_rows(own, source)


def test_a_server_of_somebody_else_that_is_restarted_is_waited_for(
    home: Path, source: Path, parsers: ParserPool, tmp_path: Path
) -> None:
    """With RAG_POSTGRES_URL the server is not ours to start."""
    server = EmbeddedPostgres(home)
    admin = server.acquire()
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute("DROP DATABASE IF EXISTS theirs")
        connection.execute("CREATE DATABASE theirs")
    url = admin.replace("/rag?", "/theirs?")
    assert url != admin
    corpus(source)
    with opened(tmp_path / "mine", source, parsers, url) as runtime:
        back: list[threading.Thread] = []

        def restart() -> None:
            cluster = cluster_of(home)
            cluster.stop(binaries_for(cluster.account))

            def start() -> None:
                time.sleep(0.5)
                server.acquire()

            back.append(threading.Thread(target=start))
            back[0].start()

        runtime.fakes["all-MiniLM-L6-v2"] = Once(restart)
        report = sync(runtime, "default", lambda: DirectRunner(runtime))
        back[0].join()
        assert report.generation["promoted"]
        assert live_rows(runtime) == wanted_rows(runtime, source)
        write(source, "d01.md", "# Changed\n\nIt says something else now.\n")
        cluster = cluster_of(home)
        cluster.stop(binaries_for(cluster.account))
        server.acquire()
        # Between two pieces of work: the pool's connections are dead, and nobody notices.
        assert sync(runtime, "default", lambda: DirectRunner(runtime)).documents["changed"] == 1
        assert live_rows(runtime) == wanted_rows(runtime, source)
