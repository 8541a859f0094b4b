"""What runs by itself: the sensor that follows the sources, the nightly re-index, the weekly reconciliation.

Sensor and schedules are thin: what has to be done is decided by ``plan``, what is done is ``sync``, as on the command line.
"""

import json
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from rag_assets.defs.operations import op_name
from rag_assets.defs.partitions import COLLECTION, SHARD, shard_partition_key
from rag_assets.errors import RagAssetsError
from rag_assets.indexing.planning import make_plan, note_listing
from rag_assets.indexing.sync import shards_to_run
from rag_assets.runtime import Runtime
from rag_assets.settings import Settings

BUDGET_SECONDS = 40.0
"""A tick is cancelled after 60 s; no further collection is looked at after this."""
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


def rotation(collections: Sequence[str], cursor: str | None) -> list[str]:
    """The collections, beginning with the one the last tick did not reach. An unreadable cursor starts over."""
    names = list(collections)
    try:
        first = json.loads(cursor)["next"] if cursor else None
    except (ValueError, TypeError, KeyError):
        first = None
    start = names.index(first) if first in names else 0
    return names[start:] + names[:start]


def document_changes(settings: Settings, job: UnresolvedAssetJobDefinition) -> dg.SensorDefinition:
    """The sensor: lists the sources, asks for one run per dirty shard."""

    @dg.sensor(
        name="document_changes",
        job=job,
        minimum_interval_seconds=settings.sync.sensor_seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Lists the sources; asks for one run per shard whose documents changed.",
    )
    def sensor(context: dg.SensorEvaluationContext, runtime: dg.ResourceParam[Runtime]) -> dg.SensorResult:
        deadline = time.monotonic() + BUDGET_SECONDS
        waiting = rotation(list(runtime.settings.collections), context.cursor)
        requests: list[Request] = []
        problems: list[str] = []
        while waiting and time.monotonic() < deadline:
            collection = waiting.pop(0)
            try:
                requests += _dirty(runtime, collection, problems)
            except RagAssetsError as error:
                # One broken source must not keep the others from being followed.
                problems.append(f"{collection}: {error}")
        chosen = choose(requests, _in_flight(context.instance))
        # No run key: Dagster remembers those for ever, so a document going A→B→A or a failed run would be dropped.
        runs = [dg.RunRequest(partition_key=shard_partition_key(r.collection, r.shard)) for r in chosen]
        cursor = json.dumps({"next": waiting[0] if waiting else None})
        if not runs:
            return dg.SensorResult(skip_reason=_why(problems, len(requests)), cursor=cursor)
        return dg.SensorResult(run_requests=runs, cursor=cursor)

    return sensor


def _dirty(runtime: Runtime, collection: str, problems: list[str]) -> list[Request]:
    """Shards whose documents the live index does not hold as they are.

    A first index, or one under a changed configuration, is the nightly run's (or a person's) to build and judge.
    """
    live = runtime.live(collection)
    if live is None:
        return []
    planned = make_plan(runtime, collection, only_live=True)
    note_listing(runtime, planned)
    if planned.plan.withheld:
        problems.append(
            f"{collection}: {len(planned.plan.withheld)} documents vanished at once; none is deleted until `rag-assets sync "
            "--allow-mass-delete` confirms it"
        )
    return [Request(collection, shard) for shard in shards_to_run(runtime, planned, live)]


def _in_flight(instance: dg.DagsterInstance) -> set[Request]:
    found = set()
    for run in instance.get_runs(filters=dg.RunsFilter(statuses=list(_IN_FLIGHT)), limit=1000):
        collection = run.tags.get(f"dagster/partition/{COLLECTION}")
        shard = run.tags.get(f"dagster/partition/{SHARD}")
        if collection is not None and shard is not None:
            found.add(Request(collection, int(shard)))
    return found


def _why(problems: Sequence[str], dirty: int) -> str:
    if problems:
        return "Needs a person: " + "; ".join(problems)
    return f"{dirty} dirty shards, all with a run in flight." if dirty else "Every live index is up to date."


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
