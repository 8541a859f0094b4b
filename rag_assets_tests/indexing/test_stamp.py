"""When nothing is left to do, the next sync need not look, until anything it looked at may be different."""

import json
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import psycopg
import pytest

from rag_assets.documents.source import FileUnreadable
from rag_assets.documents.sources import DocumentSource
from rag_assets.indexing import promotion
from rag_assets.indexing.planning import Planned
from rag_assets.indexing.sync import look_again, sync
from rag_assets.indexing.sync_report import SyncReport
from rag_assets.runtime import Runtime
from rag_assets.stamp import Stamp
from rag_assets_tests.driving import OpenIndex, corpus, query, run, write
from rag_assets_tests.fakes import DirectRunner

CALL = ("sync", "--json")
FORGET_ONE = "DELETE FROM rag.document WHERE doc_id = (SELECT min(doc_id) FROM rag.document)"
ATTEMPTS = 5
"""The server's own housekeeping begins a transaction now and then, after which nothing is known to be unchanged."""


@pytest.fixture(autouse=True)
def called(tmp_path: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """This process is a command that was called where the index is."""
    monkeypatch.setenv("RAG_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("RAG_POSTGRES_URL", postgres_url)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def indexed(open_index: OpenIndex, source: Path) -> Callable[..., SyncReport]:
    """Four documents and a folder that was up to date when the call returned; what is returned syncs it once more."""
    corpus(source, 4)
    write(source, "below/e.md", "# Below\n\nA document in a folder.\n")
    run(open_index())
    noted(open_index())
    return lambda **settings: noted(open_index(**settings))


def noted(
    runtime: Runtime, *, settled: bool = True, meanwhile: Callable[[], Any] = lambda: None, **options: bool
) -> SyncReport:
    """A sync as the command does it. ``settled``: as if every file had been left alone for a while; ``meanwhile`` happens when it has looked."""
    stamp = settled_stamp() if settled else Stamp(CALL)
    stamp.begin(runtime, "default")
    plans: list[Planned] = []
    report = sync(runtime, "default", lambda: DirectRunner(runtime), accepted=plans.append, **options)
    meanwhile()
    for planned in plans:
        stamp.write(runtime, planned, report, lambda _: None)
    return report


def settled_stamp() -> Stamp:
    """One for which every file was left alone for a while."""
    stamp = Stamp(CALL)
    stamp._began += 60_000_000_000
    return stamp


def known() -> dict[str, Any] | None:
    """What a sync is told without looking."""
    told = Stamp(CALL).told()
    return None if told is None else json.loads(told)


def stamp_file() -> Path:
    """Where the stamp of such a sync is."""
    call = Stamp(CALL)._call
    assert call is not None
    return call.file


def is_known_after(again: Callable[..., SyncReport], **settings: Any) -> bool:
    """Whether a sync that found nothing to do spares the next one the look."""
    for _ in range(ATTEMPTS):
        again(**settings)
        if known() is not None:
            return True
    return False


def test_the_next_sync_reports_the_same_without_looking(indexed: Callable[..., SyncReport]) -> None:
    assert is_known_after(indexed)
    found, report = known(), indexed()
    assert found is not None
    for key in ("collection", "documents", "chunks", "embeddings", "generation", "shards", "withheld", "refused"):
        assert found[key] == getattr(report, key), key
    assert found["seconds"].keys() == report.seconds.keys()
    assert 0 < found["seconds"]["total"] < report.seconds["total"]


def rewrite(path: Path) -> None:
    """Other content of the same length, and no trace of it in the file's own times."""
    before = path.stat()
    path.write_bytes(path.read_bytes().swapcase())
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_a_change_of_any_file_is_looked_into(indexed: Callable[..., SyncReport], tmp_path: Path, source: Path) -> None:
    assert is_known_after(indexed)
    for name in ("rag_assets.toml", "evals/thresholds.toml", "home/collections.json"):
        write(tmp_path, name, "{}" if name.endswith("json") else "")
        assert known() is None, name
        (tmp_path / name).unlink()
        assert known() is not None, name
    rewrite(source / "below" / "e.md")
    assert known() is None


def test_another_model_is_looked_into(indexed: Callable[..., SyncReport], tmp_path: Path) -> None:
    write(tmp_path, "model/config.json", "{}")
    model = {"embedder": {"model": str(tmp_path / "model")}}
    assert indexed(**model).generation["promoted"]
    assert is_known_after(indexed, **model)
    write(tmp_path, "model/tokenizer.json", "{}")
    assert known() is None


def test_a_write_to_the_database_is_looked_into(indexed: Callable[..., SyncReport], postgres_url: str) -> None:
    assert is_known_after(indexed)
    with psycopg.connect(postgres_url) as connection:
        connection.execute("UPDATE rag.document SET collection = collection")
    assert known() is None


def test_a_write_that_was_under_way_is_not_overlooked(indexed: Callable[..., SyncReport], postgres_url: str) -> None:
    with psycopg.connect(postgres_url) as slow, psycopg.connect(postgres_url) as quick:
        slow.execute(FORGET_ONE)
        quick.execute("CREATE TABLE later ()")
        quick.commit()
        indexed()
        slow.commit()
        assert known() is None
        # Nor one that has the newest number.
        assert indexed().shards
        assert is_known_after(indexed)
        slow.execute(FORGET_ONE)
        indexed()
        slow.commit()
        assert known() is None


def test_another_environment_is_looked_into(
    indexed: Callable[..., SyncReport], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert is_known_after(indexed)
    for name in ("RAG_COLLECTION", "OMP_NUM_THREADS", "PGSSLMODE", "HOME"):
        with monkeypatch.context() as there:
            there.setenv(name, "prefer")
            assert known() is None, name
    assert known() is not None


def test_another_call_is_looked_into(
    indexed: Callable[..., SyncReport], tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert is_known_after(indexed)
    assert Stamp([*CALL, "--source", str(source)]).told() is None
    assert Stamp([*CALL, "--verify"]).told() is None
    assert known() is not None
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert known() is None


def test_what_is_never_a_document_changes_nothing(
    indexed: Callable[..., SyncReport], source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert is_known_after(indexed)
    write(source, ".git/index", "staged")
    write(source, "below/.e.md.swp", "an editor's")
    write(source, "d00.md~", "an editor's")
    monkeypatch.setenv("TERM_SESSION_ID", "w0t1")
    monkeypatch.setenv("SHLVL", "7")
    assert known() is not None


def test_other_packages_are_looked_into(
    indexed: Callable[..., SyncReport], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "packages").mkdir()
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path / "packages")])
    assert is_known_after(indexed)
    (tmp_path / "packages" / "another.dist-info").mkdir()
    assert known() is None


def test_files_that_may_have_changed_unseen_are_looked_into_again(open_index: OpenIndex, source: Path) -> None:
    corpus(source, 2)
    run(open_index())
    (source / "d00.md").touch()
    assert noted(open_index(), settled=False).nothing_changed
    assert not stamp_file().exists()


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: rewrite(folder / "documents" / "d00.md"),
        lambda folder: (folder / "documents" / "d00.md").unlink(),
        lambda folder: write(folder, "rag_assets.toml", ""),
        lambda folder: write(folder, "documents/new.md", "# New\n"),
    ],
    ids=["another content", "a file gone", "a settings file", "a new file"],
)
def test_what_changed_after_a_sync_had_looked_at_it_leaves_no_stamp(
    change: Callable[[Path], Any], open_index: OpenIndex, source: Path, tmp_path: Path
) -> None:
    corpus(source, 4)
    run(open_index())
    assert noted(open_index(), meanwhile=lambda: change(tmp_path)).nothing_changed
    assert not stamp_file().exists()


def test_after_a_sync_that_did_something_the_next_one_need_not_look(open_index: OpenIndex, source: Path) -> None:
    def is_known_after_it() -> bool:
        """Whether the next sync is told what a look would find."""
        told = known()
        assert told is None or told["documents"] == noted(open_index()).documents
        return told is not None

    def promotes(attempt: int) -> bool:
        write(source, f"more{attempt}.md", f"# More\n\nAnother document, the {attempt}th.\n")
        assert noted(open_index()).documents["added"] == (3 if attempt == 0 else 1)
        return is_known_after_it()

    def notes_a_time(attempt: int) -> bool:
        os.utime(source / "d00.md", (1e9 + attempt, 1e9))
        assert noted(open_index()).nothing_changed
        return is_known_after_it()

    corpus(source, 2)
    assert any(map(promotes, range(ATTEMPTS)))
    assert any(map(notes_a_time, range(ATTEMPTS)))


def test_a_sync_after_which_there_is_more_to_do_leaves_no_stamp(
    open_index: OpenIndex, source: Path, postgres_url: str
) -> None:
    corpus(source, 4)

    def forget_one() -> None:
        with psycopg.connect(postgres_url) as connection:
            connection.execute(FORGET_ONE)

    assert noted(open_index(), meanwhile=forget_one).generation["promoted"]
    assert not stamp_file().exists()
    assert noted(open_index(), meanwhile=lambda: write(source, "new.md", "# New\n")).shards
    assert not stamp_file().exists()


def test_looking_again_begins_nothing(open_index: OpenIndex, source: Path) -> None:
    corpus(source, 6)
    index = open_index()
    run(index)
    assert look_again(index, "default") is not None
    write(source, "d00.md", "# Other\n\nOther content.\n")
    for number in (1, 2, 3):
        (source / f"d0{number}.md").unlink()
    before = query(index, "SELECT pg_snapshot_xmax(pg_current_snapshot())::text")
    assert look_again(index, "default") is None
    assert query(index, "SELECT pg_snapshot_xmax(pg_current_snapshot())::text") == before


def test_a_folder_that_was_away_while_a_sync_looked_leaves_no_stamp(
    indexed: Callable[..., SyncReport], open_index: OpenIndex, source: Path, tmp_path: Path
) -> None:
    corpus(source, 8)
    indexed()
    stamp_file().unlink(missing_ok=True)
    index = open_index()
    plans: list[Planned] = []
    stamp = settled_stamp()
    stamp.begin(index, "default")
    (source / "below").rename(tmp_path / "below")
    report = sync(index, "default", lambda: DirectRunner(index), accepted=plans.append)
    assert report.documents["removed"] == 1

    def put_back(_: SyncReport) -> None:
        (tmp_path / "below").rename(source / "below")

    stamp.write(index, plans[0], report, put_back)
    assert (source / "below").exists()
    assert not stamp_file().exists()


@pytest.mark.parametrize(
    ("same", "config"), [(True, None), (False, None), (True, "")], ids=["the same", "other", "other file"]
)
def test_the_source_that_a_sync_notes_is_no_change_if_the_settings_stay_the_same(
    same: bool, config: str | None, open_index: OpenIndex, source: Path, tmp_path: Path
) -> None:
    """``config``: a settings' file that somebody else wrote since the command began."""

    def is_noted(attempt: int) -> bool:
        index = open_index()
        plans: list[Planned] = []
        stamp = settled_stamp()
        stamp.begin(index, "default")
        if config is not None:
            write(tmp_path, "rag_assets.toml", config)
        with stamp.remembering(lambda: same):
            write(tmp_path, "home/collections.json", json.dumps({"default": str(source), "other": attempt}))
        report = sync(index, "default", lambda: DirectRunner(index), accepted=plans.append)
        stamp.write(index, plans[0], report, lambda _: None)
        (tmp_path / "rag_assets.toml").unlink(missing_ok=True)
        return stamp_file().exists()

    corpus(source, 2)
    assert any(map(is_noted, range(ATTEMPTS))) == (same and config is None)


def test_after_a_rollback_every_sync_looks(indexed: Callable[..., SyncReport], open_index: OpenIndex) -> None:
    """Whether what is live can follow the documents depends on its own model, too."""
    other = {"chunking": {"max_tokens": 32, "overlap_tokens": 0}}
    assert indexed(**other).generation["promoted"]
    promotion.rollback(open_index(), "default", who="test")
    stamp_file().unlink(missing_ok=True)
    assert indexed(**other).nothing_changed
    assert indexed(**other).nothing_changed
    assert not stamp_file().exists()


def test_a_sync_that_is_done_is_not_spoilt_by_what_can_not_be_noted(open_index: OpenIndex, source: Path) -> None:
    def interrupted(_: SyncReport) -> NoReturn:
        raise KeyboardInterrupt

    def gone(_: SyncReport) -> NoReturn:
        raise psycopg.errors.UndefinedTable

    corpus(source, 2)
    for describe in (interrupted, gone):
        index = open_index()
        plans: list[Planned] = []
        stamp = settled_stamp()
        stamp.begin(index, "default")
        report = sync(index, "default", partial(DirectRunner, index), accepted=plans.append)
        stamp.write(index, plans[0], report, describe)
        assert not stamp_file().exists()


def test_a_sync_whose_index_was_refused_leaves_no_stamp(open_index: OpenIndex, source: Path) -> None:
    write(source, "empty.md", "")
    for _ in range(2):
        assert noted(open_index()).refused
        assert not stamp_file().exists()


class Locked:
    """A folder, one of whose files can't be read just now."""

    def __init__(self, folder: DocumentSource) -> None:
        self._folder = folder

    def digest(self, path: bytes) -> Any:
        """See ``DocumentSource``."""
        if path == b"locked.md":
            raise FileUnreadable("locked.md can't be read.")
        return self._folder.digest(path)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._folder, name)


def test_what_could_not_be_read_leaves_no_stamp(open_index: OpenIndex, source: Path) -> None:
    corpus(source, 4)
    run(open_index())
    write(source, "locked.md", "# Locked\n")
    for _ in range(2):  # the first notes the file, and what is written to the database has the next look anyway
        index = open_index()
        index._sources["default"] = Locked(index.source("default"))  # type: ignore[assignment]
        assert noted(index).nothing_changed
    assert not stamp_file().exists()


def test_a_model_behind_a_server_leaves_no_stamp(open_index: OpenIndex, source: Path) -> None:
    corpus(source, 2)
    model = {"embedder": {"backend": "litellm", "model": "all-MiniLM-L6-v2"}}
    run(open_index(**model))
    assert noted(open_index(**model)).nothing_changed
    assert not stamp_file().exists()


def test_a_generation_that_stands_elsewhere_leaves_no_stamp(
    open_index: OpenIndex, source: Path, postgres_url: str
) -> None:
    corpus(source, 2)
    run(open_index())
    with psycopg.connect(postgres_url) as connection:
        # One that was left for PostgreSQL, and whose server is gone: each sync tries to catch up with it there.
        connection.execute("""
            INSERT INTO rag.generation (collection, sequence, chunker_fp, embedder_fp, index_fp, dimension, state, config)
            SELECT collection, sequence + 1, chunker_fp, embedder_fp, 'other', dimension, 'retired',
                config || '{"store": {"kind": "weaviate"}}' FROM rag.generation""")
    weaviate = {"weaviate": {"url": "http://127.0.0.1:1"}}
    for _ in range(2):  # at first its client is imported, which adds to where Python imports from
        assert noted(open_index(**weaviate)).nothing_changed
    assert not stamp_file().exists()


def test_a_damaged_stamp_counts_for_nothing(indexed: Callable[..., SyncReport]) -> None:
    assert is_known_after(indexed)
    whole = stamp_file().read_text(encoding="utf-8")
    for content in ("", "[]", "{}", whole[:100], whole.replace('"cluster"', '"clusters"'), "\0"):
        stamp_file().write_text(content, encoding="utf-8")
        assert known() is None, content


def test_a_database_that_does_not_answer_is_left_to_the_sync(
    indexed: Callable[..., SyncReport], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert is_known_after(indexed)
    content = json.loads(stamp_file().read_text(encoding="utf-8"))
    monkeypatch.setenv("RAG_POSTGRES_URL", "postgresql://rag@127.0.0.1:1/rag")
    there = Stamp(CALL)._call
    assert there is not None
    stamp_file().write_text(json.dumps({**content, "call": there.digest}), encoding="utf-8")
    assert known() is None


def test_a_folder_that_was_put_in_place_meanwhile_leaves_no_stamp(
    open_index: OpenIndex, source: Path, tmp_path: Path
) -> None:
    corpus(source, 2)
    run(open_index())
    (tmp_path / "other").mkdir()
    source.rename(tmp_path / "real")
    source.symlink_to("real")

    def replace() -> None:
        source.unlink()
        source.symlink_to("other")

    assert noted(open_index(), meanwhile=replace).nothing_changed
    assert not stamp_file().exists()
    source.unlink()
    source.symlink_to("real")
    assert noted(open_index()).nothing_changed
    assert stamp_file().exists()
