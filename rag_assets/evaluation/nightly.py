"""The nightly run: verify every file, build anew what needs it, evaluate, promote behind the gates, report."""

from dataclasses import dataclass

from rag_assets.errors import GateRefused
from rag_assets.evaluation.health import begin_rebuild
from rag_assets.indexing.sync import Runner, sync
from rag_assets.indexing.sync_report import SyncReport
from rag_assets.runtime import Runtime


@dataclass(frozen=True, slots=True)
class Nightly:
    """What a night did."""

    sync: SyncReport
    rebuilt_because: tuple[str, ...]
    """Why the live index was built anew; empty when it was well."""


def nightly(runtime: Runtime, collection: str, runner: Runner, *, allow_mass_delete: bool = False) -> Nightly:
    """Bring a collection up to date with nothing taken on trust, and leave a fresh report.

    Raises:
        GateRefused: a new generation did not pass (what was live stays), or documents vanished all at once.
        ConfigurationError: the source is missing or empty.
    """
    reasons = begin_rebuild(runtime, collection)
    report = sync(runtime, collection, lambda: runner, verify=True, allow_mass_delete=allow_mass_delete)
    if report.refused:
        raise GateRefused(report.refused)
    target = runtime.target(collection)
    if not report.generation["promoted"] and target is not None and target.is_live:
        # Nothing new went live, so nothing was judged: the team still gets tonight's figures. A generation that was
        # rolled back is not published here: only a person brings it back.
        runner.publish(collection)
    if report.withheld:
        raise GateRefused(
            f"{len(report.withheld)} documents vanished at once; nothing was deleted. Confirm, or restore them."
        )
    return Nightly(report, reasons)
