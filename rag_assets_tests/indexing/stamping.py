"""Syncs as the command does them, with a stamp, and what the next one is told by it."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rag_assets.indexing.planning import Planned
from rag_assets.indexing.sync import sync
from rag_assets.indexing.sync_report import SyncReport
from rag_assets.runtime import Runtime
from rag_assets.stamp import Stamp
from rag_assets_tests.fakes import DirectRunner

CALL = ("sync", "--json")
FORGET_ONE = "DELETE FROM rag.document WHERE doc_id = (SELECT min(doc_id) FROM rag.document)"
ATTEMPTS = 5
"""The server's own housekeeping begins a transaction now and then, after which nothing is known to be unchanged."""


def noted(
    runtime: Runtime, *, settled: bool = True, meanwhile: Callable[[], Any] = lambda: None, **options: bool
) -> SyncReport:
    """A sync as the command does it. ``settled``: as if every file had been left alone for a while; ``meanwhile`` happens when it has looked."""
    stamp = settled_stamp() if settled else Stamp(CALL)
    stamp.begin(runtime, "default")
    plans: list[Planned] = []
    report = sync(runtime, "default", lambda: DirectRunner(runtime), accepted=plans.append, **options)
    meanwhile()
    for planned in plans:
        stamp.write(runtime, planned, report, lambda _: None)
    return report


def settled_stamp() -> Stamp:
    """One for which every file was left alone for a while."""
    stamp = Stamp(CALL)
    stamp._began += 60_000_000_000
    return stamp


def known() -> dict[str, Any] | None:
    """What a sync is told without looking."""
    told = Stamp(CALL).told()
    return None if told is None else json.loads(told)


def stamp_file() -> Path:
    """Where the stamp of such a sync is."""
    call = Stamp(CALL)._call
    assert call is not None
    return call.file


def is_known_after(again: Callable[..., SyncReport], **settings: Any) -> bool:
    """Whether a sync that found nothing to do spares the next one the look."""
    for _ in range(ATTEMPTS):
        again(**settings)
        if known() is not None:
            return True
    return False


def rewrite(path: Path) -> None:
    """Other content of the same length, and no trace of it in the file's own times."""
    before = path.stat()
    path.write_bytes(path.read_bytes().swapcase())
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
