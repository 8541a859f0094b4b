"""Which syncs leave a stamp, so that the next one need not look."""

import json
import os
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
from rag_assets_tests.driving import OpenIndex, corpus, query, run, write
from rag_assets_tests.fakes import DirectRunner
from rag_assets_tests.indexing.stamping import (
    ATTEMPTS,
    FORGET_ONE,
    known,
    noted,
    rewrite,
    settled_stamp,
    stamp_file,
)

pytestmark = pytest.mark.usefixtures("called")


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
