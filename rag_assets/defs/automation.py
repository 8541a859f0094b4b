"""What runs by itself: the sensor that follows the sources, the nightly re-index, the weekly reconciliation.

Sensor and schedules are thin: what has to be done is decided by ``plan``, what is done is ``sync``, as on the command line.
"""

import json
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from rag_assets.defs.checks import source_whole, withheld
from rag_assets.defs.operations import op_name
from rag_assets.defs.partitions import COLLECTION, SHARD, shard_partition_key
from rag_assets.errors import ConfigurationError, GateRefused, RagAssetsError
from rag_assets.indexing.planning import Planned, make_plan, note_listing, refuse_other_folder
from rag_assets.indexing.sync import shards_to_run
from rag_assets.runtime import Runtime
from rag_assets.settings import Settings

BUDGET_SECONDS = 40.0
"""A tick is cancelled after 60 s; after this no further file is read: suspects count as changed, their runs look closer."""
_IN_FLIGHT = (
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
)


@dataclass(frozen=True, slots=True)
class Request:
    """One shard that needs a run."""

    collection: str
    shard: int


def choose(dirty: Sequence[Request], in_flight: Collection[Request]) -> list[Request]:
    """The shards to ask runs for: dirty ones that no unfinished run is about to update."""
    return [request for request in dirty if request not in in_flight]


@dataclass(frozen=True, slots=True)
class Cursor:
    """What one tick tells the next; small, and never needed for correctness."""

    next: str | None = None
    """The collection the last tick had no time for."""
    vanished: Mapping[str, str] | None = None
    """What was last reported of each source that lacks too much; None: nothing was reported yet."""

    @classmethod
    def read(cls, text: str | None) -> "Cursor":
        """From a stored cursor; an unreadable one starts over."""
        try:
            data = json.loads(text) if text else {}
            vanished = data.get("vanished")
            return cls(data.get("next"), dict(vanished) if vanished is not None else None)
        except (ValueError, TypeError, AttributeError):
            return cls()

    def write(self) -> str:
        """As it is stored."""
        return json.dumps({"next": self.next, "vanished": self.vanished})


def rotation(collections: Sequence[str], first: str | None) -> list[str]:
    """The collections, beginning with the one the last tick did not reach."""
    names = list(collections)
    start = names.index(first) if first in names else 0
    return names[start:] + names[:start]


@dataclass
class _Tick:
    """What a tick has found so far."""

    requests: list[Request] = field(default_factory=list)
    problems: dict[str, str] = field(default_factory=dict)
    """What needs a person, by collection."""
    vanished: dict[str, str] = field(default_factory=dict)
    """That part of it which is about documents that are gone."""


def document_changes(settings: Settings, job: UnresolvedAssetJobDefinition) -> dg.SensorDefinition:
    """The sensor: lists the sources, asks for one run per dirty shard."""

    @dg.sensor(
        name="document_changes",
        job=job,
        # The daemon comes by every 5 s, and turns back if it is a moment too early.
        minimum_interval_seconds=settings.sync.sensor_seconds - 1,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Lists the sources; asks for one run per shard whose documents changed.",
    )
    def sensor(context: dg.SensorEvaluationContext, runtime: dg.ResourceParam[Runtime]) -> dg.SensorResult:
        deadline = time.monotonic() + BUDGET_SECONDS
        cursor = Cursor.read(context.cursor)
        waiting = rotation(list(runtime.settings.collections), cursor.next)
        tick = _Tick(vanished={name: text for name, text in (cursor.vanished or {}).items() if name in waiting})
        while waiting and time.monotonic() < deadline:
            _look_at(runtime, waiting.pop(0), deadline, tick)
        chosen = choose(tick.requests, _in_flight(context.instance))
        # No run key: Dagster remembers those for ever, so a document going A→B→A or a failed run would be dropped.
        runs = [dg.RunRequest(partition_key=shard_partition_key(r.collection, r.shard)) for r in chosen]
        return dg.SensorResult(
            run_requests=runs,
            skip_reason=None if runs else _why(tick),
            cursor=Cursor(waiting[0] if waiting else None, tick.vanished).write(),
            asset_events=[] if tick.vanished == cursor.vanished else [source_whole(tick.vanished)],
        )

    return sensor


def _look_at(runtime: Runtime, collection: str, deadline: float, tick: _Tick) -> None:
    """Add the collection's shards whose documents the live index does not hold as they are.

    A first index, or one under a changed configuration, is the nightly run's (or a person's) to build and judge.
    """
    try:
        live = runtime.live(collection)
        if live is None:
            tick.vanished.pop(collection, None)
            return
        planned = make_plan(runtime, collection, only_live=True, deadline=deadline)
        note_listing(runtime, planned)
        # Half a look finds neither what was renamed nor, therefore, what is gone: what was said of it stands.
        if planned.complete:
            _judge_vanished(runtime, planned, tick)
        tick.requests += [Request(collection, shard) for shard in shards_to_run(runtime, planned, live)]
    except (ConfigurationError, GateRefused) as error:
        # The source is missing, or another one is in its place.
        tick.vanished[collection] = tick.problems[collection] = str(error)
    except RagAssetsError as error:
        # One broken source must not keep the others from being followed.
        tick.problems[collection] = str(error)


def _judge_vanished(runtime: Runtime, planned: Planned, tick: _Tick) -> None:
    """Note what is gone, or that nothing is any more.

    Raises:
        GateRefused: the source is a wholly different folder.
    """
    collection = planned.plan.collection
    tick.vanished.pop(collection, None)
    complaint = withheld(collection, len(planned.plan.withheld))
    if complaint:
        tick.vanished[collection] = tick.problems[collection] = complaint
    refuse_other_folder(runtime, planned)


def _in_flight(instance: dg.DagsterInstance) -> set[Request]:
    found = set()
    for run in instance.get_runs(filters=dg.RunsFilter(statuses=list(_IN_FLIGHT)), limit=1000):
        collection = run.tags.get(f"dagster/partition/{COLLECTION}")
        shard = run.tags.get(f"dagster/partition/{SHARD}")
        if collection is not None and shard is not None:
            found.add(Request(collection, int(shard)))
    return found


def _why(tick: _Tick) -> str:
    if tick.problems:
        return "Needs a person: " + "; ".join(f"{collection}: {text}" for collection, text in tick.problems.items())
    if tick.requests:
        return f"{len(tick.requests)} dirty shards, all with a run in flight."
    return "Every live index is up to date."


def schedules(settings: Settings, nightly: dg.JobDefinition, weekly: dg.JobDefinition) -> list[dg.ScheduleDefinition]:
    """One nightly and one weekly schedule, each asking for a run per collection."""

    def per_collection(name: str, job: dg.JobDefinition, cron: str, description: str) -> dg.ScheduleDefinition:
        @dg.schedule(
            name=name,
            job=job,
            cron_schedule=cron,
            execution_timezone=settings.sync.timezone,
            default_status=dg.DefaultScheduleStatus.RUNNING,
            description=description,
        )
        def schedule(context: dg.ScheduleEvaluationContext) -> list[dg.RunRequest]:
            return [
                dg.RunRequest(
                    run_config={"ops": {op_name(job.name): {"config": {"collection": collection}}}},
                    tags={"collection": collection},
                )
                for collection in settings.collections
            ]

        return schedule

    return [
        per_collection(
            "nightly_reindex",
            nightly,
            settings.sync.nightly_cron,
            "Full-hash verification, re-index, evaluation, promotion behind the gates, report.",
        ),
        per_collection(
            "weekly_reconcile",
            weekly,
            settings.sync.weekly_cron,
            "Compares the live index with the ledger and repairs it.",
        ),
    ]
