"""What ``plan`` announces is what the following ``sync`` then reports, count by count."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rag_assets.indexing import chunks, raw_documents
from rag_assets.indexing.planning import make_plan
from rag_assets.indexing.preview import Preview, preview
from rag_assets_tests.driving import OpenIndex, WarmRuntime, corpus, planned, query, run, write

Change = Callable[[Path, WarmRuntime], dict[str, Any] | None]
"""Changes the folder, or begins work and is killed; returns other settings for the sync that follows."""


def announced(runtime: WarmRuntime) -> Preview:
    return preview(runtime, make_plan(runtime, "default"))


def nothing(source: Path, _: WarmRuntime) -> None:
    pass


def add(source: Path, _: WarmRuntime) -> None:
    write(source, "new.md", "# New\n\nA paragraph.\n\n" + "Another, rather longer paragraph. " * 30)


def edit(source: Path, _: WarmRuntime) -> None:
    path = source / "d01.md"
    path.write_text(path.read_text().replace("Paragraph 1", "The first paragraph"))


def delete(source: Path, _: WarmRuntime) -> None:
    (source / "d01.md").unlink()


def rename(source: Path, _: WarmRuntime) -> None:
    (source / "d01.md").rename(source / "moved.md")


def metadata(source: Path, _: WarmRuntime) -> None:
    write(source, "front.md", "---\nauthor: Bob\n---\n# Front\n\nMatter.\n")


def no_text(source: Path, _: WarmRuntime) -> None:
    path = source / "d01.md"
    path.write_text(path.read_text() + "\n\n")


def duplicate(source: Path, _: WarmRuntime) -> None:
    write(source, "copy.md", (source / "d01.md").read_text())


def new_duplicates(source: Path, _: WarmRuntime) -> None:
    for name in ("x.md", "y.md", "z.md"):
        write(source, name, "# Equal\n\nThree files of the same new content.\n")


def breaks(source: Path, _: WarmRuntime) -> None:
    write(source, "d01.md", "")


def heals(source: Path, _: WarmRuntime) -> None:
    write(source, "broken.md", "# Healed\n\nThere is text now.\n")


def still_broken(source: Path, _: WarmRuntime) -> None:
    (source / "broken.md").rename(source / "broken-too.md")


def unusable(source: Path, _: WarmRuntime) -> None:
    write(source, "program.exe", "x")


def touch(source: Path, _: WarmRuntime) -> None:
    os.utime(source / "d01.md", (1, 1))


def mass_delete(source: Path, _: WarmRuntime) -> None:
    for number in range(4):
        (source / f"d{number:02d}.md").unlink()


def everything(source: Path, runtime: WarmRuntime) -> None:
    for change in (add, edit, metadata, new_duplicates, heals):
        change(source, runtime)
    (source / "d05.md").rename(source / "moved.md")
    (source / "d06.md").unlink()


def model(source: Path, _: WarmRuntime) -> dict[str, Any]:
    return {"embedder": {"model": "2"}}


def model_and_edit(source: Path, runtime: WarmRuntime) -> dict[str, Any]:
    edit(source, runtime)
    return {"embedder": {"model": "2"}}


def chunk_size(source: Path, _: WarmRuntime) -> dict[str, Any]:
    return {"chunking": {"max_tokens": 24, "overlap_tokens": 0}}


def hnsw(source: Path, _: WarmRuntime) -> dict[str, Any]:
    return {"index": {"m": 8}}


def killed_after_parsing(source: Path, runtime: WarmRuntime) -> None:
    edit(source, runtime)
    add(source, runtime)
    for shard in planned(runtime).dirty_shards:
        raw_documents.materialize(runtime, planned(runtime), shard)


def killed_after_quarantining(source: Path, runtime: WarmRuntime) -> None:
    breaks(source, runtime)
    for shard in planned(runtime).dirty_shards:
        raw_documents.materialize(runtime, planned(runtime), shard)


def killed_after_forgetting(source: Path, runtime: WarmRuntime) -> None:
    delete(source, runtime)
    for shard in planned(runtime).dirty_shards:
        raw_documents.materialize(runtime, planned(runtime), shard)


def killed_after_cutting(source: Path, runtime: WarmRuntime) -> None:
    killed_after_parsing(source, runtime)
    for shard in planned(runtime).dirty_shards:
        chunks.materialize(runtime, "default", shard)


@pytest.mark.parametrize(
    "change",
    [
        nothing, add, edit, delete, rename, metadata, no_text, duplicate, new_duplicates, breaks, heals, still_broken,
        unusable, touch, mass_delete, everything, model, model_and_edit, chunk_size, hnsw, killed_after_parsing,
        killed_after_quarantining, killed_after_forgetting, killed_after_cutting,
    ],
)  # fmt: skip
def test_the_announced_counts_are_the_reported_ones(open_index: OpenIndex, source: Path, change: Change) -> None:
    corpus(source)
    write(source, "front.md", "---\nauthor: Ann\n---\n# Front\n\nMatter.\n")
    write(source, "broken.md", "")
    first = open_index()
    run(first)
    index = open_index(**(change(source, first) or {}))
    expected = announced(index)
    report = run(index)
    assert dict(expected.documents) == dict(report.documents)
    assert dict(expected.chunks) == dict(report.chunks)
    assert dict(expected.embeddings) == dict(report.embeddings)
    assert list(expected.withheld) == list(report.withheld)


def test_the_counts_of_a_first_sync_are_announced_too(index: WarmRuntime, source: Path) -> None:
    corpus(source)
    write(source, "broken.md", "")
    write(source, "copy.md", (source / "d00.md").read_text())
    expected = announced(index)
    report = run(index)
    assert dict(expected.documents) == dict(report.documents)
    assert dict(expected.chunks) == dict(report.chunks)
    assert dict(expected.embeddings) == dict(report.embeddings)
    assert expected.embeddings["computed"] == len(index.embedded)


def test_announcing_writes_nothing(index: WarmRuntime, source: Path) -> None:
    corpus(source)
    announced(index)
    tables = ("collection", "shard", "source_file", "document", "chunk", "embedding", "generation", "listing_problem")
    assert [query(index, f"SELECT count(*) FROM {table}") for table in tables] == [[(0,)]] * len(tables)
    assert index.embedded == []


def test_every_change_is_named_with_its_reason(index: WarmRuntime, source: Path) -> None:
    corpus(source)
    run(index)
    everything(source, index)
    found = {change["document"]: (change["kind"], change["reason"]) for change in announced(index).changes}
    assert found["d01.md"] == ("changed", "content changed")
    assert found["d06.md"] == ("removed", "no longer in the source")
    assert found["moved.md"] == ("renamed", "renamed from d05.md")
    assert found["new.md"] == ("added", "new file")


@pytest.mark.parametrize(
    ("change", "words"), [(model, "the embedding model"), (chunk_size, "the chunking settings"), (hnsw, "hnsw param")]
)
def test_a_changed_setting_is_the_first_reason(open_index: OpenIndex, source: Path, change: Change, words: str) -> None:
    corpus(source)
    first = open_index()
    run(first)
    index = open_index(**(change(source, first) or {}))
    reason = announced(index).reasons[0].lower()
    assert words in reason
    assert "changed since default#1" in reason


def test_tokens_are_those_of_the_texts_that_would_be_embedded(index: WarmRuntime, source: Path) -> None:
    corpus(source)
    expected = announced(index)
    run(index)
    (row,) = query(index, "SELECT sum(tokens) FROM (SELECT DISTINCT text_hash, tokens FROM chunk) texts")
    assert expected.tokens == row[0]
    assert announced(index).tokens == 0
