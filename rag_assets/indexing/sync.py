"""``sync``: bring an index up to date. Plan, run the dirty shards, publish what is not live yet."""

import random
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol, TypeVar

from rag_assets.database import ledger
from rag_assets.database.generations import Generation
from rag_assets.errors import ConfigurationError, DatabaseLost, GateRefused, Superseded
from rag_assets.indexing import raw_documents
from rag_assets.indexing.ahead import Ahead
from rag_assets.indexing.mirroring import catch_up
from rag_assets.indexing.planning import Planned, make_plan, note_listing, refuse_other_folder
from rag_assets.indexing.rebuilding import begin_if_cheaper
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
    accepted: Callable[[Planned], None] = lambda _: None,
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
        accepted(planned)
    running = _Lazy(runner)
    options = {"verify": verify, "allow_mass_delete": allow_mass_delete}
    rebuilt_because = _persistently(runtime, lambda: begin_if_cheaper(runtime, planned))
    if rebuilt_because:
        runtime.resting.add(collection)
    try:
        before = _persistently(runtime, lambda: runtime.target(collection))
        shards = shards_to_run(runtime, planned, None if rebuilt_because else before)
        _run_shards(runtime, running, planned, shards, **options)
        promoted, refused = _publish(runtime, running, collection)
    finally:
        runtime.resting.discard(collection)
    if rebuilt_because and not promoted:
        # What was live answers on, with what changed since: that is owed whether or not a better graph could be had.
        planned_again = _persistently(runtime, look)
        _run_shards(runtime, running, planned_again, planned_again.plan.dirty_shards, **options)
    target = _persistently(runtime, lambda: runtime.target(collection))
    results, seconds = runtime.results[first:], time.perf_counter() - started
    return _persistently(
        runtime,
        lambda: made_report(
            runtime, planned.plan, results, target, shards, promoted, refused, seconds, rebuilt_because
        ),
    )


def look_again(runtime: Runtime, collection: str) -> tuple[Planned, SyncReport] | None:
    """What a sync finds and reports when nothing is left to do; None: something is. Nothing is begun or written."""
    began = time.perf_counter()
    planned = make_plan(runtime, collection)
    target = runtime.target(collection)
    if not planned.plan.is_empty or planned.plan.touched or planned.plan.withheld or target is None:
        return None
    seconds = time.perf_counter() - began
    return planned, made_report(runtime, planned.plan, (), target, (), promoted=False, refused=None, seconds=seconds)


def _publish(runtime: Runtime, runner: "RunnerFactory", collection: str) -> tuple[bool, str | None]:
    """(whether the target went live, why it was refused); nothing is done if there is nothing that could go live."""
    _persistently(runtime, lambda: catch_up(runtime, collection))
    target = _persistently(runtime, lambda: runtime.target(collection))
    if target is None or target.is_live or target.state == "withdrawn":
        return False, None
    publisher = runner()
    try:
        _persistently(runtime, lambda: publisher.publish(collection))
    except GateRefused as error:
        return False, str(error)
    return True, None


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


class _Lazy:
    """Makes the runner when it is first asked for, once."""

    def __init__(self, make: RunnerFactory) -> None:
        self._make = make
        self._made: Runner | None = None

    def __call__(self) -> Runner:
        self._made = self._made or self._make()
        return self._made


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
    runner: RunnerFactory,
    planned: Planned,
    shards: Sequence[int],
    *,
    verify: bool,
    allow_mass_delete: bool,
) -> None:
    if not shards:
        return
    raw_documents.prepare(runtime, planned.plan.changes)
    collection = planned.plan.collection
    runtime.plans[collection] = planned.plan
    try:
        waiting = list(shards)
        for attempt in range(ATTEMPTS):
            with Ahead(runtime, runtime.plans[collection], waiting):
                # Making it imports for a second; files are parsed meanwhile.
                lost = _run_each(runtime, runner(), collection, waiting)
            if not lost:
                return
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
