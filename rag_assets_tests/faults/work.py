"""What the processes of a trial do."""

from typing import Any

from rag_assets.errors import ConfigurationError, RagAssetsError
from rag_assets.evaluation.nightly import nightly
from rag_assets.indexing import forgetting, garbage, promotion, reconcile
from rag_assets.indexing.planning import make_plan, note_listing
from rag_assets.indexing.sync import Runner, shards_to_run, sync
from rag_assets_tests.driving import run
from rag_assets_tests.fakes import DirectRunner
from rag_assets_tests.faults.subject import Subject


def sync_once(subject: Subject) -> dict[str, Any]:
    """One sync, as on the command line; the source is believed."""
    with subject.opened() as runtime:
        report = run(runtime, allow_mass_delete=True)
        return {
            "promoted": report.generation["promoted"],
            "refused": report.refused,
            "nothing_changed": report.nothing_changed,
            "embedded": report.embeddings["computed"],
            "added": report.chunks["added"],
            "removed": report.chunks["removed"],
        }


def sync_twice(subject: Subject) -> dict[str, Any]:
    """As ``sync_once``; a second one in the same process must find nothing to do.

    Raises:
        AssertionError: it did something.
    """
    first = sync_once(subject)
    assert first["refused"] is None, first["refused"]
    again = sync_once(subject)
    assert again["nothing_changed"], f"a second sync did something: {again}"
    assert again["embedded"] == 0
    return first


def build_only(subject: Subject) -> None:
    """A sync that stops before anything is published."""

    class Unpublished(DirectRunner):
        def publish(self, collection: str) -> None:
            pass

    with subject.opened() as runtime:

        def runner() -> Runner:
            return Unpublished(runtime)

        sync(runtime, "default", runner, allow_mass_delete=True)


def publish(subject: Subject) -> None:
    """Build the graph of the target generation, evaluate it, and promote it."""
    with subject.opened() as runtime:
        DirectRunner(runtime).publish("default")


def nightly_run(subject: Subject) -> None:
    """The nightly run: every file verified, and a new graph built if the live one is not well."""
    with subject.opened() as runtime:
        nightly(runtime, "default", DirectRunner(runtime), allow_mass_delete=True)


def collect_garbage(subject: Subject) -> None:
    with subject.opened() as runtime:
        garbage.collect_garbage(runtime, "default")


def roll_back(subject: Subject) -> None:
    with subject.opened() as runtime:
        promotion.rollback(runtime, "default", who="test")


def reconcile_live(subject: Subject) -> int | None:
    """Faults found before the repair."""
    with subject.opened() as runtime:
        found = reconcile.reconcile_live(runtime, "default")
        return found.before.faults if found else None


def forget(subject: Subject, document: str, *, again: bool = False) -> dict[str, int]:
    """Rows left of the document. ``again``: it may have been forgotten already."""
    with subject.opened() as runtime:
        try:
            return dict(forgetting.forget(runtime, "default", document).left)
        except ConfigurationError:
            if not again:
                raise
            return {}


def tick(subject: Subject) -> list[int] | None:
    """A tick of the sensor and the runs it asks for: the live index follows its documents; returns the shards run.

    None: nothing is live, so there is nothing to follow.
    """
    with subject.opened() as runtime:
        live = runtime.live("default")
        if live is None:
            return None
        planned = make_plan(runtime, "default", only_live=True, allow_mass_delete=True)
        note_listing(runtime, planned)
        shards = shards_to_run(runtime, planned, live)
        runner = DirectRunner(runtime)
        for shard in shards:
            # Each run of the sensor's makes its own plan.
            runtime.plans["default"] = make_plan(runtime, "default", allow_mass_delete=True).plan
            runner.update_shard("default", shard)
        return shards


def contend(subject: Subject, gate: Any, shard: int) -> dict[str, int]:
    """Plan, wait for the others at ``gate``, and run one shard as if alone; returns the rows written and removed.

    Raises:
        Superseded: another process was quicker.
    """
    with subject.opened() as runtime:
        runtime.plans["default"] = make_plan(runtime, "default", allow_mass_delete=True).plan
        gate.wait(60)
        DirectRunner(runtime).update_shard("default", shard)
        (entries,) = (result for result in runtime.results if result.stage == "index_entries")
        return {kind: entries.counts[kind] for kind in ("added", "updated", "removed")}


def sync_together(subject: Subject, gate: Any) -> None:
    """A sync that begins when all others at ``gate`` do."""
    gate.wait(60)
    sync_once(subject)


def turn(subject: Subject, gate: Any, back: bool) -> str:
    """Roll back, or promote what was rolled back; returns the name of what went live.

    Raises:
        RagAssetsError: another process was quicker.
    """
    with subject.opened() as runtime:
        target = runtime.target("default")
        gate.wait(60)
        if back:
            return promotion.rollback(runtime, "default", who="test").live.name
        if target is None:
            raise RagAssetsError("What the configuration asks for is retired.")
        return promotion.promote(runtime, target, who="test", reason="test").live.name
