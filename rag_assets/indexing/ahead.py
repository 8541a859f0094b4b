"""Stages of a sync that run ahead of the Dagster runs that report them, so that the model never waits for a file or a row.

A shard's run does its four stages one after the other, and shards run one after the other. Beside them two threads go ahead
through the same shards: one parses and cuts, one embeds what is cut, of a shard that is being cut as it comes. A run that comes
to such a stage takes the result, waiting for it if need be. Nothing else changes: a stage writes under its own lease in its own
transactions whoever calls it, so that what a killed or superseded sync had done ahead is found by the next.
"""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future, wait
from functools import partial
from types import TracebackType
from typing import Self

from rag_assets.errors import Superseded
from rag_assets.indexing import chunks, embeddings, raw_documents
from rag_assets.indexing.results import StageResult
from rag_assets.plan import Plan
from rag_assets.runtime import Runtime

_STAGES = ("raw_documents", "chunks", "embeddings")


class _Ended(Exception):
    """The sync that a thread works for has ended."""


def taken(runtime: Runtime, stage: str, collection: str, shard: int, work: Callable[[], StageResult]) -> StageResult:
    """What a sync in this process has done ahead of a stage, waiting until it is done; else what ``work`` does."""
    future = runtime.ahead.get((stage, collection, shard))
    if future is None:
        return work()
    try:
        return future.result()
    except CancelledError:
        return work()


class Ahead:
    """Works through shards of a plan while entered; leaving it ends what is under way at its next batch."""

    def __init__(self, runtime: Runtime, plan: Plan, shards: Sequence[int]) -> None:
        self._runtime = runtime
        self._plan = plan
        self._shards = tuple(shards)
        self._ended = threading.Event()
        self._progress = runtime.progress
        self._futures: dict[tuple[str, str, int], Future[StageResult]] = {
            (stage, plan.collection, shard): Future() for shard in shards for stage in _STAGES
        }
        self._threads = [
            threading.Thread(target=work, name=f"ahead{work.__name__}", daemon=True)
            for work in (self._prepare, self._embed)
        ]

    def __enter__(self) -> Self:
        self._runtime.progress = self._stoppable
        self._runtime.ahead.update(self._futures)
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._ended.set()
        self._cancel()
        for thread in self._threads:
            thread.join()
        for key in self._futures:
            del self._runtime.ahead[key]
        self._runtime.progress = self._progress

    def _stoppable(self, step: str, done: int, total: int | None) -> None:
        """Stages say how far they are after every batch: there a thread that nobody waits for any more ends."""
        if self._ended.is_set() and threading.current_thread() in self._threads:
            raise _Ended
        self._progress(step, done, total)

    def _prepare(self) -> None:
        runtime, plan = self._runtime, self._plan
        for shard in self._shards:
            self._do("raw_documents", shard, partial(raw_documents.materialize, runtime, plan, shard))
            self._do("chunks", shard, partial(chunks.materialize, runtime, plan.collection, shard), "raw_documents")

    def _embed(self) -> None:
        for shard in self._shards:
            self._do("embeddings", shard, partial(self._embed_shard, shard), "raw_documents")

    def _embed_shard(self, shard: int) -> StageResult:
        """Embed a shard while it is being cut."""
        chunked = self._futures["chunks", self._plan.collection, shard]

        def cutting(seconds: float) -> bool:
            wait([chunked], timeout=seconds)
            if not chunked.done():
                return True
            chunked.result()
            return False

        return embeddings.materialize(self._runtime, self._plan.collection, shard, cutting)

    def _do(self, stage: str, shard: int, work: Callable[[], StageResult], after: str | None = None) -> None:
        """Do a stage when the one before it is done; what it raises is for the run that asks for it."""
        future = self._futures[stage, self._plan.collection, shard]
        before = self._futures.get((after, self._plan.collection, shard)) if after else None
        if before is not None:
            wait([before])
            if before.cancelled():
                future.cancel()
        if not future.set_running_or_notify_cancel():
            return
        try:
            if before is not None:
                before.result()
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)
            if not isinstance(error, Superseded):
                # Whatever it is would befall the rest, too. If the runs go on, for the database is back, they do it themselves.
                self._cancel()

    def _cancel(self) -> None:
        for future in self._futures.values():
            future.cancel()
