"""Runs a command and measures it from outside: wall time, and the peak memory of its process tree and of PostgreSQL."""

import json
import os
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

INTERVAL = 0.1
"""Seconds between two looks at the memory."""


class CommandFailed(RuntimeError):
    """The command ended with an error; the message holds the end of what it said."""


LOG = "stderr.log"


@dataclass(frozen=True, slots=True)
class Measured:
    """One command: what it printed last, as JSON, and what it took."""

    reply: dict[str, Any]
    seconds: float
    """Wall time, process start included."""
    client_mb: float
    """Peak resident memory of the process and its children together, MB (10^6 bytes)."""
    server_mb: float
    """Peak proportional memory (PSS) of all processes of PostgreSQL, MB."""


def measured(
    command: Sequence[str | Path], *, environment: Mapping[str, str], folder: Path, server: psutil.Process | None
) -> Measured:
    """Run a command to its end.

    Raises:
        CommandFailed: it ended with an error, or its last line is not JSON.
    """
    log = folder / LOG
    with log.open("wb") as errors:
        began = time.perf_counter()
        process = subprocess.Popen(
            [str(part) for part in command], env=dict(environment), cwd=folder, stdout=subprocess.PIPE, stderr=errors
        )
        with Peak(lambda: _tree_rss(process.pid)) as client, Peak(lambda: tree_pss(server)) as backend:
            output, _ = process.communicate()
            # What watches the memory may be in the midst of a look.
            seconds = time.perf_counter() - began
    if process.returncode:
        raise CommandFailed(
            f"{command[0]} ended with {process.returncode}: …{log.read_text('utf-8', 'replace')[-1500:]}"
        )
    lines = output.decode("utf-8").strip().splitlines()
    try:
        # The product prints one object over several lines, workers one line after whatever their libraries print.
        reply = json.loads(lines[-1]) if lines[-1].startswith("{") and len(lines[-1]) > 1 else json.loads(output)
    except (ValueError, IndexError):
        raise CommandFailed(f"{command[0]} printed no JSON: …{output[-500:]!r}") from None
    return Measured(reply, seconds, client.bytes / 1e6, backend.bytes / 1e6)


class Peak:
    """The highest value a function had while the block ran."""

    def __init__(self, look: Callable[[], int]) -> None:
        self._look = look
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.bytes = 0

    def __enter__(self) -> "Peak":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._end.wait(INTERVAL):
            self.bytes = max(self.bytes, self._look())


def _tree_rss(pid: int) -> int:
    total = 0
    try:
        root = psutil.Process(pid)
        for process in [root, *root.children(recursive=True)]:
            try:
                total += process.memory_info().rss
            except psutil.Error:
                continue
    except psutil.Error:
        return total
    return total


def tree_pss(root: psutil.Process | None) -> int:
    """Pages that processes share, as PostgreSQL's buffers are, count once; 0 where the system does not say."""
    if root is None:
        return 0
    total = 0
    try:
        family = [root, *root.children(recursive=True)]
    except psutil.Error:
        return 0
    for process in family:
        try:
            for line in Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
        except OSError:
            continue
    return total


def folder_bytes(folder: Path) -> int:
    """Bytes of all files under a folder, as allocated."""
    return sum(os.lstat(path).st_blocks * 512 for path in folder.rglob("*")) if folder.is_dir() else 0
