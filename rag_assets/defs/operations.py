"""Jobs that are operations, not assets: nightly re-index, reconcile, garbage collection, retry, promote, rollback, forget.

Each is the command of the same name; the assets it materializes are runs of their own that appear beside it.
"""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import dagster as dg
from pydantic import Field

from rag_assets.defs import checks
from rag_assets.errors import GateRefused
from rag_assets.evaluation.nightly import nightly
from rag_assets.indexing import promotion
from rag_assets.indexing.forgetting import forget
from rag_assets.indexing.garbage import collect_garbage
from rag_assets.indexing.integrity import inspect
from rag_assets.indexing.planning import ask_retry
from rag_assets.indexing.reconcile import reconcile
from rag_assets.indexing.sync import Runner, sync
from rag_assets.retrieval.passages import live_generation
from rag_assets.runtime import Runtime

MakeRunner = Callable[[Runtime, dg.DagsterInstance], Runner]


class CollectionConfig(dg.Config):
    """Which collection."""

    collection: str


class NightlyConfig(CollectionConfig):
    """How a nightly run looks at the source."""

    allow_mass_delete: bool = False


class RetryConfig(CollectionConfig):
    """Which files; none named: all that are in quarantine."""

    documents: list[str] = Field(default_factory=list)


class ForgetConfig(CollectionConfig):
    """Which document."""

    document: str


def operation_jobs(make_runner: MakeRunner) -> dict[str, dg.JobDefinition]:
    """The jobs by name. ``make_runner`` makes what materializes assets within a run of ``nightly_reindex``."""

    @dg.op(name=op_name("nightly_reindex"), description="Verify every file by hash, update, evaluate, promote, report.")
    def nightly_reindex_op(
        context: dg.OpExecutionContext, config: NightlyConfig, runtime: dg.ResourceParam[Runtime]
    ) -> None:
        done = nightly(
            runtime,
            config.collection,
            make_runner(runtime, context.instance),
            allow_mass_delete=config.allow_mass_delete,
        )
        _show(context, {**asdict(done.sync), "rebuilt_because": done.rebuilt_because})

    @dg.op(
        name=op_name("weekly_reconcile"),
        description="Compare the live index with the ledger, row by row, repair it, and collect garbage.",
    )
    def reconcile_op(
        context: dg.OpExecutionContext, config: CollectionConfig, runtime: dg.ResourceParam[Runtime]
    ) -> None:
        live = runtime.live(config.collection)
        if live is None:
            context.log.info("%s has no live index yet.", config.collection)
            return
        # As events of this run: Dagster keeps one evaluation a run and partition, and has no place for a second one
        # without a run. Red first, then green (or still red), which is what the check's history keeps of this run.
        before = inspect(runtime, live)
        context.log_event(checks.equals_ledger(live, before))  # type: ignore[arg-type]  # its annotation forgets checks
        if before.faults:
            found = reconcile(runtime, live)
            context.log_event(checks.equals_ledger(live, found.after))  # type: ignore[arg-type]
            _show(context, {"generation": live.name, **asdict(found.before), "left": found.after.faults})
        _show(context, asdict(collect_garbage(runtime, config.collection)))

    @dg.op(
        name=op_name("garbage_collect"),
        description="Delete generations, chunks and vectors that nothing can reach any more.",
    )
    def garbage_op(
        context: dg.OpExecutionContext, config: CollectionConfig, runtime: dg.ResourceParam[Runtime]
    ) -> None:
        _show(context, asdict(collect_garbage(runtime, config.collection)))

    @dg.op(name=op_name("retry_quarantined"), description="Try files again that could not be parsed.")
    def retry_op(context: dg.OpExecutionContext, config: RetryConfig, runtime: dg.ResourceParam[Runtime]) -> None:
        asked = ask_retry(runtime, config.collection, config.documents or None)
        report = sync(runtime, config.collection, lambda: make_runner(runtime, context.instance))
        _show(context, {"retried": asked, **asdict(report)})

    @dg.op(
        name=op_name("promote"),
        description="Evaluate the generation the configuration asks for, and make it live if it passes.",
    )
    def promote_op(
        context: dg.OpExecutionContext, config: CollectionConfig, runtime: dg.ResourceParam[Runtime]
    ) -> None:
        runner = make_runner(runtime, context.instance)
        if promotion.reinstate(runtime, config.collection) is None:
            runner.publish(config.collection)
        elif refused := sync(runtime, config.collection, lambda: runner).refused:
            raise GateRefused(refused)
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
        "garbage_collect": garbage_op,
        "retry_quarantined": retry_op,
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
