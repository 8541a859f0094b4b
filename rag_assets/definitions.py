"""The code location: everything Dagster loads. ``build_definitions`` assembles it from settings."""

import warnings

import dagster as dg

from rag_assets.defs.automation import document_changes, schedules
from rag_assets.defs.capacity_asset import capacity_asset
from rag_assets.defs.checks import asset_checks
from rag_assets.defs.index_assets import INDEX_ASSETS, INDEX_JOB, index_assets
from rag_assets.defs.local import LocalRunner
from rag_assets.defs.operations import operation_jobs
from rag_assets.defs.partitions import collection_partitions, shard_partitions
from rag_assets.defs.resources import shared_runtime
from rag_assets.defs.shard_assets import SHARD_ASSETS, SHARD_JOB, shard_assets, source_spec
from rag_assets.defs.tuning_asset import tuning_asset
from rag_assets.indexing.sync import Runner
from rag_assets.runtime import Runtime
from rag_assets.settings import Settings, load_settings

# Partitioned checks and the shard-to-collection mapping are marked preview and beta; both are pinned and tested here.
warnings.filterwarnings("ignore", category=dg.PreviewWarning)
warnings.filterwarnings("ignore", category=dg.BetaWarning)


def build_definitions(
    settings: Settings | None = None, *, runtime: Runtime | None = None, pooled: bool = True
) -> dg.Definitions:
    """Everything Dagster knows of this project.

    Args:
        settings: None: the settings in force.
        runtime: the parts to run with; None: one shared by the process, made on first use.
        pooled: shards wait for places in pools. Within a ``sync`` they do not: its model works ahead of their runs, one after the
            other, whoever has the place, and what they write is fenced shard by shard.

    Raises:
        ConfigurationError: a setting is wrong; nothing is loaded then.
    """
    settings = settings or (runtime.settings if runtime else load_settings())
    chosen = settings

    @dg.resource(description="The project's settings and the parts made from them.")
    def runtime_resource(_: dg.InitResourceContext) -> Runtime:
        return runtime or shared_runtime(chosen)

    update_shard = dg.define_asset_job(
        SHARD_JOB,
        selection=dg.AssetSelection.assets(*SHARD_ASSETS),
        partitions_def=shard_partitions(settings),
        description="Bring one shard of one collection up to date: four assets, one run, one process.",
    )
    publish_index = dg.define_asset_job(
        INDEX_JOB,
        selection=dg.AssetSelection.assets(*INDEX_ASSETS),
        partitions_def=collection_partitions(settings),
        description="Build the index of the target generation, evaluate it, promote it if it passes, report.",
    )
    operations = operation_jobs(_local_runner)
    return dg.Definitions(
        assets=[
            source_spec(),
            *shard_assets(settings, pooled=pooled),
            *index_assets(settings),
            tuning_asset(settings),
            capacity_asset(),
        ],
        asset_checks=asset_checks(settings),
        jobs=[update_shard, publish_index, *operations.values()],
        sensors=[document_changes(settings, update_shard)],
        schedules=schedules(settings, operations["nightly_reindex"], operations["weekly_reconcile"]),
        resources={"runtime": runtime_resource},
        executor=dg.in_process_executor,
    )


def _local_runner(runtime: Runtime, instance: dg.DagsterInstance) -> Runner:
    return LocalRunner(runtime, build_definitions(runtime=runtime, pooled=False), instance)


@dg.definitions
def defs() -> dg.Definitions:
    """What Dagster loads; made when it asks, so that a ``sync``, which makes its own, does not pay for both."""
    return build_definitions()
