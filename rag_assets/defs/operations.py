"""Jobs that are operations, not assets: nightly re-index, reconcile, promote, rollback, forget.

Each is the command of the same name; the assets it materializes are runs of their own that appear beside it.
"""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import dagster as dg

from rag_assets.errors import GateRefused
from rag_assets.indexing import promotion
from rag_assets.indexing.forgetting import forget
from rag_assets.indexing.reconcile import reconcile_live
from rag_assets.indexing.sync import Runner, sync
from rag_assets.retrieval.search import live_generation
from rag_assets.runtime import Runtime

MakeRunner = Callable[[Runtime, dg.DagsterInstance], Runner]


class CollectionConfig(dg.Config):
    """Which collection."""

    collection: str


class NightlyConfig(CollectionConfig):
    """How a nightly run looks at the source."""

    allow_mass_delete: bool = False


class ForgetConfig(CollectionConfig):
    """Which document."""

    document: str


def operation_jobs(make_runner: MakeRunner) -> dict[str, dg.JobDefinition]:
    """The jobs by name. ``make_runner`` makes what materializes assets within a run of ``nightly_reindex``."""

    @dg.op(name=op_name("nightly_reindex"), description="Verify every file by hash, update, evaluate, promote, report.")
    def nightly_reindex_op(
        context: dg.OpExecutionContext, config: NightlyConfig, runtime: dg.ResourceParam[Runtime]
    ) -> None:
        runner = make_runner(runtime, context.instance)
        report = sync(
            runtime, config.collection, lambda: runner, verify=True, allow_mass_delete=config.allow_mass_delete
        )
        _show(context, asdict(report))
        if report.refused:
            raise GateRefused(report.refused)
        target = runtime.target(config.collection)
        if not report.generation["promoted"] and target is not None and target.is_live:
            # Nothing new went live, so nothing was judged: the team still gets tonight's figures. A generation that was
            # rolled back is not published here: only a person brings it back.
            runner.publish(config.collection)
        if report.withheld:
            raise GateRefused(
                f"{len(report.withheld)} documents vanished at once; nothing was deleted. Confirm, or restore them."
            )

    @dg.op(
        name=op_name("weekly_reconcile"),
        description="Compare the live index with the ledger, row by row, and repair it.",
    )
    def reconcile_op(
        context: dg.OpExecutionContext, config: CollectionConfig, runtime: dg.ResourceParam[Runtime]
    ) -> None:
        found = reconcile_live(runtime, config.collection)
        if found is not None:
            _show(context, {"generation": found.generation.name, **asdict(found.before), "left": found.after.faults})

    @dg.op(
        name=op_name("promote"),
        description="Evaluate the generation the configuration asks for, and make it live if it passes.",
    )
    def promote_op(
        context: dg.OpExecutionContext, config: CollectionConfig, runtime: dg.ResourceParam[Runtime]
    ) -> None:
        make_runner(runtime, context.instance).publish(config.collection)
        _show(context, {"live": live_generation(runtime, config.collection).name})

    @dg.op(name=op_name("rollback"), description="Make the generation that was live before answer again.")
    def rollback_op(
        context: dg.OpExecutionContext, config: CollectionConfig, runtime: dg.ResourceParam[Runtime]
    ) -> None:
        done = promotion.rollback(runtime, config.collection, who=f"run {context.run_id[:8]}")
        _show(context, {"live": done.live.name, "previous": done.previous.name if done.previous else None})

    @dg.op(name=op_name("forget_document"), description="Remove one document from every table, generation and cache.")
    def forget_op(context: dg.OpExecutionContext, config: ForgetConfig, runtime: dg.ResourceParam[Runtime]) -> None:
        _show(context, asdict(forget(runtime, config.collection, config.document)))

    ops = {
        "nightly_reindex": nightly_reindex_op,
        "weekly_reconcile": reconcile_op,
        "promote": promote_op,
        "rollback": rollback_op,
        "forget_document": forget_op,
    }
    return {name: _job(name, op) for name, op in ops.items()}


def op_name(job: str) -> str:
    """The key of a job's configuration: ``ops.<op_name>.config``. Dagster wants it to differ from the job's name."""
    return f"{job}_op"


def _job(name: str, op: dg.OpDefinition) -> dg.JobDefinition:
    @dg.job(name=name, description=op.description, executor_def=dg.in_process_executor)
    def job() -> None:
        op()

    return job


def _show(context: dg.OpExecutionContext, values: dict[str, Any]) -> None:
    context.log.info("%s", values)
