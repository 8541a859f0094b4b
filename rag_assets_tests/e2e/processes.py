"""Which processes belong to an installation; nothing is ever found, or ended, by name."""

import shutil
import time
from pathlib import Path

import psutil

from rag_assets.database.location import existing_cluster

_PATIENCE = 20.0
"""Seconds until a process that was told to end must have gone."""


def running_in(home: Path) -> list[psutil.Process]:
    """The living processes that were started with this RAG_HOME, or work in its database's folder."""
    cluster = existing_cluster(home.resolve())
    found = []
    for process in psutil.process_iter():
        try:
            ours = process.environ().get("RAG_HOME") == str(home) or str(home) in " ".join(process.cmdline())
            ours = ours or (cluster is not None and process.cwd() == str(cluster.data))
            if ours and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.Error, OSError):  # it has ended meanwhile, or is not ours to look at
            continue
    return found


def family(pid: int, home: Path) -> set[psutil.Process]:
    """A command's process, everything below it, and the server it uses."""
    top = psutil.Process(pid)
    return {top, *top.children(recursive=True), *running_in(home)}


def assert_all_end(processes: set[psutil.Process]) -> None:
    """Fails when one of these (a PID with its start time) is still there after a while."""
    _, alive = psutil.wait_procs([p for p in processes if p.is_running()], timeout=_PATIENCE)
    left = [p for p in alive if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
    assert not left, left


def assert_nothing_runs_in(home: Path) -> None:
    """Fails when processes of an installation outlive their commands."""
    deadline = time.monotonic() + _PATIENCE
    while (left := running_in(home)) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not left, left


def remove_cluster(home: Path) -> None:
    """Delete the database of an installation; for root it may lie outside RAG_HOME, where nobody else clears it away."""
    cluster = existing_cluster(home.resolve())
    if cluster is not None:
        shutil.rmtree(cluster.data.parent)
