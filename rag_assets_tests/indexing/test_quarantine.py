"""Files that can't be parsed: left alone until something changed that could make a difference."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rag_assets.errors import ConfigurationError, UnparsableDocument
from rag_assets.indexing.planning import ask_retry, make_plan
from rag_assets.models import ParsedDocument
from rag_assets.plan import Kind
from rag_assets_tests.driving import OpenIndex, WarmRuntime, corpus, documents, live_rows, run, wanted_rows, write


class CountingParsers:
    """Notes what is parsed."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.parsed: list[str] = []

    def parse(self, uri: str, data: bytes) -> ParsedDocument:
        return self._inner.parse(uri, data)  # type: ignore[no-any-return]

    def warm(self, uris: Iterable[str]) -> None:
        self._inner.warm(uris)

    def parse_many(self, items: Iterable[tuple[str, bytes]]) -> Iterator[ParsedDocument | UnparsableDocument]:
        def noted() -> Iterator[tuple[str, bytes]]:
            for uri, data in items:
                self.parsed.append(uri)
                yield uri, data

        return self._inner.parse_many(noted())  # type: ignore[no-any-return]


def counting(runtime: WarmRuntime) -> list[str]:
    """From now on, what the runtime parses."""
    counter = CountingParsers(runtime.parsers)
    runtime._warm = counter  # type: ignore[assignment]
    return counter.parsed


@pytest.fixture
def broken(index: WarmRuntime, source: Path) -> WarmRuntime:
    """An index of eight documents, with two files in quarantine."""
    corpus(source)
    write(source, "empty.md", "")
    write(source, "bad.docx", "this is no archive")
    assert run(index).documents["quarantined"] == 2
    return index


def test_a_sync_with_nothing_to_do_parses_nothing(broken: WarmRuntime) -> None:
    parsed = counting(broken)
    assert run(broken).nothing_changed
    assert run(broken, verify=True).nothing_changed
    assert parsed == []


@pytest.mark.parametrize("limit", [{"timeout_seconds": 61}, {"memory_mb": 2049}, {"max_file_mb": 101}])
def test_a_raised_limit_tries_the_quarantined_files_again_and_no_other(
    broken: WarmRuntime, open_index: OpenIndex, limit: dict[str, int]
) -> None:
    index = open_index(parsing=limit)
    parsed = counting(index)
    assert run(index).documents["quarantined"] == 2
    assert sorted(parsed) == ["bad.docx", "empty.md"]
    assert run(index).nothing_changed
    assert len(parsed) == 2


def test_a_file_too_big_for_its_limit_is_indexed_once_the_limit_is_raised(open_index: OpenIndex, source: Path) -> None:
    corpus(source)
    write(source, "big.md", "# Big\n\n" + "It has many words. " * 200)
    tight = open_index(parsing={"max_file_mb": 0.002})
    assert run(tight).documents["quarantined"] == 1
    assert "big.md" not in documents(tight)
    wide = open_index(parsing={"max_file_mb": 1})
    parsed = counting(wide)
    assert run(wide).documents["quarantined"] == 0
    assert parsed == ["big.md"]
    assert live_rows(wide) == wanted_rows(wide, source)


def test_a_changed_file_is_tried_again_and_a_merely_touched_one_is_not(broken: WarmRuntime, source: Path) -> None:
    parsed = counting(broken)
    os.utime(source / "bad.docx", (1, 1))
    assert run(broken).nothing_changed
    assert parsed == []
    write(source, "empty.md", "# Healed\n\nThere is text now.\n")
    assert run(broken).documents["quarantined"] == 1
    assert parsed == ["empty.md"]
    assert "empty.md" in documents(broken)


@pytest.mark.parametrize("asked", [None, ["empty.md"]])
def test_a_retry_tries_what_was_asked_for_once(broken: WarmRuntime, asked: list[str] | None) -> None:
    parsed = counting(broken)
    wanted = asked or ["bad.docx", "empty.md"]
    assert ask_retry(broken, "default", asked) == wanted
    run(broken)
    assert sorted(parsed) == wanted
    assert run(broken).nothing_changed
    assert sorted(parsed) == wanted


def test_a_retry_of_what_is_not_in_quarantine_is_refused_and_asks_for_nothing(broken: WarmRuntime) -> None:
    with pytest.raises(ConfigurationError, match=r"Not in quarantine in collection 'default': d01\.md"):
        ask_retry(broken, "default", ["empty.md", "d01.md"])
    assert make_plan(broken, "default").plan.is_empty


def test_without_time_suspects_are_taken_for_changed_and_the_next_look_knows_better(
    index: WarmRuntime, source: Path
) -> None:
    corpus(source)
    run(index)
    write(source, "d01.md", "# Changed\n\nIt says something else now.\n")
    os.utime(source / "d02.md", (1, 1))
    (source / "d03.md").rename(source / "moved.md")
    hurried = make_plan(index, "default", deadline=0.0)
    assert not hurried.complete
    found = {change.uri: change.kind for change in hurried.plan.changes}
    assert found == {
        "d01.md": Kind.CHANGED, "d02.md": Kind.CHANGED, "d03.md": Kind.REMOVED, "moved.md": Kind.ADDED,
    }  # fmt: skip
    assert hurried.plan.touched == ()
    assert set(hurried.plan.dirty_shards) == {change.shard for change in hurried.plan.changes}
    calm = make_plan(index, "default", deadline=float("inf"))
    assert calm.complete
    assert {change.uri: change.kind for change in calm.plan.changes} == {
        "d01.md": Kind.CHANGED, "moved.md": Kind.RENAMED,
    }  # fmt: skip
    assert [file.uri for file in calm.plan.touched] == ["d02.md"]
