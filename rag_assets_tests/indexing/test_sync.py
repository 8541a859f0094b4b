"""What a sync leaves behind, compared with what plain Python says it should be."""

import os
from pathlib import Path

import numpy as np
import pytest

from rag_assets.chunking import chunk_document, identify
from rag_assets.documents.parsing import ParserPool
from rag_assets.errors import GateRefused
from rag_assets.fingerprint import document_id
from rag_assets.indexing.sync import SyncReport, sync
from rag_assets.runtime import Runtime
from rag_assets_tests.fakes import DirectRunner, FakeEmbedder, index_rows


def run(runtime: Runtime, **options: bool) -> SyncReport:
    return sync(runtime, "default", lambda: DirectRunner(runtime), **options)


def wanted_rows(runtime: Runtime, source: Path) -> dict[str, object]:
    """The oracle: the exact rows a folder's bytes ask for, computed without ledger, plan or database."""
    embedder = FakeEmbedder()
    rows: dict[str, object] = {}
    with ParserPool(runtime.settings.parsing) as parsers:
        for path in sorted(source.rglob("*.md")):
            name = path.relative_to(source).as_posix()
            document = parsers.parse(name, path.read_bytes())
            drafts = chunk_document(document, runtime.chunking("default"), embedder)
            for chunk in identify(document_id("default", os.fsencode(name)), drafts):
                vector = embedder.vector(chunk.draft.embedded_text).astype(np.float16).astype(np.float32)
                rows[chunk.chunk_id] = (name, chunk.draft.text, chunk.text_hash, tuple(vector.tolist()))
    return rows


def write(source: Path, name: str, text: str) -> Path:
    path = source / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def corpus(source: Path, count: int = 12) -> None:
    for number in range(count):
        paragraphs = "\n\n".join(
            f"Paragraph {n} of document {number} tells of topic {number * 7 + n}." for n in range(3)
        )
        write(source, f"d{number:02d}.md", f"# Document {number}\n\n{paragraphs}\n")


def live_rows(runtime: Runtime) -> dict[str, object]:
    live = runtime.live("default")
    assert live is not None
    return index_rows(runtime, live.id)


def test_a_first_sync_indexes_every_document_and_makes_it_live(runtime: Runtime, source: Path) -> None:
    corpus(source)
    report = run(runtime)
    assert report.generation["promoted"]
    assert report.documents["added"] == 12
    assert live_rows(runtime) == wanted_rows(runtime, source)


def test_a_second_sync_runs_no_shard_and_embeds_nothing(runtime: Runtime, source: Path) -> None:
    corpus(source)
    run(runtime)
    before = len(runtime.embedder.embedded)
    report = run(runtime)
    assert report.nothing_changed
    assert report.shards == []
    assert len(runtime.embedder.embedded) == before


def test_an_edit_embeds_only_the_new_text_and_removes_the_old_row(runtime: Runtime, source: Path) -> None:
    corpus(source)
    run(runtime)
    runtime.embedder.embedded.clear()
    write(source, "d03.md", "# Document 3\n\nEverything about it is different now.\n")
    report = run(runtime)
    assert report.documents["changed"] == 1
    assert len(runtime.embedder.embedded) == report.embeddings["computed"] == 1
    assert live_rows(runtime) == wanted_rows(runtime, source)


def test_a_deleted_document_stops_answering(runtime: Runtime, source: Path) -> None:
    corpus(source)
    run(runtime)
    (source / "d05.md").unlink()
    report = run(runtime)
    assert report.documents["removed"] == 1
    assert live_rows(runtime) == wanted_rows(runtime, source)
    assert not any(row[0] == "d05.md" for row in live_rows(runtime).values())


def test_a_rename_embeds_nothing(runtime: Runtime, source: Path) -> None:
    corpus(source)
    run(runtime)
    runtime.embedder.embedded.clear()
    (source / "d05.md").rename(source / "moved.md")
    report = run(runtime)
    assert (report.documents["renamed"], report.documents["removed"], report.documents["added"]) == (1, 0, 0)
    assert runtime.embedder.embedded == []
    assert live_rows(runtime) == wanted_rows(runtime, source)


def test_a_renamed_file_without_a_title_embeds_nothing(runtime: Runtime, source: Path) -> None:
    corpus(source)
    (source / "untitled.csv").write_text("name,limit\nrail,100\n", encoding="utf-8")
    run(runtime)
    runtime.embedder.embedded.clear()
    (source / "untitled.csv").rename(source / "limits.csv")
    assert run(runtime).documents["renamed"] == 1
    assert runtime.embedder.embedded == []


def test_a_folder_that_shares_nothing_with_the_index_changes_nothing(runtime: Runtime, source: Path) -> None:
    corpus(source)
    run(runtime)
    before = live_rows(runtime)
    for path in source.iterdir():
        path.unlink()
    write(source, "other.md", "# Other\n\nAnother set of documents altogether.\n")
    with pytest.raises(GateRefused, match="allow-mass-delete"):
        run(runtime)
    assert live_rows(runtime) == before
    run(runtime, allow_mass_delete=True)
    assert {row[0] for row in live_rows(runtime).values()} == {"other.md"}
