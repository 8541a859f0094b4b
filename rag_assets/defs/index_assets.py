"""The index-level assets, partitioned by collection: ``hnsw_index`` → ``retrieval_evaluation`` → ``answer_evaluation`` →
``latency_benchmark`` → ``live_index`` → ``evaluation_report``. Promotion stands behind blocking checks on what comes before it.

What evaluates and reports is imported by the assets that do: a run of a shard, in a process of its own or not, does neither.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import dagster as dg

from rag_assets.defs.metadata import stage_metadata, table
from rag_assets.defs.partitions import COLLECTION, collection_partitions
from rag_assets.evaluation.checks import ANSWERS, LATENCY, QUALITY, STRUCTURAL, combined
from rag_assets.evaluation.results import Check, EvaluationResult
from rag_assets.fingerprint import fingerprint
from rag_assets.indexing import hnsw_index
from rag_assets.indexing.status import generation_rows
from rag_assets.runtime import Runtime
from rag_assets.serving.app import report_url
from rag_assets.settings import Settings

GROUP = "index"
INDEX_JOB = "publish_index"
INDEX_ASSETS = (
    "hnsw_index", "retrieval_evaluation", "answer_evaluation", "latency_benchmark", "live_index", "evaluation_report",
)  # fmt: skip


def index_assets(settings: Settings) -> list[dg.AssetsDefinition]:
    """The six assets of a collection's index."""
    makers = (
        _hnsw_index,
        _retrieval_evaluation,
        _answer_evaluation,
        _latency_benchmark,
        _live_index,
        _evaluation_report,
    )
    return [make(settings) for make in makers]


def _gate_version(settings: Settings) -> str:
    return fingerprint({name: settings.gates_of(name).model_dump(mode="json") for name in settings.collections})


def _hnsw_index(settings: Settings) -> dg.AssetsDefinition:
    all_shards = dg.AssetDep(
        "index_entries",
        partition_mapping=dg.MultiToSingleDimensionPartitionMapping(partition_dimension_name=COLLECTION),
    )

    @dg.asset(
        name="hnsw_index",
        deps=[all_shards],
        partitions_def=collection_partitions(settings),
        group_name=GROUP,
        kinds={"postgres"},
        code_version=fingerprint(settings.index.model_dump(mode="json", exclude={"ef_search"})),
        check_specs=_specs("hnsw_index", STRUCTURAL, collection_partitions(settings)),
        description="The HNSW graph of the target generation, built once after load; checked row by row against the ledger.",
    )
    def hnsw_index_asset(context: dg.AssetExecutionContext, runtime: dg.ResourceParam[Runtime]) -> dg.MaterializeResult:
        from rag_assets.evaluation import publishing

        result = hnsw_index.materialize(runtime, context.partition_key)
        runtime.results.append(result)
        checks = publishing.check_target(runtime, context.partition_key)
        return dg.MaterializeResult(
            data_version=dg.DataVersion(result.data_version),
            metadata=stage_metadata(result),
            check_results=_results(STRUCTURAL, checks),
        )

    return hnsw_index_asset


def _retrieval_evaluation(settings: Settings) -> dg.AssetsDefinition:
    @dg.asset(
        name="retrieval_evaluation",
        deps=["hnsw_index"],
        partitions_def=collection_partitions(settings),
        group_name=GROUP,
        code_version=_gate_version(settings),
        check_specs=_specs("retrieval_evaluation", QUALITY, collection_partitions(settings)),
        description="Golden questions searched in the target generation; the index compared with exact search.",
    )
    def retrieval_evaluation_asset(
        context: dg.AssetExecutionContext, runtime: dg.ResourceParam[Runtime]
    ) -> dg.MaterializeResult:
        from rag_assets.evaluation import publishing

        result = publishing.evaluate_target(runtime, context.partition_key)
        return dg.MaterializeResult(
            data_version=dg.DataVersion(publishing.scores_hash(result)),
            metadata=_scores(result),
            check_results=_results(QUALITY, result.checks),
        )

    return retrieval_evaluation_asset


def _answer_evaluation(settings: Settings) -> dg.AssetsDefinition:
    @dg.asset(
        name="answer_evaluation",
        deps=["retrieval_evaluation"],
        partitions_def=collection_partitions(settings),
        group_name=GROUP,
        kinds={"litellm"},
        pool="llm_api",
        code_version=fingerprint(
            [part.model_dump(mode="json") for part in (settings.answers, settings.evaluation, settings.judge)]
        ),
        check_specs=_specs("answer_evaluation", ANSWERS, collection_partitions(settings)),
        description="The answers the configured model gives from the target generation, against the golden ones.",
    )
    def answer_evaluation_asset(
        context: dg.AssetExecutionContext, runtime: dg.ResourceParam[Runtime]
    ) -> dg.MaterializeResult:
        from rag_assets.evaluation import publishing

        result = publishing.answer_target(runtime, context.partition_key)
        return dg.MaterializeResult(
            data_version=dg.DataVersion(publishing.scores_hash(result)),
            metadata=_scores(result),
            check_results=_results(ANSWERS, result.checks),
        )

    return answer_evaluation_asset


def _live_index(settings: Settings) -> dg.AssetsDefinition:
    @dg.asset(
        name="live_index",
        deps=["hnsw_index", "retrieval_evaluation", "answer_evaluation", "latency_benchmark"],
        partitions_def=collection_partitions(settings),
        group_name=GROUP,
        kinds={"postgres"},
        code_version=_gate_version(settings),
        description="The generation that answers queries: one row flipped, only for a generation that passed its gates.",
    )
    def live_index_asset(context: dg.AssetExecutionContext, runtime: dg.ResourceParam[Runtime]) -> dg.MaterializeResult:
        from rag_assets.evaluation import publishing

        promotion = publishing.promote_target(runtime, context.partition_key, who=f"run {context.run_id[:8]}")
        return dg.MaterializeResult(
            data_version=dg.DataVersion(f"{promotion.live.name}-{publishing.contents(runtime, promotion.live)}"),
            metadata={
                "generation": promotion.live.name,
                "previous": promotion.previous.name if promotion.previous else "none",
                "promoted_now": promotion.changed,
                "generations": table(generation_rows(runtime, context.partition_key)),
            },
        )

    return live_index_asset


def _evaluation_report(settings: Settings) -> dg.AssetsDefinition:
    @dg.asset(
        name="evaluation_report",
        deps=["live_index"],
        partitions_def=collection_partitions(settings),
        group_name=GROUP,
        code_version=fingerprint("report-1"),
        description="One HTML file a team can forward, with Markdown and JSON beside it.",
    )
    def evaluation_report_asset(
        context: dg.AssetExecutionContext, runtime: dg.ResourceParam[Runtime]
    ) -> dg.MaterializeResult:
        from rag_assets.evaluation import publishing

        result, path = publishing.write_live_report(runtime, context.partition_key)
        return dg.MaterializeResult(
            data_version=dg.DataVersion(publishing.scores_hash(result)),
            metadata={
                "verdict": result.verdict,
                "report": dg.MetadataValue.path(str(path)),
                "open": dg.MetadataValue.url(report_url(runtime.settings.serving.port, path)),
                "summary": dg.MetadataValue.md(publishing.summary_markdown(result, path)),
            },
        )

    return evaluation_report_asset


def _latency_benchmark(settings: Settings) -> dg.AssetsDefinition:
    @dg.asset(
        name="latency_benchmark",
        deps=["answer_evaluation"],
        partitions_def=collection_partitions(settings),
        group_name=GROUP,
        kinds={"litellm"},
        pool="llm_api",
        code_version=fingerprint([part.model_dump(mode="json") for part in (settings.benchmark, settings.answers)]),
        check_specs=_specs("latency_benchmark", LATENCY, collection_partitions(settings)),
        description="How fast the target generation answers: stage by stage, cold, and under load, with recall beside it.",
    )
    def latency_benchmark(
        context: dg.AssetExecutionContext, runtime: dg.ResourceParam[Runtime]
    ) -> dg.MaterializeResult:
        from rag_assets.evaluation import publishing

        result = publishing.benchmark_target(runtime, context.partition_key)
        # What was measured, not what came out: times differ from run to run while nothing has changed.
        version = fingerprint([publishing.scores_hash(result), settings.benchmark.model_dump(mode="json")])
        return dg.MaterializeResult(
            data_version=dg.DataVersion(version),
            metadata=_speeds(result),
            check_results=_results(LATENCY, result.checks),
        )

    return latency_benchmark


def _specs(asset: str, checks: Mapping[str, str], partitions: dg.PartitionsDefinition[str]) -> list[dg.AssetCheckSpec]:
    return [
        dg.AssetCheckSpec(name, asset=asset, description=text, blocking=True, partitions_def=partitions)
        for name, text in checks.items()
    ]


def _results(names: Iterable[str], checks: Iterable[Check]) -> list[dg.AssetCheckResult]:
    """One result per declared check; one that did not apply this time passes and says so."""
    found: dict[str, Check] = {check.name: check for check in combined(list(checks))}
    results = []
    for name in names:
        check = found.get(name)
        if check is None:
            results.append(
                dg.AssetCheckResult(
                    passed=True,
                    check_name=name,
                    description="Does not apply: there is no threshold for it, or nothing to compare with.",
                )
            )
            continue
        metadata = {
            key: value for key, value in (("value", check.value), ("threshold", check.threshold)) if value is not None
        }
        results.append(
            dg.AssetCheckResult(
                passed=check.passed is True,
                check_name=name,
                severity=dg.AssetCheckSeverity.WARN if check.passed else dg.AssetCheckSeverity.ERROR,
                description=check.text,
                metadata=metadata,
            )
        )
    return results


def _speeds(result: EvaluationResult) -> dict[str, Any]:
    found = result.benchmark
    if found is None:
        return {
            "generation": result.generation,
            "measured": "nothing: there are no golden questions, or benchmark.enabled is false",
        }
    from rag_assets.evaluation.benchmark.tables import benchmark_markdown

    metadata: dict[str, Any] = {"generation": result.generation, "seconds": round(found.took_seconds, 1)}
    for stage, latency in found.stages.items():
        metadata[f"{stage}_p95_ms"] = round(latency.p95, 1)
    for stage, latency in (found.answers.stages if found.answers else {}).items():
        metadata[f"{stage}_p95_ms"] = round(latency.p95, 1)
    if found.answers and found.answers.tokens_per_second is not None:
        metadata["tokens_per_second"] = round(found.answers.tokens_per_second, 1)
    if found.closed:
        metadata["queries_per_second"] = round(max(level.throughput for level in found.closed), 1)
    if found.quality.recall_at_10 is not None:
        metadata["recall_at_10"] = round(found.quality.recall_at_10, 4)
    metadata["failed"] = sum(level.errors for level in found.levels) + sum(found.errors.values())
    metadata["tables"] = dg.MetadataValue.md(benchmark_markdown(found, result.latency_classes))
    return metadata


def _scores(result: EvaluationResult) -> dict[str, Any]:
    metadata: dict[str, Any] = {"generation": result.generation, "questions": len(result.questions)}
    for name, score in {**result.retrieval, **result.answers}.items():
        if score.value is not None:
            metadata[name.replace("@", "_at_")] = round(score.value, 4)
    for stage, latency in result.latency.items():
        metadata[f"{stage}_p95_ms"] = round(latency.p95, 1)
    if result.invalid_labels:
        metadata["invalid_labels"] = table(
            [{"question": i.question_id, "document": i.document, "reason": i.reason} for i in result.invalid_labels]
        )
    return metadata
