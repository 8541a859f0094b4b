"""What every source can do, and what its names have in common."""

import secrets
from collections.abc import Sequence
from typing import Protocol

from rag_assets.documents.names import (
    display_uri,
    is_excluded,
    is_ignored_file,
    is_ignored_folder,
    suffix_of,
    unsupported,
)
from rag_assets.documents.source import FileContent
from rag_assets.errors import RagAssetsError, UnparsableDocument
from rag_assets.fingerprint import hash_parts
from rag_assets.models import Listing


class SourceUnavailable(RagAssetsError):
    """The source can't be asked right now; what is indexed of it is kept (exit code 1)."""


class DocumentSource(Protocol):
    """Where the documents of a collection are. Paths are those of ``SourceFile.path``, relative to the source."""

    @property
    def parallel(self) -> int:
        """Files that may be read at the same time."""
        ...

    @property
    def description(self) -> str:
        """The source as messages name it; never holds a secret."""
        ...

    def listing(self, exclude: Sequence[str] = ()) -> Listing:
        """Everything in the source, sorted by path; reads no file.

        ``SourceFile.changed_ns`` and ``size`` together are the file's version. A source whose files have another one (an ETag,
        the id of a blob) gives :func:`version_number` of it.

        Args:
            exclude: fnmatch patterns against the uri (``*`` crosses ``/``); what matches is left out without a word.

        Raises:
            ConfigurationError: there is no such source, or it refuses us: a person has to correct that.
            SourceUnavailable: it did not answer, or not to the end. An error is never an empty listing.
        """
        ...

    def read(self, path: bytes, max_bytes: int) -> FileContent:
        """The bytes of one listed file, of one version of it.

        Raises:
            FileGone: it is no longer there.
            FileUnreadable: it may be there but can't be read now, or changed all the time.
            UnparsableDocument: larger than ``max_bytes``; no more than that is read.
        """
        ...

    def digest(self, path: bytes) -> tuple[str, int, int]:
        """(content hash, size, changed_ns) of one file, in constant memory. Raises as ``read`` does, except for size."""
        ...

    def is_there(self, path: bytes) -> bool:
        """The second look before a document is deleted: by name. True also where that can't be found out."""
        ...


def version_number(*parts: object) -> int:
    """A file's version as ``changed_ns`` keeps it: equal for equal parts, 63 bits of their hash. It is no time.

    Nothing to tell a version by gives a number that equals no other: such a file looks changed with every listing, and only
    its bytes say whether it is.
    """
    known = [str(part) for part in parts if part is not None]
    return int(hash_parts(known)[:16], 16) >> 1 if known else secrets.randbits(63)


class Names:
    """Which names of a source are documents, by the rules a folder has."""

    def __init__(self, exclude: Sequence[str]) -> None:
        self._exclude = exclude

    def ignored(self, path: bytes) -> bool:
        """Whether a file is left out without a word: hidden, temporary, excluded, or in a folder that is."""
        *folders, name = path.split(b"/")
        return is_ignored_file(name) or any(is_ignored_folder(folder) for folder in folders) or self.excluded(path)

    def excluded(self, path: bytes) -> bool:
        """Whether the settings leave it out."""
        return is_excluded(display_uri(path), self._exclude)

    def problem(self, path: bytes) -> str | None:
        """Why a file that is not ignored can't be a document."""
        return unsupported(suffix_of(path.rpartition(b"/")[2]))


def too_large(size: int, max_bytes: int) -> UnparsableDocument:
    """The error for a file that is over the limit of what is read.

    Args:
        size: bytes, of the file or of what was read of it before it was given up.
        max_bytes: the limit.
    """
    return UnparsableDocument(
        f"{size / 1e6:,.1f} MB is over parsing.max_file_mb = {max_bytes / 1e6:g}; "
        "raise it in rag_assets.toml or split the file"
    )
