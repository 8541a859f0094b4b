"""While nothing has changed, the next sync is told so; whatever may be different has it look."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from rag_assets.indexing.sync_report import SyncReport
from rag_assets.stamp import Stamp
from rag_assets_tests.driving import write
from rag_assets_tests.indexing.stamping import (
    CALL,
    FORGET_ONE,
    is_known_after,
    known,
    rewrite,
    stamp_file,
)

pytestmark = pytest.mark.usefixtures("called")


def test_the_next_sync_reports_the_same_without_looking(indexed: Callable[..., SyncReport]) -> None:
    assert is_known_after(indexed)
    found, report = known(), indexed()
    assert found is not None
    for key in ("collection", "documents", "chunks", "embeddings", "generation", "shards", "withheld", "refused"):
        assert found[key] == getattr(report, key), key
    assert found["seconds"].keys() == report.seconds.keys()
    assert 0 < found["seconds"]["total"] < report.seconds["total"]


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
