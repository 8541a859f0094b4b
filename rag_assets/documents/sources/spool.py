"""What was read to be compared is kept until it is parsed, so that no file crosses the network twice for one run."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import IO

from rag_assets.documents.source import FileContent
from rag_assets.documents.sources.protocol import DocumentSource
from rag_assets.errors import UnparsableDocument
from rag_assets.models import Listing, SourceFile

MAX_FILE_BYTES = 32_000_000
MAX_BYTES = 2_000_000_000


@dataclass(frozen=True, slots=True)
class _Kept:
    start: int
    content_hash: str
    size: int
    changed_ns: int


class Spooled:
    """A source whose files are kept when hashed, and given out once when read; in a file that has no name.

    Only the version that the last listing showed is given out: bytes kept for a plan that came to nothing are never taken
    for a later one's.
    """

    def __init__(self, source: DocumentSource) -> None:
        self.parallel = source.parallel
        self._source = source
        self._lock = Lock()
        self._file: IO[bytes] | None = None
        self._kept: dict[bytes, _Kept] = {}
        self._listed: Mapping[bytes, SourceFile] = {}

    @property
    def description(self) -> str:
        """See ``DocumentSource``."""
        return self._source.description

    def listing(self, exclude: Sequence[str] = ()) -> Listing:
        """See ``DocumentSource``."""
        found = self._source.listing(exclude)
        with self._lock:
            self._listed = {file.path: file for file in found.files}
            for path, kept in list(self._kept.items()):
                if not self._is_listed(path, kept.changed_ns):
                    self._drop(path)
        return found

    def digest(self, path: bytes) -> tuple[str, int, int]:
        """See ``DocumentSource``."""
        listed = self._listed.get(path)
        if listed is not None and listed.size > MAX_FILE_BYTES:
            return self._source.digest(path)
        try:
            content = self._source.read(path, MAX_FILE_BYTES)
        except UnparsableDocument:  # it has grown, or its size was not known
            return self._source.digest(path)
        self._keep(path, content)
        return content.content_hash, content.size, content.changed_ns

    def read(self, path: bytes, max_bytes: int) -> FileContent:
        """See ``DocumentSource``."""
        with self._lock:
            kept = self._kept.get(path)
            if kept is not None and self._file is not None:
                self._file.seek(kept.start)
                data = self._file.read(kept.size) if kept.size <= max_bytes else b""
                self._drop(path)
                if len(data) == kept.size:
                    return FileContent(data, kept.content_hash, kept.size, kept.changed_ns)
        return self._source.read(path, max_bytes)

    def is_there(self, path: bytes) -> bool:
        """See ``DocumentSource``."""
        return self._source.is_there(path)

    def _keep(self, path: bytes, content: FileContent) -> None:
        with self._lock:
            if not self._is_listed(path, content.changed_ns):
                return
            self._file = self._file or tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as what is in it
            start = self._file.seek(0, 2)
            if start + content.size > MAX_BYTES:
                return
            self._file.write(content.data)
            self._kept[path] = _Kept(start, content.content_hash, content.size, content.changed_ns)

    def _is_listed(self, path: bytes, changed_ns: int) -> bool:
        listed = self._listed.get(path)
        return listed is not None and listed.changed_ns == changed_ns

    def _drop(self, path: bytes) -> None:
        """Forget what is kept of a file; the space is given back when nothing is kept."""
        del self._kept[path]
        if not self._kept and self._file is not None:
            self._file.close()
            self._file = None
