"""Whether files are what they were, told without reading them.

As make and git tell it: by name, size, times (the inode's among them, which nobody can set back) and identity.
"""

import errno
import hashlib
import os
from collections.abc import Sequence
from typing import Any

from rag_assets.documents.names import is_ignored_file, is_ignored_folder


class FileStates:
    """A digest of the state of every file that is shown to it, in that order."""

    def __init__(self) -> None:
        self._digest = hashlib.blake2b(digest_size=16)
        self.newest = 0
        """When anything that was seen changed last, by its own times, in nanoseconds since the epoch."""

    def digest(self) -> str:
        """Of all that was seen."""
        return self._digest.hexdigest()

    def see(self, path: str) -> None:
        """A file, or a folder as such; either may be missing.

        Raises:
            OSError: whether it exists can't be told.
        """
        try:
            found = os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            self._digest.update(repr((path, None)).encode("utf-8", "surrogateescape"))
        else:
            self._add([self._state(os.fsencode(path), found, found.st_mtime_ns)])

    def see_all(self, root: bytes, *, ignored: bool = False) -> None:
        """Everything below a folder; names that are never documents or programs count for nothing, unless ``ignored``.

        Raises:
            OSError: a folder can't be listed, or there is a symbolic link: what it leads to may change and show nothing of it here.
        """
        top = os.path.realpath(root)
        self._add([self._state(top, os.stat(top), None)])
        pending = [top]
        while pending:
            found, folders = [], []
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        if ignored or not is_ignored_folder(entry.name):
                            found.append(self._state(entry.path, entry.stat(follow_symlinks=False), None))
                            folders.append(entry.path)
                    elif ignored or not is_ignored_file(entry.name):
                        if entry.is_symlink():
                            raise OSError(errno.ELOOP, "is a symbolic link", entry.path)
                        status = entry.stat(follow_symlinks=False)
                        found.append(self._state(entry.path, status, status.st_mtime_ns))
            pending += sorted(folders)
            self._add(sorted(found))

    def _state(self, path: bytes, found: os.stat_result, modified: int | None) -> tuple[Any, ...]:
        """``modified`` is None for a folder whose names are looked at one by one: those that are ignored may come and go."""
        changed = found.st_ctime_ns
        self.newest = max(self.newest, changed, modified or 0)
        times = None if modified is None else (found.st_size, modified, changed)
        return path, found.st_mode, found.st_uid, found.st_gid, found.st_ino, found.st_dev, times

    def _add(self, states: Sequence[tuple[Any, ...]]) -> None:
        self._digest.update(repr(states).encode("ascii"))
