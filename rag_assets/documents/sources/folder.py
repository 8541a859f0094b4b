"""A folder of this machine as a source."""

import os
from collections.abc import Sequence
from pathlib import Path

from rag_assets.documents.listing import list_folder
from rag_assets.documents.source import FileContent, hash_file, read_file
from rag_assets.models import Listing


class FolderSource:
    """Files below a folder; see :mod:`rag_assets.documents.listing` and :mod:`rag_assets.documents.source`."""

    parallel = 1

    def __init__(self, root: Path) -> None:
        self._root = root

    @property
    def description(self) -> str:
        """Its path."""
        return str(self._root)

    def listing(self, exclude: Sequence[str] = ()) -> Listing:
        """See ``DocumentSource``."""
        return list_folder(self._root, exclude)

    def read(self, path: bytes, max_bytes: int) -> FileContent:
        """See ``DocumentSource``."""
        return read_file(self._root, path, max_bytes)

    def digest(self, path: bytes) -> tuple[str, int, int]:
        """See ``DocumentSource``."""
        return hash_file(self._root, path)

    def is_there(self, path: bytes) -> bool:
        """Anything but a folder: one that took a file's place is not that file."""
        name = os.path.join(os.fsencode(self._root), path)
        return os.path.lexists(name) and (os.path.islink(name) or not os.path.isdir(name))
