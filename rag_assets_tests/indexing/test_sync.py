"""What a sync leaves behind, compared with what plain Python says it should be."""

from pathlib import Path

import pytest

from rag_assets.errors import GateRefused
from rag_assets_tests.driving import OpenIndex, WarmRuntime, corpus, documents, live_rows, run, wanted_rows, write


def test_a_first_sync_indexes_every_document_and_makes_it_live(open_index: OpenIndex, source: Path) -> None:
    corpus(source, 12)
    index = open_index(sync={}, chunking={})  # as many shards, and chunks as long, as without any setting
    report = run(index)
    assert report.generation["promoted"]
    assert report.documents["added"] == 12
    assert live_rows(index) == wanted_rows(index, source)


def test_a_second_sync_runs_no_shard_and_embeds_nothing(index: WarmRuntime, source: Path) -> None:
    corpus(source)
    run(index)
    before = len(index.embedded)
    report = run(index)
    assert report.nothing_changed
    assert report.shards == []
    assert len(index.embedded) == before


def test_an_edit_embeds_only_the_new_text_and_removes_the_old_row(index: WarmRuntime, source: Path) -> None:
    corpus(source)
    run(index)
    index.embedded.clear()
    write(source, "d03.md", "# Document 3\n\nEverything about it is different now.\n")
    report = run(index)
    assert report.documents["changed"] == 1
    assert len(index.embedded) == report.embeddings["computed"] == 1
    assert live_rows(index) == wanted_rows(index, source)


def test_a_deleted_document_stops_answering(index: WarmRuntime, source: Path) -> None:
    corpus(source)
    run(index)
    (source / "d05.md").unlink()
    report = run(index)
    assert report.documents["removed"] == 1
    assert live_rows(index) == wanted_rows(index, source)
    assert "d05.md" not in documents(index)


def test_a_rename_embeds_nothing(index: WarmRuntime, source: Path) -> None:
    corpus(source)
    run(index)
    index.embedded.clear()
    (source / "d05.md").rename(source / "moved.md")
    report = run(index)
    assert (report.documents["renamed"], report.documents["removed"], report.documents["added"]) == (1, 0, 0)
    assert index.embedded == []
    assert live_rows(index) == wanted_rows(index, source)


def test_a_renamed_file_without_a_title_embeds_nothing(index: WarmRuntime, source: Path) -> None:
    corpus(source)
    (source / "untitled.csv").write_text("name,limit\nrail,100\n", encoding="utf-8")
    run(index)
    index.embedded.clear()
    (source / "untitled.csv").rename(source / "limits.csv")
    assert run(index).documents["renamed"] == 1
    assert index.embedded == []


def test_a_folder_that_shares_nothing_with_the_index_changes_nothing(index: WarmRuntime, source: Path) -> None:
    corpus(source)
    run(index)
    before = live_rows(index)
    for path in source.iterdir():
        path.unlink()
    write(source, "other.md", "# Other\n\nAnother set of documents altogether.\n")
    with pytest.raises(GateRefused, match="allow-mass-delete"):
        run(index)
    assert live_rows(index) == before
    run(index, allow_mass_delete=True)
    assert documents(index) == {"other.md"}
