"""A process that parses files one after the other, as its parent sees it."""

import contextlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path, PurePosixPath
from typing import Any

import rag_assets
from rag_assets.documents.protocol import BrokenFrame, document_from_json, read_frame, write_frame
from rag_assets.documents.watchdog import Watchdog
from rag_assets.errors import RagAssetsError, UnparsableDocument
from rag_assets.models import ParsedDocument
from rag_assets.settings import ParsingSettings

_START_SECONDS = 120
"""For importing libraries, on a loaded machine; not counted against any file."""


class Died(Exception):
    """The process ended, or was ended, in the middle of a file. The message is the reason to quarantine the file."""

    def __init__(self, reason: str, *, retry: bool) -> None:
        super().__init__(reason)
        self.retry = retry


class ParsingProcess:
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
        self._watchdog = Watchdog(self._process.kill)

    def prepare(self, uri: str) -> None:
        """Load the reader of this kind of file, if it is not."""
        suffix = PurePosixPath(uri).suffix.lower()
        if suffix in self._prepared:
            return
        try:
            reply = self._ask({"request": "prepare", "uri": uri}, b"", _START_SECONDS)
        except Died:
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
                raise Died(reason, retry=True)
            raise RagAssetsError(reason)
        self._prepared.add(suffix)

    def parse(self, uri: str, data: bytes) -> ParsedDocument:
        """Parse one file.

        Raises:
            Died: the process is of no more use; the message says why.
            UnparsableDocument: this file can't be parsed.
        """
        self.prepare(uri)
        self.files += 1
        request = {"request": "parse", "uri": uri, "max_characters": self._settings.max_characters}
        reply = self._ask(request, data, self._settings.timeout_seconds)
        if "memory" in reply:
            raise Died(
                f"needs more than parsing.memory_mb = {self._settings.memory_mb} MB to be parsed; "
                "raise it in rag_assets.toml or split the file",
                retry=True,
            )
        if "error" in reply:
            raise UnparsableDocument(reply["error"])
        return document_from_json(reply["document"])

    def _ask(self, request: dict[str, Any], body: bytes, seconds: float) -> dict[str, Any]:
        """Send one request and wait for its reply; at the deadline the process is killed, which ends the wait."""
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        self._watchdog.watch(seconds)
        try:
            write_frame(process.stdin, request, body)  # type: ignore[arg-type]
            # A reply is the text, quoted as JSON, a few bytes for every element, and its metadata.
            reply, _ = read_frame(process.stdout, 16 * self._settings.max_characters + 64_000_000)  # type: ignore[arg-type]
        except (BrokenFrame, OSError):
            raise self._death(expired=self._watchdog.bit) from None
        finally:
            self._watchdog.rest()
        if self._watchdog.bit:
            # The reply came in the very moment; the next request would find the process dead.
            raise self._death(expired=True)
        return reply

    def _death(self, *, expired: bool) -> Died:
        self._process.kill()
        status = self._process.wait()
        if expired:
            return Died(
                f"took longer than parsing.timeout_seconds = {self._settings.timeout_seconds:g} to parse; "
                "raise it in rag_assets.toml or split the file",
                retry=False,
            )
        how = f"signal {-status}" if status < 0 else f"status {status}"
        return Died(f"crashed the parsing process ({how}: {self._last_words()}); save or export it again", retry=True)

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
        self._watchdog.dismiss()
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
