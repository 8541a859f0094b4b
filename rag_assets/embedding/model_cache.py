"""The folder between processes: models converted for this processor, and what the weights that were read last hash to."""

import hashlib
import json
import os
import tempfile
import time
from contextlib import suppress
from io import BufferedReader
from pathlib import Path
from typing import Any

_NOTES = "hashes.json"
_WORTH_NOTING = 1_000_000
"""Bytes from which reading a file again takes longer than looking its hash up."""
_SETTLED_SECONDS = 2.0
"""A file changed less than this before it was read may change again without its times showing it (git's "racy" entries)."""


def cache_folder() -> Path:
    """Where it is: ``RAG_MODEL_CACHE``, else the user's cache folder."""
    named = os.environ.get("RAG_MODEL_CACHE")
    if named:
        return Path(named).expanduser().absolute()
    import platformdirs

    return Path(platformdirs.user_cache_dir("rag-assets", appauthor=False))


def file_hash(path: Path) -> str:
    """The digest of one file's content, as 32 hex digits.

    A large file whose identity, size and times are those it had when it was last hashed is not read again: the weights of a model are
    looked at by every process that embeds anything, and hashing them takes longer than loading them. Among the times is the
    inode's, which nobody can set back.

    Raises:
        OSError: it can't be read.
    """
    with path.open("rb") as file:
        state = _state(file.fileno())
        if state[0] < _WORTH_NOTING:
            return _digest(file)
        known = _read_notes().get(str(path.absolute()))
        if isinstance(known, list) and known[:-1] == state and isinstance(known[-1], str):
            return known[-1]
        began = time.time()
        digest = _digest(file)
        if _state(file.fileno()) == state and max(state[1:3]) / 1e9 < began - _SETTLED_SECONDS:
            _write_note(path, [*state, digest])
        return digest


def _digest(file: BufferedReader) -> str:
    return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def _state(descriptor: int) -> list[int]:
    """Size, times of modification and of the inode's change in nanoseconds, inode, device."""
    found = os.fstat(descriptor)
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_dev]


def _read_notes() -> dict[str, Any]:
    try:
        notes = json.loads((cache_folder() / _NOTES).read_text(encoding="utf-8"))
    except (OSError, ValueError, RuntimeError):
        return {}
    return notes if isinstance(notes, dict) else {}


def _write_note(path: Path, note: list[int | str]) -> None:
    """Add a note, replacing the file whole. Of two processes that do so at once one loses its note, and hashes once more.

    Where nothing can be written (a folder that may only be read, a full disk, a home that is unknown), nothing has to be.
    """
    notes = {name: known for name, known in _read_notes().items() if os.path.exists(name)}
    text = json.dumps({**notes, str(path.absolute()): note})
    with suppress(OSError, RuntimeError):
        folder = cache_folder()
        folder.mkdir(parents=True, exist_ok=True)
        descriptor, unfinished = tempfile.mkstemp(dir=folder, prefix=f"{_NOTES}-")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
            os.replace(unfinished, folder / _NOTES)
        except OSError:
            os.unlink(unfinished)
            raise
