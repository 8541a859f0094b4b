"""What every source promises, be it a folder, a bucket, pages or a repository."""

import os
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

import pytest

from rag_assets.documents.source import FileGone
from rag_assets.documents.sources import DocumentSource, FolderSource, SourceUnavailable
from rag_assets.documents.sources.git import GitSource
from rag_assets.documents.sources.objects import ObjectSource, build_store
from rag_assets.documents.sources.pages import PagesSource
from rag_assets.documents.sources.spool import Spooled
from rag_assets.errors import ConfigurationError, UnparsableDocument
from rag_assets.fingerprint import hash_bytes
from rag_assets.settings import SourceOptions, SourcesSettings
from rag_assets_tests.source_servers import CREDENTIALS, Bucket, Page, PageServer, S3Server, page_server

SETTINGS = SourcesSettings(allow_hosts=("127.0.0.1",), timeout_seconds=20)
LIMIT = 1_000_000


class Place(Protocol):
    """Somewhere documents can be put."""

    def put(self, name: str, data: bytes) -> None: ...

    def delete(self, name: str) -> None: ...

    def path(self, name: str) -> bytes: ...

    def open(self) -> DocumentSource: ...

    def nowhere(self) -> DocumentSource:
        """A source of this kind that does not exist."""
        ...


class Folder:
    def __init__(self, root: Path) -> None:
        self._root = root / "folder"
        self._root.mkdir()

    def put(self, name: str, data: bytes) -> None:
        path = self._root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def delete(self, name: str) -> None:
        (self._root / name).unlink()

    def path(self, name: str) -> bytes:
        return name.encode()

    def open(self) -> DocumentSource:
        return FolderSource(self._root)

    def nowhere(self) -> DocumentSource:
        return FolderSource(self._root / "missing")


class Objects:
    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket

    def put(self, name: str, data: bytes) -> None:
        self._bucket.put(f"team/docs/{name}", data)

    def delete(self, name: str) -> None:
        self._bucket.delete(f"team/docs/{name}")

    def path(self, name: str) -> bytes:
        return name.encode()

    def open(self) -> DocumentSource:
        return self._at(f"s3://{self._bucket.name}/team/docs")

    def nowhere(self) -> DocumentSource:
        return self._at("s3://no-such-bucket")

    def _at(self, url: str) -> DocumentSource:
        return Spooled(
            ObjectSource(url, build_store(url, SourceOptions(endpoint_url=self._bucket.server.url), SETTINGS), 20)
        )


class InMemory:
    """obstore's own store, through the same code as Google's and Azure's."""

    def __init__(self) -> None:
        from obstore.store import MemoryStore

        self._store = MemoryStore()

    def put(self, name: str, data: bytes) -> None:
        self._store.put(name, data)

    def delete(self, name: str) -> None:
        self._store.delete(name)

    def path(self, name: str) -> bytes:
        return name.encode()

    def open(self) -> DocumentSource:
        return ObjectSource("gs://bucket", self._store, 20)

    def nowhere(self) -> DocumentSource:
        pytest.skip("a store in memory is always there")


class Pages:
    def __init__(self, server: PageServer) -> None:
        self._server = server
        self._urls: dict[str, None] = {}

    def put(self, name: str, data: bytes) -> None:
        self._server.pages[f"/{quote(name)}"] = Page(data)
        self._urls[self._server.url(f"/{quote(name)}")] = None

    def delete(self, name: str) -> None:
        del self._server.pages[f"/{quote(name)}"]

    def path(self, name: str) -> bytes:
        return f"{self._server.host}/{quote(name)}".encode()

    def open(self) -> DocumentSource:
        return Spooled(PagesSource(tuple(self._urls), SETTINGS))

    def nowhere(self) -> DocumentSource:
        return PagesSource(["http://127.0.0.1:1/a.md"], SETTINGS)


class Repository:
    def __init__(self, root: Path) -> None:
        self._root, self._cache = root / "repository", root / "cache"
        self._root.mkdir()
        self._git("init", "--quiet", "--initial-branch=main")

    def _git(self, *arguments: str) -> None:
        who = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        subprocess.run(["git", *who, *arguments], cwd=self._root, check=True, env=environment, capture_output=True)

    def put(self, name: str, data: bytes) -> None:
        path = self._root / "docs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        self._git("add", "--all")
        self._git("commit", "--quiet", "--allow-empty", "-m", "change")

    def delete(self, name: str) -> None:
        self._git("rm", "--quiet", f"docs/{name}")
        self._git("commit", "--quiet", "-m", "delete")

    def path(self, name: str) -> bytes:
        return name.encode()

    def open(self) -> DocumentSource:
        return GitSource(f"git+file://{self._root}@main#docs", SETTINGS, self._cache)

    def nowhere(self) -> DocumentSource:
        return GitSource(f"git+file://{self._root}@no-such-branch", SETTINGS, self._cache)


@pytest.fixture(params=["folder", "s3", "memory", "pages", "git"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """Every kind of source, empty."""
    if request.param == "folder":
        yield Folder(tmp_path)
    elif request.param == "s3":
        server: S3Server = request.getfixturevalue("s3")
        with pytest.MonkeyPatch.context() as patch:
            for name, value in CREDENTIALS.items():
                patch.setenv(name, value)
            yield Objects(server.bucket(f"b-{uuid.uuid4().hex}"))
    elif request.param == "memory":
        yield InMemory()
    elif request.param == "pages":
        with page_server() as pages:
            yield Pages(pages)
    else:
        yield Repository(tmp_path)


def listed(source: DocumentSource, *exclude: str) -> dict[bytes, tuple[int, int]]:
    listing = source.listing(exclude)
    assert listing.complete
    return {file.path: (file.size, file.changed_ns) for file in listing.files}


def test_a_listing_is_sorted_and_knows_sizes_and_what_is_left_out(place: Place) -> None:
    for name in ("z.md", "a b.txt", "sub/ü.html", "sub/draft.md"):
        place.put(name, name.encode() * 3)
    source = place.open()
    listing = source.listing(["*draft*"])
    wanted = sorted(place.path(name) for name in ("z.md", "a b.txt", "sub/ü.html"))
    assert [file.path for file in listing.files] == wanted
    assert {file.path: file.size for file in listing.files} == {
        place.path(name): len(name.encode()) * 3 for name in ("z.md", "a b.txt", "sub/ü.html")
    }
    assert listing.complete
    assert listing.skipped == ()


def test_hidden_and_unsupported_files_are_no_documents(place: Place) -> None:
    if isinstance(place, Pages):
        pytest.skip("a page is in the list because somebody wants it")
    for name in (".hidden.md", ".git2/a.md", "node_modules/b.md", "c.md~", "picture.png", "d.md"):
        place.put(name, b"words")
    listing = place.open().listing()
    assert [file.path for file in listing.files] == [b"d.md"]
    assert [(item.path, item.unreadable) for item in listing.skipped] == [(b"picture.png", False)]
    assert "not supported" in listing.skipped[0].reason


@pytest.mark.parametrize("data", [b"", b"# Words\n", bytes(range(256)) * 4000], ids=["empty", "short", "long"])
def test_the_hash_is_of_the_bytes_that_are_read_and_the_version_is_the_listed_one(place: Place, data: bytes) -> None:
    place.put("a.md", data)
    source, path = place.open(), place.path("a.md")
    found = listed(source)[path]
    digest = source.digest(path)
    for content in (source.read(path, 2_000_000), source.read(path, 2_000_000)):
        assert content.data == data
        assert (content.content_hash, content.size, content.changed_ns) == digest == (hash_bytes(data), *found)


def test_an_unchanged_file_has_one_version_for_every_look_of_every_process(place: Place) -> None:
    place.put("a.md", b"words")
    source = place.open()
    assert listed(source) == listed(source) == listed(place.open())


def test_other_bytes_of_the_same_length_are_another_version(place: Place) -> None:
    place.put("a.md", b"version one")
    source = place.open()
    seen = []
    for data in (b"version one", b"version two", b"version one"):
        place.put("a.md", data)
        seen.append(listed(source)[place.path("a.md")])
        assert source.read(place.path("a.md"), LIMIT).data == data
    assert seen[0] != seen[1] != seen[2]


def test_what_was_hashed_before_a_change_is_not_read_after_it(place: Place) -> None:
    place.put("a.md", b"version one")
    source, path = place.open(), place.path("a.md")
    listed(source)
    source.digest(path)
    place.put("a.md", b"version two")
    listed(source)
    assert source.read(path, LIMIT).data == b"version two"


def test_a_file_over_the_limit_is_refused_but_hashed(place: Place) -> None:
    place.put("a.md", b"x" * 2001)
    source, path = place.open(), place.path("a.md")
    listed(source)
    with pytest.raises(UnparsableDocument, match="max_file_mb"):
        source.read(path, 2000)
    assert source.digest(path)[0] == hash_bytes(b"x" * 2001)
    with pytest.raises(UnparsableDocument, match="max_file_mb"):
        source.read(path, 2000)


def test_a_deleted_file_is_gone_by_name_and_the_others_are_not(place: Place) -> None:
    place.put("a.md", b"words")
    place.put("b.md", b"words")
    source = place.open()
    listed(source)
    assert source.is_there(place.path("a.md"))
    place.delete("a.md")
    assert place.path("a.md") not in listed(source)
    assert not source.is_there(place.path("a.md"))
    assert source.is_there(place.path("b.md"))
    with pytest.raises(FileGone):
        source.read(place.path("a.md"), LIMIT)
    with pytest.raises(FileGone):
        source.digest(place.path("a.md"))


def test_a_source_that_is_not_there_is_an_error_and_never_an_empty_one(place: Place) -> None:
    nowhere = place.nowhere()
    with pytest.raises((ConfigurationError, SourceUnavailable)) as error:
        nowhere.listing()
    assert nowhere.description in str(error.value)
