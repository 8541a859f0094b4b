"""Parsing in disposable child processes: a hostile or broken file costs one file, never the run."""

import importlib.metadata
import queue
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from pathlib import PurePosixPath
from types import TracebackType
from typing import Self

from rag_assets.documents.names import SUPPORTED
from rag_assets.documents.parsing_process import Died, ParsingProcess
from rag_assets.errors import RagAssetsError, UnparsableDocument
from rag_assets.fingerprint import fingerprint
from rag_assets.models import ParsedDocument
from rag_assets.settings import ParsingSettings

PARSER_VERSION = 1
"""Raise it whenever a change to this package changes what a document is parsed to."""
_LIBRARIES = (
    "unstructured",
    "lxml",
    "beautifulsoup4",
    "charset-normalizer",
    "docutils",
    "en_core_web_sm",
    "markdown-it-py",
    "openpyxl",
    "pypdfium2",
    "python-docx",
    "python-pptx",
)


def parser_fingerprint(settings: ParsingSettings) -> str:
    """The digest of everything that decides what a file is parsed to; computed without importing a parser."""
    versions = {library: _version(library) for library in _LIBRARIES}
    return fingerprint({"version": PARSER_VERSION, "libraries": versions, "max_characters": settings.max_characters})


@cache
def _version(library: str) -> str | None:
    """Read from the package's files, once a process; None where it is not installed."""
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return None


def attempt_fingerprint(settings: ParsingSettings) -> str:
    """The digest of everything that decides whether a file can be parsed: the parser, and the limits it works within."""
    limits = settings.model_dump(include={"max_file_mb", "timeout_seconds", "memory_mb"})
    return fingerprint([parser_fingerprint(settings), limits])


class ParserPool:
    """Up to ``settings.workers`` warm parsing processes, started when first needed. Thread-safe."""

    def __init__(self, settings: ParsingSettings) -> None:
        self._settings = settings
        self._idle: queue.LifoQueue[ParsingProcess | None] = queue.LifoQueue()
        for _ in range(settings.workers):
            self._idle.put(None)
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Stop every process, after the files being parsed; calling it again does nothing."""
        if self._closed:
            return
        self._closed = True
        for _ in range(self._settings.workers):
            child = self._idle.get()
            if child is not None:
                child.stop()

    def warm(self, uris: Iterable[str]) -> None:
        """Start a process and load the readers these files need, in the background, while the caller prepares its work.

        Whatever goes wrong here goes wrong again, and is said, when a file is parsed.
        """
        kinds = {PurePosixPath(uri).suffix.lower(): uri for uri in uris}
        first = [uri for suffix, uri in kinds.items() if suffix in SUPPORTED]
        if first and not self._closed:
            threading.Thread(target=self._warm, args=(first,), name="warm-parser", daemon=True).start()

    def _warm(self, uris: Sequence[str]) -> None:
        child = self._idle.get()
        try:
            child = child or ParsingProcess(self._settings)
            for uri in uris:
                child.prepare(uri)
        except (Died, RagAssetsError, UnparsableDocument, OSError):
            if child is not None:
                child.stop()
            child = None
        finally:
            self._idle.put(child)

    def parse(self, uri: str, data: bytes) -> ParsedDocument:
        """Parse one document; its format is decided by the extension of ``uri``.

        Raises:
            UnparsableDocument: why this file can't be parsed, as a phrase to put after its name.
            RagAssetsError: the pool is closed, or a parsing process does not start.
        """
        if not data:
            raise UnparsableDocument("is empty")
        if PurePosixPath(uri).suffix.lower() not in SUPPORTED:
            raise UnparsableDocument(f"is in no supported format (supported: {', '.join(sorted(SUPPORTED))})")
        if self._closed:
            raise RagAssetsError("The parser pool is closed. Open a new one.")
        child = self._idle.get()
        try:
            for _ in range(2):
                if child is None:
                    child = ParsingProcess(self._settings)
                fresh = child.files == 0
                try:
                    return child.parse(uri, data)
                except Died as death:
                    child.stop()
                    child = None
                    # An earlier file may have used up the memory, or damaged the process, that this one died of.
                    if fresh or not death.retry:
                        raise UnparsableDocument(str(death)) from None
            raise AssertionError("the second process is always a fresh one")
        finally:
            self._idle.put(child)

    def parse_many(self, items: Iterable[tuple[str, bytes]]) -> Iterator[ParsedDocument | UnparsableDocument]:
        """Parse (uri, bytes) pairs on all processes; results come in order, errors as values."""
        pending: deque[Future[ParsedDocument | UnparsableDocument]] = deque()
        with ThreadPoolExecutor(self._settings.workers, thread_name_prefix="parse") as executor:
            for uri, data in items:
                pending.append(executor.submit(self._try_parse, uri, data))
                if len(pending) > 2 * self._settings.workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()

    def _try_parse(self, uri: str, data: bytes) -> ParsedDocument | UnparsableDocument:
        try:
            return self.parse(uri, data)
        except UnparsableDocument as error:
            return error
