"""What each kind of change to the folder does to the live index, and what it costs."""

import os
import shutil
from pathlib import Path

import pytest

from rag_assets.documents.listing import changed_at
from rag_assets.errors import ConfigurationError
from rag_assets_tests.driving import (
    OpenIndex,
    WarmRuntime,
    corpus,
    documents,
    live,
    live_rows,
    planned,
    query,
    run,
    wanted_rows,
    write,
)

FRONT_MATTER = "---\nauthor: {}\n---\n# Leave\n\nParental leave is up to 14 months.\n"


def payloads(runtime: WarmRuntime, name: str) -> list[dict[str, object]]:
    rows = query(
        runtime,
        "SELECT payload FROM index_entry WHERE generation_id = %s AND payload ->> 'document' = %s",
        live(runtime).id,
        name,
    )
    return [row[0] for row in rows]


def test_an_edit_of_metadata_alone_embeds_nothing_and_rewrites_the_payload(index: WarmRuntime, source: Path) -> None:
    corpus(source)
    write(source, "leave.md", FRONT_MATTER.format("Ann"))
    run(index)
    before = live_rows(index)
    index.embedded.clear()
    write(source, "leave.md", FRONT_MATTER.format("Bob"))
    report = run(index)
    assert index.embedded == []
    assert (report.documents["metadata_only"], report.documents["changed"]) == (1, 0)
    assert (report.chunks["added"], report.chunks["removed"]) == (0, 0)
    assert [payload["author"] for payload in payloads(index, "leave.md")] == ["Bob"]
    assert live_rows(index) == before


def test_the_same_content_at_two_paths_is_embedded_once_and_found_under_both(index: WarmRuntime, source: Path) -> None:
    text = "# Leave\n\nParental leave is up to 14 months.\n"
    for name in ("a.md", "b/c.md", "d.md"):
        write(source, name, text)
    report = run(index)
    assert report.documents["added"] == 3
    assert len(index.embedded) == report.embeddings["computed"] == 1
    assert documents(index) == {"a.md", "b/c.md", "d.md"}
    assert live_rows(index) == wanted_rows(index, source)


def test_deleting_one_of_two_equal_files_keeps_the_other(index: WarmRuntime, source: Path) -> None:
    corpus(source)
    write(source, "copy.md", (source / "d00.md").read_text())
    run(index)
    (source / "d00.md").unlink()
    run(index)
    assert "copy.md" in documents(index)
    assert live_rows(index) == wanted_rows(index, source)


def test_a_file_that_can_not_be_parsed_is_quarantined_and_heals(index: WarmRuntime, source: Path) -> None:
    corpus(source)
    write(source, "broken.md", "")
    report = run(index)
    assert report.documents["quarantined"] == 1
    assert report.documents["added"] == 8
    assert run(index).nothing_changed
    write(source, "broken.md", "# Healed\n\nThere is text now.\n")
    report = run(index)
    assert report.documents["quarantined"] == 0
    assert "broken.md" in documents(index)
    assert live_rows(index) == wanted_rows(index, source)


def test_a_file_that_no_longer_parses_loses_its_rows(index: WarmRuntime, source: Path) -> None:
    corpus(source)
    run(index)
    write(source, "d01.md", "")
    report = run(index)
    assert report.documents["quarantined"] == 1
    assert "d01.md" not in documents(index)
    assert live_rows(index) == wanted_rows(index, source)
    assert run(index).nothing_changed


def test_a_vanished_third_is_kept_until_a_person_confirms(index: WarmRuntime, source: Path) -> None:
    corpus(source, 9)
    run(index)
    before = live_rows(index)
    for number in range(3):
        (source / f"d{number:02d}.md").unlink()
    write(source, "new.md", "# New\n\nOther work goes on.\n")
    report = run(index)
    assert sorted(report.withheld) == ["d00.md", "d01.md", "d02.md"]
    assert report.documents["removed"] == 0
    assert live_rows(index).keys() > before.keys()
    assert run(index).withheld == report.withheld
    report = run(index, allow_mass_delete=True)
    assert report.documents["removed"] == 3
    assert live_rows(index) == wanted_rows(index, source)


def test_a_file_that_is_back_before_it_is_deleted_is_kept(open_index: OpenIndex, source: Path) -> None:
    """The second look: absent from the listing, present when asked for by name."""
    from rag_assets.indexing import raw_documents

    index = open_index()
    corpus(source)
    run(index)
    text = (source / "d02.md").read_text()
    (source / "d02.md").unlink()
    made = planned(index)
    (shard,) = made.dirty_shards
    write(source, "d02.md", text)
    raw_documents.materialize(index, made, shard)
    assert "d02.md" in documents(index)
    assert query(index, "SELECT count(*) FROM document WHERE title = 'Document 2'") == [(1,)]


def test_a_file_that_a_setting_excludes_now_stops_answering(open_index: OpenIndex, source: Path) -> None:
    corpus(source)
    write(source, "drafts/plan.md", "# Plan\n\nNot for everyone.\n")
    run(open_index())
    excluding = open_index(collection={"exclude": ["drafts/*"]})
    report = run(excluding)
    assert documents(excluding) == {f"d{number:02d}.md" for number in range(8)}
    assert report.documents["removed"] == 1
    assert run(excluding).nothing_changed
    assert "drafts/plan.md" in {row[0] for row in wanted_rows(excluding, source).values()}
    assert run(open_index()).documents["added"] == 1


def test_a_file_in_whose_place_is_a_folder_now_stops_answering(index: WarmRuntime, source: Path) -> None:
    corpus(source)
    run(index)
    (source / "d03.md").unlink()
    write(source, "d03.md/inner.md", "# Inner\n\nIn a folder of that name.\n")
    run(index)
    assert "d03.md" not in documents(index)
    assert "d03.md/inner.md" in documents(index)
    assert run(index).nothing_changed


def test_a_file_that_moves_and_changes_is_removed_and_added(index: WarmRuntime, source: Path) -> None:
    corpus(source)
    run(index)
    (source / "d03.md").unlink()
    write(source, "moved.md", "# Moved\n\nAnd changed on the way.\n")
    report = run(index)
    assert (report.documents["added"], report.documents["removed"], report.documents["renamed"]) == (1, 1, 0)
    assert live_rows(index) == wanted_rows(index, source)


def test_content_that_changed_and_came_back_is_embedded_once(index: WarmRuntime, source: Path) -> None:
    corpus(source)
    first = (source / "d04.md").read_text()
    run(index)
    before = live_rows(index)
    write(source, "d04.md", "# Other\n\nFor a while.\n")
    run(index)
    index.embedded.clear()
    write(source, "d04.md", first)
    report = run(index)
    assert report.documents["changed"] == 1
    assert index.embedded == []
    assert live_rows(index) == before


def test_a_document_that_was_deleted_and_came_back_is_embedded_once(index: WarmRuntime, source: Path) -> None:
    corpus(source)
    text = (source / "d04.md").read_text()
    run(index)
    before = live_rows(index)
    (source / "d04.md").unlink()
    assert run(index).documents["removed"] == 1
    index.embedded.clear()
    write(source, "d04.md", text)
    assert run(index).embeddings == {"computed": 0, "reused": 1}
    assert index.embedded == []
    assert live_rows(index) == before


def test_a_touched_file_costs_a_hash_and_nothing_else(index: WarmRuntime, source: Path) -> None:
    corpus(source)
    run(index)
    os.utime(source / "d05.md", (1, 1))
    report = run(index)
    assert report.nothing_changed
    assert planned(index).touched == ()


def test_an_edit_that_size_and_modification_time_hide_is_found(index: WarmRuntime, source: Path) -> None:
    corpus(source)
    run(index)
    path = source / "d05.md"
    times = (path.stat().st_atime_ns, path.stat().st_mtime_ns)
    path.write_text(path.read_text().replace("tells", "sings"))
    os.utime(path, ns=times)
    assert run(index).documents["changed"] == 1
    assert live_rows(index) == wanted_rows(index, source)


def test_a_file_replaced_by_one_of_its_size_and_time_is_found(index: WarmRuntime, source: Path) -> None:
    corpus(source)
    for number in (3, 5):
        write(source, f"d0{number}.md", f"# Document {number}\n\nOf one size, and written in one moment.\n")
        os.utime(source / f"d0{number}.md", ns=(1, 10**18))
    run(index)
    os.replace(source / "d03.md", source / "d05.md")
    run(index)
    assert live_rows(index) == wanted_rows(index, source)


def test_an_edit_that_no_time_tells_is_found_by_a_verifying_sync(index: WarmRuntime, source: Path) -> None:
    corpus(source)
    run(index)
    path = source / "d05.md"
    path.write_text(path.read_text().replace("tells", "sings"))
    # As where a clock was set back, or a remote file system keeps no such times.
    query(index, "UPDATE source_file SET changed_ns = %s WHERE uri = 'd05.md'", changed_at(path.stat()))
    assert run(index).nothing_changed
    assert run(index, verify=True).documents["changed"] == 1
    assert live_rows(index) == wanted_rows(index, source)


def test_an_edit_that_changes_no_text_rewrites_no_row(index: WarmRuntime, source: Path) -> None:
    corpus(source)
    run(index)
    before = query(index, "SELECT chunk_id, xmin::text FROM index_entry ORDER BY 1")
    path = source / "d05.md"
    path.write_text(path.read_text() + "\n\n\n")
    run(index)
    assert query(index, "SELECT chunk_id, xmin::text FROM index_entry ORDER BY 1") == before
    assert run(index).nothing_changed


def test_an_empty_folder_is_refused_with_its_name(index: WarmRuntime, source: Path) -> None:
    with pytest.raises(ConfigurationError, match=f"The source {source} holds no document"):
        run(index)


def test_a_folder_of_unusable_files_is_refused_and_says_how_many(index: WarmRuntime, source: Path) -> None:
    write(source, "program.exe", "x")
    with pytest.raises(ConfigurationError, match=r"1 files in it were skipped; `rag-assets status` says why"):
        run(index)


def test_a_missing_folder_is_refused_and_deletes_nothing(index: WarmRuntime, source: Path) -> None:
    corpus(source)
    run(index)
    before = live_rows(index)
    source.rename(source.with_name("unmounted"))
    with pytest.raises(ConfigurationError, match="does not exist"):
        run(index, allow_mass_delete=True)
    assert live_rows(index) == before


def test_a_folder_that_became_empty_keeps_answering_until_a_person_confirms(index: WarmRuntime, source: Path) -> None:
    corpus(source, 3)
    run(index)
    before = live_rows(index)
    for path in source.iterdir():
        path.unlink()
    assert len(run(index).withheld) == 3
    assert live_rows(index) == before
    run(index, allow_mass_delete=True)
    assert live_rows(index) == {}


@pytest.mark.parametrize("shards", [1, 7])
def test_another_number_of_shards_embeds_nothing_and_moves_nothing(
    open_index: OpenIndex, source: Path, shards: int
) -> None:
    corpus(source)
    run(open_index())
    resharded = open_index(sync={"shards": shards})
    assert run(resharded).nothing_changed
    assert resharded.embedded == []
    write(source, "d00.md", "# Changed\n\nUnder the new number of shards.\n")
    (source / "d01.md").unlink()
    run(resharded)
    assert len(resharded.embedded) == 1
    assert live_rows(resharded) == wanted_rows(resharded, source)


def test_a_failed_listing_of_a_folder_deletes_nothing(index: WarmRuntime, source: Path) -> None:
    corpus(source)
    run(index)
    (source / "d01.md").unlink()
    bury(source)
    report = run(index)
    assert report.documents["removed"] == 0
    assert "d01.md" in documents(index)
    shutil.rmtree(source / ("x" * 250))
    assert run(index).documents["removed"] == 1


def bury(folder: Path) -> None:
    """Make folders too deep for their paths to be opened: no user, not even root, can list them."""
    descriptor = os.open(folder, os.O_RDONLY)
    for _ in range(20):
        os.mkdir("x" * 250, dir_fd=descriptor)
        deeper = os.open("x" * 250, os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = deeper
    os.close(descriptor)
