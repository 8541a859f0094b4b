"""What is in a folder of documents. Listing only looks at directory entries; it reads no file."""

import errno
import os
import stat
from collections.abc import Sequence
from pathlib import Path

from rag_assets.documents.names import (
    display_uri,
    is_ignored_file,
    is_ignored_folder,
    pattern_matcher,
    suffix_of,
    unsupported,
)
from rag_assets.errors import ConfigurationError
from rag_assets.models import Listing, SkippedFile, SourceFile


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
        self.reasons: dict[str, str | None] = {}

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
            self.files.append(SourceFile(path, uri, found.st_size, changed_at(found)))

    def status(self, path: bytes, entry: os.DirEntry[bytes]) -> os.stat_result | str:
        """The status of a regular, supported file, or the reason why this is not one."""
        if entry.is_symlink():
            return self.link_status(path, entry)
        if not entry.is_file(follow_symlinks=False):
            return special_kind(entry.stat(follow_symlinks=False).st_mode)
        return self.unsupported_reason(entry.name) or entry.stat(follow_symlinks=False)

    def link_status(self, path: bytes, entry: os.DirEntry[bytes]) -> os.stat_result | str:
        target = os.path.realpath(os.path.join(self.top, path))
        if not is_inside(self.top, target):
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
            return special_kind(found.st_mode)
        return self.unsupported_reason(entry.name) or found

    def unsupported_reason(self, name: bytes) -> str | None:
        suffix = suffix_of(name)
        if suffix not in self.reasons:
            self.reasons[suffix] = unsupported(suffix)
        return self.reasons[suffix]


def changed_at(status: os.stat_result) -> int:
    """When a file was last modified, renamed or otherwise touched, in nanoseconds.

    The time of modification alone does not tell apart two files of one size that were written in one tick of the clock, or whose time
    was kept by whoever copied them; the time of change (ctime) moves whenever one takes the other's place.
    """
    return max(status.st_mtime_ns, status.st_ctime_ns)


def special_kind(mode: int) -> str:
    """What a file that is not a regular one is, as a phrase."""
    kinds = ((stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket"), (stat.S_ISDIR, "a folder"))
    name = next((name for test, name in kinds if test(mode)), "a device")
    return f"is {name}, not a regular file"


def is_inside(top: bytes, path: bytes) -> bool:
    """Whether a resolved path is below ``top``."""
    return os.path.commonpath([top, path]) == top
