"""``sync``: bring an index up to date. Plan, run the dirty shards, publish what is not live yet."""

import random
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol, TypeVar

from rag_assets.database import ledger
from rag_assets.database.generations import Generation
from rag_assets.errors import ConfigurationError, DatabaseLost, GateRefused, Superseded
from rag_assets.indexing.ahead import Ahead
from rag_assets.indexing.mirroring import catch_up
from rag_assets.indexing.planning import Planned, make_plan, note_listing, refuse_other_folder
from rag_assets.indexing.raw_documents import READS
from rag_assets.indexing.sync_report import SyncReport, made_report
from rag_assets.runtime import Runtime

_T = TypeVar("_T")
ATTEMPTS = 5
"""How often a shard is tried when other runs keep writing it, or the database goes away."""
QUIET_SECONDS = 1.0
"""A shard that nobody has written for so long is taken to be free: two runs that only tried again would go on superseding
each other."""
QUIET_ATTEMPTS = 30
"""How often that is looked for; a run that is still writing then is superseded."""


class Runner(Protocol):
    """Runs assets. The one we have materializes them with Dagster in this process."""

    def update_shard(self, collection: str, shard: int) -> None:
        """Materialize the four shard assets of one partition."""
        ...

    def publish(self, collection: str) -> None:
        """Materialize the index assets: build, evaluate, promote if it passes, report.

        Raises:
            GateRefused: the generation did not pass.
        """
        ...


def sync(
    runtime: Runtime,
    collection: str,
    runner: "RunnerFactory",
    *,
    verify: bool = False,
    allow_mass_delete: bool = False,
    accepted: Callable[[], None] = lambda: None,
) -> SyncReport:
    """Make the live index equal to the source under the configuration.

    Args:
        runtime: the parts.
        collection: its name.
        runner: makes the runner; only called when there is something to run.
        verify: hash every file.
        allow_mass_delete: a person confirmed that many documents are gone.
        accepted: called before any work, once the source is known to hold documents and to be no wholly different one.

    Raises:
        ConfigurationError: the source is missing, or holds nothing that could be indexed.
        Superseded: other runs kept writing the same shards.
    """
    started = time.perf_counter()
    first = len(runtime.results)

    runtime.store(collection).check()
    # Hashing a model takes longer than listing a thousand files, and another core.
    runtime.prepare(lambda: runtime.embedder.fingerprint)

    def look() -> Planned:
        planned = make_plan(runtime, collection, verify=verify, allow_mass_delete=allow_mass_delete)
        refuse_other_folder(runtime, planned)
        note_listing(runtime, planned)
        return planned

    planned = _persistently(runtime, look)
    _refuse_empty(runtime, collection, planned)
    if not planned.plan.withheld:
        accepted()
    before = _persistently(runtime, lambda: runtime.target(collection))
    shards = shards_to_run(runtime, planned, before)
    running: Runner | None = None
    if shards:
        # Parsing processes and the model start while files are read: they take seconds.
        read = [change.uri for change in planned.plan.changes if change.kind in READS]
        runtime.parsers.warm(read)
        if read:
            runtime.prepare(runtime.embedder.warm)
        running = _run_shards(runtime, runner, planned, shards, verify=verify, allow_mass_delete=allow_mass_delete)
    _persistently(runtime, lambda: catch_up(runtime, collection))
    target = _persistently(runtime, lambda: runtime.target(collection))
    promoted, refused = False, None
    if target is not None and not target.is_live and target.state != "withdrawn":
        publisher = running or runner()
        try:
            _persistently(runtime, lambda: publisher.publish(collection))
            promoted = True
        except GateRefused as error:
            refused = str(error)
        target = _persistently(runtime, lambda: runtime.target(collection))
    results, seconds = runtime.results[first:], time.perf_counter() - started
    return _persistently(
        runtime, lambda: made_report(runtime, planned.plan, results, target, shards, promoted, refused, seconds)
    )


def _persistently(runtime: Runtime, step: Callable[[], _T]) -> _T:
    """Do a step; again, if the database went away meanwhile. Every step of a sync can be repeated."""
    for _ in range(ATTEMPTS - 1):
        try:
            return step()
        except DatabaseLost:
            runtime.database.wait_until_back()
    return step()


class RunnerFactory(Protocol):
    """Makes a runner: importing Dagster costs a second that a sync with nothing to do should not pay."""

    def __call__(self) -> Runner:
        """The runner."""
        ...


def shards_to_run(runtime: Runtime, planned: Planned, target: Generation | None) -> list[int]:
    """The dirty shards; all of them when the target generation does not exist yet, so that every partition does."""
    return list(range(runtime.settings.sync.shards)) if target is None else list(planned.plan.dirty_shards)


def _refuse_empty(runtime: Runtime, collection: str, planned: Planned) -> None:
    if planned.listing.files or planned.have.files:
        return
    source = runtime.source(collection).description
    skipped = (
        f" {len(planned.problems)} files in it were skipped; `rag-assets status` says why." if planned.problems else ""
    )
    raise ConfigurationError(
        f"The source {source} holds no document that can be indexed.{skipped} Add some, or correct it."
    )


def _run_shards(
    runtime: Runtime,
    runner: "RunnerFactory",
    planned: Planned,
    shards: Sequence[int],
    *,
    verify: bool,
    allow_mass_delete: bool,
) -> Runner:
    collection = planned.plan.collection
    runtime.plans[collection] = planned.plan
    running: Runner | None = None
    try:
        waiting = list(shards)
        for attempt in range(ATTEMPTS):
            with Ahead(runtime, runtime.plans[collection], waiting):
                # Making it imports for a second; files are parsed meanwhile.
                running = running or runner()
                lost = _run_each(runtime, running, collection, waiting)
            if not lost:
                return running
            if attempt + 1 < ATTEMPTS:
                _persistently(runtime, partial(_wait_for_writers, runtime, collection, lost))
                runtime.plans[collection] = _persistently(
                    runtime,
                    lambda: make_plan(runtime, collection, verify=verify, allow_mass_delete=allow_mass_delete),
                ).plan
                waiting = lost
    finally:
        # Whatever runs next in this process looks for itself.
        runtime.plans.pop(collection, None)
    raise Superseded(
        f"Shards {lost} of {collection!r} could not be written: other runs keep writing them, or the database keeps going "
        "away. Wait for that to end, or run sync again."
    )


def _wait_for_writers(runtime: Runtime, collection: str, lost: Sequence[int]) -> None:
    """Return when no run writes these shards, or one has for too long; nobody's next transaction is in the way of it."""
    seen: int | None = None
    for _ in range(QUIET_ATTEMPTS):
        with runtime.database.transaction() as connection:
            writes = ledger.writes(connection, collection, runtime.settings.sync.shards, lost)
        if writes == seen:
            return
        seen = writes
        time.sleep(QUIET_SECONDS * random.uniform(0.7, 1.3))


def _run_each(runtime: Runtime, runner: Runner, collection: str, shards: Sequence[int]) -> list[int]:
    """Run shards one after the other; returns those that have to be run again."""
    lost = []
    for number, shard in enumerate(shards):
        try:
            runner.update_shard(collection, shard)
        except Superseded:
            lost.append(shard)
        except DatabaseLost:
            runtime.database.wait_until_back()
            lost.append(shard)
        runtime.progress("shards", number + 1, len(shards))
    return lost
