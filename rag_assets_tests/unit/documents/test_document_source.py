import os
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from rag_assets.documents import source
from rag_assets.documents.listing import changed_at, list_folder
from rag_assets.documents.source import FileContent, FileGone, FileUnreadable, hash_file, read_file
from rag_assets.errors import ConfigurationError, UnparsableDocument
from rag_assets.fingerprint import document_id, hash_bytes
from rag_assets.models import Listing

MB = 1_000_000


def write(root: Path, name: str | bytes, data: bytes = b"text") -> Path:
    path = Path(os.fsdecode(os.path.join(os.fsencode(root), os.fsencode(name))))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def uris(listing: Listing) -> list[str]:
    return [file.uri for file in listing.files]


def reasons(listing: Listing) -> dict[str, str]:
    return {skipped.uri: skipped.reason for skipped in listing.skipped}


@contextmanager
def ordinary_user() -> Iterator[None]:
    """Root reads everything, so what root may not read is looked at as another user."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(before)


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """A folder that another user may look into, unlike ``tmp_path``."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name)
        os.chmod(name, 0o755)
        for folder, _, _ in os.walk(name):
            os.chmod(folder, 0o755)


def test_files_are_listed_sorted_by_the_bytes_of_their_path_with_size_and_time(tmp_path: Path) -> None:
    for name in ("b.txt", "a/z.md", "a.txt", "B.TXT"):
        write(tmp_path, name, b"12345")
    listing = list_folder(tmp_path)
    assert [file.path for file in listing.files] == [b"B.TXT", b"a.txt", b"a/z.md", b"b.txt"]
    assert listing.files[0].size == 5
    assert listing.files[0].changed_ns == changed_at((tmp_path / "B.TXT").stat())
    assert listing.complete


@pytest.mark.parametrize("make", ["missing", "file"])
def test_a_source_that_is_no_folder_is_a_configuration_error_and_not_an_empty_listing(
    tmp_path: Path, make: str
) -> None:
    root = tmp_path / "root"
    if make == "file":
        root.write_text("not a folder")
    with pytest.raises(ConfigurationError, match=str(root)):
        list_folder(root)


def test_an_unreadable_source_is_a_configuration_error(public_folder: Path) -> None:
    public_folder.chmod(0o000)
    with ordinary_user(), pytest.raises(ConfigurationError, match="can't be listed"):
        list_folder(public_folder)


def test_an_unreadable_folder_makes_the_listing_incomplete(public_folder: Path) -> None:
    write(public_folder, "open.txt")
    write(public_folder, "locked/secret.txt")
    (public_folder / "locked").chmod(0o000)
    with ordinary_user():
        listing = list_folder(public_folder)
        spared = list_folder(public_folder, ["locked"])
    assert uris(listing) == ["open.txt"]
    assert not listing.complete
    assert [(skipped.uri, skipped.unreadable) for skipped in listing.skipped] == [("locked", True)]
    assert spared.complete


def test_an_unreadable_file_is_unreadable_and_not_gone(public_folder: Path) -> None:
    write(public_folder, "a.txt").chmod(0o000)
    with ordinary_user():
        assert uris(list_folder(public_folder)) == ["a.txt"]
        with pytest.raises(FileUnreadable, match="Permission denied"):
            read_file(public_folder, b"a.txt", MB)


def test_temporary_hidden_and_state_files_are_ignored_without_a_word(tmp_path: Path) -> None:
    ignored = "~$x.docx x.txt.part x.tmp .x.txt.swp x.txt~ x.crdownload .hidden.md .DS_Store #x.txt#"
    folders = ".git .hg .svn .rag .venv node_modules __pycache__ __MACOSX"
    for name in [*ignored.split(), *(f"{folder}/inside.txt" for folder in folders.split()), "kept.txt"]:
        write(tmp_path, name)
    assert list_folder(tmp_path) == Listing(list_folder(tmp_path).files)
    assert uris(list_folder(tmp_path)) == ["kept.txt"]


def test_unsupported_files_are_skipped_with_the_supported_formats_named(tmp_path: Path) -> None:
    write(tmp_path, "program.exe")
    write(tmp_path, "README")
    found = reasons(list_folder(tmp_path))
    assert found.keys() == {"program.exe", "README"}
    assert all(".docx" in reason and "not supported" in reason for reason in found.values())


def test_excluded_patterns_match_the_uri_and_need_no_access(public_folder: Path) -> None:
    for name in ("keep.txt", "drafts/a.txt", "deep/drafts/b.txt", "deep/c.md"):
        write(public_folder, name)
    assert uris(list_folder(public_folder, ["drafts/*", "*.md"])) == ["deep/drafts/b.txt", "keep.txt"]


def test_links_are_followed_only_to_regular_files_inside(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", write(tmp_path, "outside.txt", b"secret")
    write(root, "folder/real.txt", b"real")
    for name, target in {
        "inside.txt": "folder/real.txt",
        "outside.txt": str(outside),
        "dangling.txt": "nothing.txt",
        "loop.txt": "loop.txt",
        "folder_link": "folder",
        "up": "..",
        "folder/self": ".",
    }.items():
        (root / name).symlink_to(target)
    listing = list_folder(root)
    assert uris(listing) == ["folder/real.txt", "inside.txt"]
    assert reasons(listing).keys() == {"outside.txt", "dangling.txt", "loop.txt", "folder_link", "up", "folder/self"}
    assert listing.complete
    assert read_file(root, b"inside.txt", MB).data == b"real"


@pytest.mark.parametrize(
    "path", [b"outside.txt", b"../outside.txt", b"a/../../outside.txt", b"/etc/passwd", b"up/outside.txt"]
)
def test_nothing_outside_the_source_is_read(tmp_path: Path, path: bytes) -> None:
    root = tmp_path / "root"
    write(tmp_path, "outside.txt", b"secret")
    write(root, "a/b.txt")
    (root / "outside.txt").symlink_to(tmp_path / "outside.txt")
    (root / "up").symlink_to("..")
    with pytest.raises(FileUnreadable, match="outside the source"):
        read_file(root, path, MB)


def test_a_folder_swapped_for_a_link_after_the_listing_does_not_lead_outside(tmp_path: Path) -> None:
    root = tmp_path / "root"
    write(root, "folder/a.txt")
    write(tmp_path, "elsewhere/a.txt", b"secret")
    (file,) = list_folder(root).files
    (root / "folder").rename(tmp_path / "moved")
    (root / "folder").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileUnreadable):
        read_file(root, file.path, MB)


def test_pipes_and_sockets_are_skipped_and_never_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.txt")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket.txt"))
        listing = list_folder(tmp_path)
        assert reasons(listing) == {
            "pipe.txt": "is a pipe, not a regular file",
            "socket.txt": "is a socket, not a regular file",
        }
        for path in (b"pipe.txt", b"socket.txt"):
            with pytest.raises(FileUnreadable):
                read_file(tmp_path, path, MB)


def test_awkward_names_are_shown_escaped_and_stay_apart(tmp_path: Path) -> None:
    names = [
        b"plain \xc3\xa9.txt",
        b"bad\xff.txt",
        b"bad\\xff.txt",
        b"line\nbreak.txt",
        b"bidi\xe2\x80\xae.txt",
        b"nel\xc2\x85.txt",
        b"nel\x85.txt",
        b"quote'\".txt",
        "nfc\u00e9.txt".encode(),
        "nfce\u0301.txt".encode(),
        b"x" * 251 + b".txt",
    ]
    for name in names:
        write(tmp_path, name)
    listing = list_folder(tmp_path)
    shown = {file.path: file.uri for file in listing.files}
    assert shown.keys() == set(names)
    assert len(set(shown.values())) == len({document_id("c", path) for path in shown}) == len(names)
    assert all(uri.isprintable() for uri in shown.values())
    assert shown[b"bad\xff.txt"] == r"bad\xff.txt"
    assert shown[b"line\nbreak.txt"] == r"line\nbreak.txt"
    assert shown[b"plain \xc3\xa9.txt"] == "plain é.txt"
    for name in names:
        assert read_file(tmp_path, name, MB).data == b"text"


@pytest.fixture
def very_deep_folder(tmp_path: Path) -> Iterator[Path]:
    """A folder with ``deep.txt`` below a thousand folders; too deep for the recursive clean-up of pytest."""
    top = tmp_path / "top"
    top.mkdir()
    here = os.open(top, os.O_RDONLY)
    for _ in range(1000):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(os.open("deep.txt", os.O_CREAT | os.O_WRONLY, dir_fd=here))
    os.close(here)
    yield top
    subprocess.run(["rm", "-rf", "--", top], check=True)


def test_a_tree_a_thousand_folders_deep_is_listed(very_deep_folder: Path) -> None:
    (file,) = list_folder(very_deep_folder).files
    assert file.uri == "d/" * 1000 + "deep.txt"
    assert read_file(very_deep_folder, file.path, MB).data == b""


def test_reading_returns_the_bytes_and_their_hash(tmp_path: Path) -> None:
    path = write(tmp_path, "a.txt", b"hello")
    status = path.stat()
    expected = FileContent(b"hello", hash_bytes(b"hello"), 5, changed_at(status))
    assert read_file(tmp_path, b"a.txt", MB) == expected
    assert hash_file(tmp_path, b"a.txt") == (expected.content_hash, 5, changed_at(status))


def test_hashing_has_no_size_limit_but_reading_has(tmp_path: Path) -> None:
    data = os.urandom(3_000_000)
    write(tmp_path, "big.txt", data)
    assert hash_file(tmp_path, b"big.txt")[0] == hash_bytes(data)
    with pytest.raises(UnparsableDocument, match=r"3\.0 MB is over parsing\.max_file_mb = 2; raise it"):
        read_file(tmp_path, b"big.txt", 2_000_000)


def test_a_deleted_file_is_gone_but_a_lost_source_is_only_unreadable(tmp_path: Path) -> None:
    root = tmp_path / "root"
    path = write(root, "folder/a.txt")
    path.unlink()
    with pytest.raises(FileGone):
        read_file(root, b"folder/a.txt", MB)
    (root / "folder").rmdir()
    with pytest.raises(FileGone):
        hash_file(root, b"folder/a.txt")
    root.rmdir()
    with pytest.raises(FileUnreadable, match="mounted"):
        read_file(root, b"folder/a.txt", MB)


def test_a_file_that_changes_during_every_read_is_unreadable_and_one_that_settles_is_not(tmp_path: Path) -> None:
    path = write(tmp_path, "a.txt", b"first")
    reads = 0

    def read_while_writing(descriptor: int, size: int) -> tuple[bytes, int]:
        nonlocal reads
        reads += 1
        data = os.read(descriptor, size)
        if reads <= changes:
            path.write_bytes(b"more" * reads)
        return data, len(data)

    changes = 2
    data, status = source._stable(tmp_path, b"a.txt", read_while_writing)
    assert (data, reads, status.st_size) == (b"moremore", 3, 8)

    reads, changes = 0, 99
    with pytest.raises(FileUnreadable, match="changed 3 times"):
        source._stable(tmp_path, b"a.txt", read_while_writing)
