"""A folder of documents: what is in it, and the bytes of one file, whatever happens to the folder meanwhile.

Listing only looks at directory entries. Reading opens every component of a path relative to its parent without
following links, so that nothing outside the root is ever opened, even when a folder is swapped between two calls.
"""

import errno
import hashlib
import os
import stat
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from rag_assets.documents.names import (
    SUPPORTED,
    display_uri,
    is_ignored_file,
    is_ignored_folder,
    pattern_matcher,
    suffix_of,
)
from rag_assets.errors import ConfigurationError, RagAssetsError, UnparsableDocument
from rag_assets.fingerprint import hash_bytes
from rag_assets.models import Listing, SkippedFile, SourceFile

_T = TypeVar("_T")
_TRIES = 3
_DIGEST_BYTES = len(hash_bytes(b"")) // 2
_BLOCK = 1 << 20


class FileGone(RagAssetsError):
    """The file was deleted after it was listed; only the next listing decides whether the document is gone."""


class FileUnreadable(RagAssetsError):
    """The file may well exist but can't be read now; what is indexed of it is kept."""


@dataclass(frozen=True, slots=True)
class FileContent:
    """The bytes of a file as they were at one moment."""

    data: bytes
    content_hash: str
    """``fingerprint.hash_bytes(data)``."""
    size: int
    """Bytes."""
    mtime_ns: int
    """Modification time, nanoseconds since the epoch."""


def list_folder(root: Path, exclude: Sequence[str] = ()) -> Listing:
    """Everything below ``root``, sorted by the bytes of its path. Looks at directory entries only; reads no file.

    Args:
        root: the folder.
        exclude: fnmatch patterns against the uri (``*`` crosses ``/``); what matches is left out without a word.

    Raises:
        ConfigurationError: ``root`` is missing, not a folder, or can't be listed.
    """
    top = os.path.realpath(os.fsencode(root))
    try:
        os.scandir(top).close()
    except FileNotFoundError:
        raise ConfigurationError(f"The source {root} does not exist. Create it, or correct `source`.") from None
    except NotADirectoryError:
        raise ConfigurationError(f"The source {root} is not a folder. Name the folder that holds the files.") from None
    except OSError as error:
        raise ConfigurationError(
            f"The source {root} can't be listed: {error.strerror}. Grant this user read access to it."
        ) from None
    return _Walk(top, exclude).listing()


class _Walk:
    """One depth-first walk; iterative, so that the depth of the tree does not matter."""

    def __init__(self, top: bytes, exclude: Sequence[str]) -> None:
        self.top = top
        self.excluded = pattern_matcher(exclude)
        self.files: list[SourceFile] = []
        self.skipped: list[SkippedFile] = []
        self.complete = True
        self.pending: list[bytes] = [b""]
        self.unsupported: dict[str, str] = {}

    def listing(self) -> Listing:
        while self.pending:
            folder = self.pending.pop()
            try:
                with os.scandir(os.path.join(self.top, folder)) as entries:
                    for entry in entries:
                        self.visit(os.path.join(folder, entry.name), entry)
            except OSError as error:
                # Even a folder that has just vanished leaves the listing incomplete: the next one will tell.
                self.complete = False
                self.skip(folder, f"the folder can't be listed: {error.strerror}", unreadable=True)
        self.files.sort(key=lambda file: file.path)
        self.skipped.sort(key=lambda file: file.path)
        return Listing(tuple(self.files), tuple(self.skipped), self.complete)

    def skip(self, path: bytes, reason: str, *, unreadable: bool = False) -> None:
        self.skipped.append(SkippedFile(path, display_uri(path), reason, unreadable))

    def visit(self, path: bytes, entry: os.DirEntry[bytes]) -> None:
        if entry.is_dir(follow_symlinks=False):
            uri = display_uri(path)
            if not is_ignored_folder(entry.name) and not self.excluded(uri) and not self.excluded(uri + "/"):
                self.pending.append(path)
            return
        if is_ignored_file(entry.name):
            return
        uri = display_uri(path)
        if self.excluded(uri):
            return
        try:
            found = self.status(path, entry)
        except FileNotFoundError:
            return
        except OSError as error:
            self.skip(path, f"can't be looked at: {error.strerror}", unreadable=True)
            return
        if isinstance(found, str):
            self.skip(path, found)
        else:
            self.files.append(SourceFile(path, uri, found.st_size, found.st_mtime_ns))

    def status(self, path: bytes, entry: os.DirEntry[bytes]) -> os.stat_result | str:
        """The status of a regular, supported file, or the reason why this is not one."""
        if entry.is_symlink():
            return self.link_status(path, entry)
        if not entry.is_file(follow_symlinks=False):
            return _special(entry.stat(follow_symlinks=False).st_mode)
        return self.unsupported_reason(entry.name) or entry.stat(follow_symlinks=False)

    def link_status(self, path: bytes, entry: os.DirEntry[bytes]) -> os.stat_result | str:
        target = os.path.realpath(os.path.join(self.top, path))
        if not _is_inside(self.top, target):
            return "is a symbolic link to something outside the source"
        try:
            found = os.stat(target)
        except FileNotFoundError:
            return "is a symbolic link to something that does not exist"
        except OSError as error:
            if error.errno == errno.ELOOP:
                return "is a symbolic link to itself"
            raise
        if stat.S_ISDIR(found.st_mode):
            return "is a symbolic link to a folder (folders are not followed)"
        if not stat.S_ISREG(found.st_mode):
            return _special(found.st_mode)
        return self.unsupported_reason(entry.name) or found

    def unsupported_reason(self, name: bytes) -> str | None:
        suffix = suffix_of(name)
        if suffix in SUPPORTED:
            return None
        if suffix not in self.unsupported:
            what = f"{display_uri(suffix.encode())} files are" if suffix else "a file without an extension is"
            self.unsupported[suffix] = f"{what} not supported (supported: {', '.join(sorted(SUPPORTED))})"
        return self.unsupported[suffix]


def _special(mode: int) -> str:
    kinds = ((stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket"), (stat.S_ISDIR, "a folder"))
    name = next((name for test, name in kinds if test(mode)), "a device")
    return f"is {name}, not a regular file"


def _is_inside(top: bytes, path: bytes) -> bool:
    return os.path.commonpath([top, path]) == top


def read_file(root: Path, path: bytes, max_bytes: int) -> FileContent:
    """The bytes of one listed file, unchanged while they were read.

    Raises:
        FileGone: it was deleted since the listing.
        FileUnreadable: no permission, an I/O error, outside the root, not a regular file, or changing all the time.
        UnparsableDocument: larger than ``max_bytes``.
    """

    def read(descriptor: int, size: int) -> tuple[bytes, int]:
        if size > max_bytes:
            raise UnparsableDocument(
                f"{size / 1e6:,.1f} MB is over parsing.max_file_mb = {max_bytes / 1e6:g}; "
                "raise it in rag_assets.toml or split the file"
            )
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            data = file.read(size + 1)
        return data, len(data)

    data, status = _stable(root, path, read)
    return FileContent(data, hash_bytes(data), len(data), status.st_mtime_ns)


def hash_file(root: Path, path: bytes) -> tuple[str, int, int]:
    """(content hash, size, mtime_ns) of one file, in constant memory and without a size limit.

    The hash equals ``fingerprint.hash_bytes`` of the content. Raises as ``read_file`` does, except for size.
    """

    def digest(descriptor: int, size: int) -> tuple[str, int]:
        state = hashlib.blake2b(digest_size=_DIGEST_BYTES)
        length = 0
        while block := os.read(descriptor, _BLOCK):
            state.update(block)
            length += len(block)
            if length > size:
                break
        return state.hexdigest(), length

    value, status = _stable(root, path, digest)
    return value, status.st_size, status.st_mtime_ns


def _stable(root: Path, path: bytes, read: Callable[[int, int], tuple[_T, int]]) -> tuple[_T, os.stat_result]:
    """What ``read`` (descriptor, expected size -> value, bytes read) returns while the file does not change."""
    uri = display_uri(path)
    for attempt in range(_TRIES):
        time.sleep(0.05 * attempt)
        descriptor = _open_inside(root, path)
        try:
            before = os.fstat(descriptor)
            if not stat.S_ISREG(before.st_mode):
                raise FileUnreadable(f"{uri} {_special(before.st_mode)}. Replace it by a file, or exclude it.")
            value, length = read(descriptor, before.st_size)
            after = os.fstat(descriptor)
        except OSError as error:
            raise FileUnreadable(f"{uri} can't be read: {error.strerror}. Check the disk or the mount.") from None
        finally:
            os.close(descriptor)
        if length == before.st_size and _version(before) == _version(after):
            return value, after
    raise FileUnreadable(f"{uri} changed {_TRIES} times while it was read. It is tried again with the next sync.")


def _version(status: os.stat_result) -> tuple[int, ...]:
    return (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _open_inside(root: Path, path: bytes) -> int:
    """A descriptor of the file at ``path``; links are resolved first and must stay inside ``root``."""
    uri = display_uri(path)
    top = os.path.realpath(os.fsencode(root))
    try:
        anchor = os.open(top, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        # A missing root is an unmounted disk far more often than a deleted collection.
        raise FileUnreadable(f"{uri}: the source {root} can't be opened: {error.strerror}. Is it mounted?") from None
    try:
        return _open_below(anchor, path)
    except OSError as error:
        problem: OSError = error
    finally:
        os.close(anchor)
    if problem.errno in (errno.ELOOP, errno.ENOTDIR, errno.EMLINK, errno.EINVAL):
        return _open_link(top, path)
    raise _explained(uri, problem) from None


def _open_link(top: bytes, path: bytes) -> int:
    uri = display_uri(path)
    target = os.path.realpath(os.path.join(top, path))
    if not _is_inside(top, target):
        raise FileUnreadable(f"{uri} leads outside the source. Copy the file into the source, or exclude it.")
    anchor = os.open(top, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return _open_below(anchor, os.path.relpath(target, top))
    except OSError as error:
        raise _explained(uri, error) from None
    finally:
        os.close(anchor)


def _open_below(anchor: int, path: bytes) -> int:
    """Open ``path`` relative to the folder ``anchor``, one component at a time and through no link."""
    *folders, name = path.split(b"/")
    if name in (b"", b".", b"..") or not {b"", b".", b".."}.isdisjoint(folders):
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
    current = os.dup(anchor)
    try:
        for folder in folders:
            below = os.open(folder, flags | os.O_DIRECTORY, dir_fd=current)
            os.close(current)
            current = below
        # Without O_NONBLOCK, opening a pipe that took the file's place would wait for a writer.
        return os.open(name, flags | os.O_NONBLOCK, dir_fd=current)
    finally:
        os.close(current)


def _explained(uri: str, error: OSError) -> RagAssetsError:
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return FileGone(f"{uri} was deleted after it was listed.")
    return FileUnreadable(f"{uri} can't be opened: {error.strerror}. Grant this user read access, or exclude it.")
