"""The asset ``tuning``: materialized when a person asks for it, never by the nightly run. It recommends and changes nothing."""

import base64

import dagster as dg

from rag_assets.defs.partitions import collection_partitions
from rag_assets.fingerprint import fingerprint
from rag_assets.runtime import Runtime
from rag_assets.settings import Settings

TUNING_ASSET = TUNING_GROUP = "tuning"
_TIMED = ("created_at", "milliseconds", "pareto")
"""What the clock has a part in."""


def tuning_asset(settings: Settings) -> dg.AssetsDefinition:
    """The asset, a partition per collection."""

    @dg.asset(
        name=TUNING_ASSET,
        deps=["live_index"],
        partitions_def=collection_partitions(settings),
        group_name=TUNING_GROUP,
        code_version=fingerprint("tuning-1"),
        description="Retrieval settings measured with the golden questions: quality against p95, and a recommendation.",
    )
    def tuning(context: dg.AssetExecutionContext, runtime: dg.ResourceParam[Runtime]) -> dg.MaterializeResult:
        from rag_assets.evaluation.tuning import tune
        from rag_assets.evaluation.tuning.report import markdown, to_json, write_tuning
        from rag_assets.evaluation.tuning.sweep import golden_questions

        found = tune(runtime, context.partition_key, golden_questions(runtime, context.partition_key))
        written = write_tuning(found, runtime.settings)
        image = base64.b64encode(written.picture.read_bytes()).decode("ascii")
        measured = [
            {key: value for key, value in point.items() if key not in _TIMED} for point in to_json(found)["points"]
        ]
        return dg.MaterializeResult(
            data_version=dg.DataVersion(
                fingerprint([found.generation, sorted(measured, key=lambda row: row["label"])])
            ),
            metadata={
                "generation": found.generation,
                "questions": found.questions,
                "changes": found.toml != "",
                "report": dg.MetadataValue.path(str(written.markdown)),
                "summary": dg.MetadataValue.md(markdown(found, f"data:image/png;base64,{image}")),
            },
        )

    return tuning
