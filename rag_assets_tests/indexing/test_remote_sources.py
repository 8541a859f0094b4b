"""A collection whose documents are in a bucket: followed like a folder, and no object read without need."""

from collections.abc import Iterator
from typing import Any

import pytest

from rag_assets.errors import ConfigurationError, GateRefused
from rag_assets.indexing.forgetting import forget
from rag_assets.indexing.planning import make_plan
from rag_assets.indexing.preview import preview
from rag_assets.indexing.sync import sync
from rag_assets.retrieval.search import search
from rag_assets_tests.driving import OpenIndex, WarmRuntime, documents, planned, run, write
from rag_assets_tests.fakes import DirectRunner
from rag_assets_tests.source_servers import CREDENTIALS, Bucket, Page, PageServer, S3Server


@pytest.fixture
def bucket(s3: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Bucket:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    found = s3.bucket(tmp_path_factory.mktemp("bucket").name)
    for number in range(6):
        found.put(f"docs/d{number}.md", text(number))
    found.put("elsewhere.md", b"# Not below the prefix\n\nIt is not asked for.\n")
    return found


def text(number: int, more: str = "") -> bytes:
    return f"# Document {number}\n\nParagraph of topic {number}{more}.\n".encode()


def collection(bucket: Bucket, prefix: str = "/docs") -> dict[str, Any]:
    return {"source": f"s3://{bucket.name}{prefix}", "options": {"endpoint_url": bucket.server.url}}


@pytest.fixture
def index(open_index: OpenIndex, bucket: Bucket) -> Iterator[WarmRuntime]:
    """An index of the bucket."""
    return open_index(collection=collection(bucket))


def test_a_bucket_is_synced_and_each_object_read_once(index: WarmRuntime, bucket: Bucket) -> None:
    report = run(index)
    assert (report.documents["added"], report.generation["promoted"]) == (6, True)
    assert documents(index) == {f"d{number}.md" for number in range(6)}
    assert sorted(bucket.read) == [f"docs/d{number}.md" for number in range(6)]


def test_only_what_changed_is_read_again(index: WarmRuntime, bucket: Bucket) -> None:
    run(index)
    bucket.put("docs/d1.md", text(1, " anew"))
    bucket.delete("docs/d2.md")
    bucket.delete("docs/d3.md")
    bucket.put("docs/moved.md", text(3))
    report = run(index)
    found = {kind: count for kind, count in report.documents.items() if count}
    assert found == {"changed": 1, "removed": 1, "renamed": 1, "unchanged": 3}
    assert documents(index) == {"d0.md", "d1.md", "moved.md", "d4.md", "d5.md"}
    # What is gone is asked for once more by its name before it is deleted: a second look.
    assert sorted(bucket.read) == ["docs/d1.md", "docs/d2.md", "docs/d3.md", "docs/moved.md"]


def test_what_did_not_change_costs_one_listing(index: WarmRuntime, bucket: Bucket) -> None:
    run(index)
    bucket.server.asked.clear()
    assert run(index).nothing_changed
    assert (bucket.read, bucket.lists) == ([], 1)
    bucket.put("docs/d1.md", text(1))  # written again with the same bytes
    assert run(index).nothing_changed
    assert bucket.read == []
    assert run(index, verify=True).nothing_changed
    assert len(bucket.read) == 6


def test_going_back_to_earlier_bytes_ends_there(index: WarmRuntime, bucket: Bucket) -> None:
    run(index)
    for data in (text(1, " meanwhile"), text(1)):
        bucket.put("docs/d1.md", data)
        assert run(index).documents["changed"] == 1
    rows = search(index, "Paragraph of topic 1", k=6).hits
    assert [hit.text for hit in rows if hit.document == "d1.md"] == ["Document 1\n\nParagraph of topic 1."]


def test_a_plan_reads_what_is_new_and_what_is_forgotten_stays_out(index: WarmRuntime, bucket: Bucket) -> None:
    run(index)
    bucket.put("docs/new.md", text(9))
    found = preview(index, make_plan(index, "default"))
    assert (found.documents["added"], found.chunks["added"]) == (1, 1)
    assert bucket.read == ["docs/new.md"]
    assert "new.md" not in documents(index)
    bucket.delete("docs/new.md")
    assert forget(index, "default", "d1.md").still_in_source
    assert run(index).nothing_changed
    assert "d1.md" not in documents(index)


def test_a_document_that_came_back_before_the_second_look_is_kept(index: WarmRuntime, bucket: Bucket) -> None:
    run(index)
    bucket.delete("docs/d2.md")
    plan = planned(index)
    bucket.put("docs/d2.md", text(2))
    index.plans["default"] = plan
    DirectRunner(index).update_shard("default", plan.dirty_shards[0])
    assert "d2.md" in documents(index)


def test_a_bucket_that_is_gone_deletes_nothing(index: WarmRuntime, bucket: Bucket) -> None:
    run(index)
    for number in range(6):
        bucket.server.client.delete_object(Bucket=bucket.name, Key=f"docs/d{number}.md")
    # An empty bucket is told from one that lost a document: all vanished at once, so a person has to confirm it.
    report = run(index)
    assert sorted(report.withheld) == [f"d{number}.md" for number in range(6)]
    bucket.server.client.delete_object(Bucket=bucket.name, Key="elsewhere.md")
    bucket.server.client.delete_bucket(Bucket=bucket.name)
    with pytest.raises(ConfigurationError, match="does not exist"):
        run(index)
    assert len(documents(index)) == 6


def test_another_prefix_is_another_set_of_documents(open_index: OpenIndex, index: WarmRuntime, bucket: Bucket) -> None:
    run(index)
    for number in range(7):
        bucket.put(f"other/e{number}.md", text(number, " of others"))
    with pytest.raises(GateRefused, match=rf"s3://{bucket.name}/other"):
        run(open_index(collection=collection(bucket, "/other")))
    empty = open_index(collections={"default": collection(bucket), "new": collection(bucket, "/nothing-here")})
    with pytest.raises(ConfigurationError, match="holds no document"):
        sync(empty, "new", lambda: DirectRunner(empty))


def test_a_bucket_and_a_folder_are_two_collections_of_one_installation(
    open_index: OpenIndex, bucket: Bucket, source: Any
) -> None:
    write(source, "folder.md", "# Of the folder\n\nIt is on this machine.\n")
    both = {"default": {"source": source}, "remote": {**collection(bucket), "chunking": {"strategy": "whole"}}}
    index = open_index(collections=both)
    for name in both:
        assert sync(index, name, lambda: DirectRunner(index)).generation["promoted"]
    assert documents(index) == {"folder.md"}
    hits = search(index, "Document 4", collection="remote", k=10).hits
    assert {hit.document for hit in hits} == {f"d{number}.md" for number in range(6)}
    bucket.put("docs/d0.md", text(0, " anew"))
    assert sync(index, "default", lambda: DirectRunner(index)).nothing_changed
    assert sync(index, "remote", lambda: DirectRunner(index)).documents["changed"] == 1


def test_pages_are_followed_and_a_page_in_trouble_is_kept(open_index: OpenIndex, web: PageServer) -> None:
    web.pages = {f"/p{number}": Page(b"<h1>Page</h1><p>Text of page %d.</p>" % number) for number in range(4)}
    web.pages["/p3"].versioned = False
    urls = [web.url(path) for path in web.pages]
    index = open_index(collection={"source": urls}, sources={"allow_hosts": ["127.0.0.1"]})
    run(index)
    assert documents(index) == {f"{web.host}/p{number}.html" for number in range(4)}
    assert sorted(web.read) == ["/p0", "/p1", "/p2", "/p3"]
    web.asked.clear()
    assert run(index).nothing_changed
    assert web.read == ["/p3"]  # its server states no version, so only its bytes tell
    web.pages["/p0"] = Page(b"<h1>Page</h1><p>Text of page zero.</p>")
    web.pages["/p1"] = Page(b"out of order", 503)
    del web.pages["/p2"]
    report = run(index)
    assert (report.documents["changed"], report.documents["removed"]) == (1, 1)
    assert documents(index) == {f"{web.host}/p{number}.html" for number in (0, 1, 3)}
