"""Parsing in disposable child processes: a hostile or broken file costs one file, never the run."""

import contextlib
import importlib.metadata
import os
import queue
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any, Self

import rag_assets
from rag_assets.documents.names import SUPPORTED
from rag_assets.documents.protocol import BrokenFrame, document_from_json, read_frame, write_frame
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
_START_SECONDS = 120
"""For importing libraries, on a loaded machine; not counted against any file."""


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
        self._idle: queue.LifoQueue[_Child | None] = queue.LifoQueue()
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
            child = child or _Child(self._settings)
            for uri in uris:
                child.prepare(uri)
        except (_Died, RagAssetsError, UnparsableDocument, OSError):
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
                    child = _Child(self._settings)
                fresh = child.files == 0
                try:
                    return child.parse(uri, data)
                except _Died as death:
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
        if self._settings.workers == 1:
            yield from (self._try_parse(uri, data) for uri, data in items)
            return
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


class _Died(Exception):
    """The process ended, or was ended, in the middle of a file. The message is the reason to quarantine the file."""

    def __init__(self, reason: str, *, retry: bool) -> None:
        super().__init__(reason)
        self.retry = retry


class _Child:
    """One parsing process; used by one thread at a time."""

    def __init__(self, settings: ParsingSettings) -> None:
        self.files = 0
        self._settings = settings
        self._prepared: set[str] = set()
        self._folder = tempfile.TemporaryDirectory(prefix="rag-parse-", ignore_cleanup_errors=True)
        with open(Path(self._folder.name) / "stderr", "wb") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __package__ + ".worker", str(settings.memory_mb), str(settings.timeout_seconds)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                cwd=self._folder.name,
                env=_environment(self._folder.name),
                start_new_session=True,
            )

    def prepare(self, uri: str) -> None:
        """Load the reader of this kind of file, if it is not."""
        suffix = PurePosixPath(uri).suffix.lower()
        if suffix in self._prepared:
            return
        try:
            reply = self._ask({"request": "prepare", "uri": uri}, b"", _START_SECONDS)
        except _Died:
            if self.files:
                raise
            raise RagAssetsError(
                f"A parsing process does not start: {self._last_words()}. "
                f"Is parsing.memory_mb = {self._settings.memory_mb} enough for {suffix} files?"
            ) from None
        if "broken" in reply:
            reason = f"The reader of {suffix} files can't be loaded: {reply['broken']}. Reinstall rag-assets."
            if self.files:
                # Earlier files may have left too little memory for another library.
                raise _Died(reason, retry=True)
            raise RagAssetsError(reason)
        self._prepared.add(suffix)

    def parse(self, uri: str, data: bytes) -> ParsedDocument:
        self.prepare(uri)
        self.files += 1
        request = {"request": "parse", "uri": uri, "max_characters": self._settings.max_characters}
        reply = self._ask(request, data, self._settings.timeout_seconds)
        if "memory" in reply:
            raise _Died(
                f"needs more than parsing.memory_mb = {self._settings.memory_mb} MB to be parsed; "
                "raise it in rag_assets.toml or split the file",
                retry=True,
            )
        if "error" in reply:
            raise UnparsableDocument(reply["error"])
        return document_from_json(reply["document"])

    def _ask(self, request: dict[str, Any], body: bytes, seconds: float) -> dict[str, Any]:
        """Send one request and wait for its reply; at the deadline the process is killed, which ends the wait."""
        process, expired = self._process, threading.Event()

        def expire() -> None:
            expired.set()
            process.kill()

        assert process.stdin is not None
        assert process.stdout is not None
        timer = threading.Timer(seconds, expire)
        timer.daemon = True
        timer.start()
        try:
            write_frame(process.stdin, request, body)  # type: ignore[arg-type]
            # A reply is the text, quoted as JSON, a few bytes for every element, and its metadata.
            reply, _ = read_frame(process.stdout, 16 * self._settings.max_characters + 64_000_000)  # type: ignore[arg-type]
        except (BrokenFrame, OSError):
            raise self._death(expired.is_set()) from None
        finally:
            timer.cancel()
        return reply

    def _death(self, expired: bool) -> _Died:
        self._process.kill()
        status = self._process.wait()
        if expired:
            return _Died(
                f"took longer than parsing.timeout_seconds = {self._settings.timeout_seconds:g} to parse; "
                "raise it in rag_assets.toml or split the file",
                retry=False,
            )
        how = f"signal {-status}" if status < 0 else f"status {status}"
        return _Died(f"crashed the parsing process ({how}: {self._last_words()}); save or export it again", retry=True)

    def _last_words(self) -> str:
        try:
            with open(Path(self._folder.name) / "stderr", "rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - 2000))
                lines = file.read().decode("utf-8", "replace").strip().splitlines()
        except OSError:
            lines = []
        return lines[-1][:300] if lines else "it left no message"

    def stop(self) -> None:
        """End the process and remove its folder."""
        process = self._process
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        process.kill()
        process.wait()
        self._folder.cleanup()


def _environment(folder: str) -> dict[str, str]:
    """What a parsing process needs to run Python, and nothing of ours: no keys, no proxies."""
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", "SYSTEMROOT") if name in os.environ}
    packages = [str(Path(rag_assets.__file__).parent.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {
        **kept,
        "HOME": folder,
        "TMPDIR": folder,
        "LANG": "C.UTF-8",
        "PYTHONPATH": os.pathsep.join(packages),
        "PYTHONUTF8": "1",
    }
