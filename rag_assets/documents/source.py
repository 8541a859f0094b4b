"""The bytes of one file of a folder of documents, whatever happens to the folder meanwhile.

Reading opens every component of a path relative to its parent without
following links, so that nothing outside the root is ever opened, even when a folder is swapped between two calls.
"""

import errno
import hashlib
import os
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from rag_assets.documents.listing import changed_at, is_inside, special_kind
from rag_assets.documents.names import display_uri
from rag_assets.errors import RagAssetsError, UnparsableDocument
from rag_assets.fingerprint import hash_bytes

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
    changed_ns: int
    """As in ``SourceFile``."""


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
    return FileContent(data, hash_bytes(data), len(data), changed_at(status))


def hash_file(root: Path, path: bytes) -> tuple[str, int, int]:
    """(content hash, size, changed_ns) of one file, in constant memory and without a size limit.

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
    return value, status.st_size, changed_at(status)


def _stable(root: Path, path: bytes, read: Callable[[int, int], tuple[_T, int]]) -> tuple[_T, os.stat_result]:
    """What ``read`` (descriptor, expected size -> value, bytes read) returns while the file does not change."""
    uri = display_uri(path)
    for attempt in range(_TRIES):
        if attempt:
            time.sleep(0.05 * attempt)
        descriptor = _open_inside(root, path)
        try:
            before = os.fstat(descriptor)
            if not stat.S_ISREG(before.st_mode):
                raise FileUnreadable(f"{uri} {special_kind(before.st_mode)}. Replace it by a file, or exclude it.")
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
    try:
        anchor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
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
        return _open_link(os.path.realpath(os.fsencode(root)), path)
    raise _explained(uri, problem) from None


def _open_link(top: bytes, path: bytes) -> int:
    uri = display_uri(path)
    target = os.path.realpath(os.path.join(top, path))
    if not is_inside(top, target):
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
