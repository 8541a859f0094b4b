"""The asset ``capacity``: of the whole installation, materialized when a person asks for it."""

import dagster as dg

from rag_assets.fingerprint import fingerprint
from rag_assets.runtime import Runtime

CAPACITY_ASSET = CAPACITY_GROUP = "capacity"


def capacity_asset() -> dg.AssetsDefinition:
    """The asset; it has no partitions: collections share the machine."""

    @dg.asset(
        name=CAPACITY_ASSET,
        deps=["live_index"],
        group_name=CAPACITY_GROUP,
        code_version=fingerprint("capacity-1"),
        description="When the next limit of this machine is reached, by what was measured here and how the team grows.",
    )
    def capacity(runtime: dg.ResourceParam[Runtime]) -> dg.MaterializeResult:
        from rag_assets.evaluation.capacity import measure, project, tables

        found = project(measure(runtime), runtime.settings.capacity)
        # Disk, memory and nights are of the moment; what the documents became is what has a version.
        version = fingerprint([found.installation.chunks, found.installation.documents])
        first = found.projections[0].first
        return dg.MaterializeResult(
            data_version=dg.DataVersion(version),
            metadata={
                "chunks": found.installation.chunks,
                "database_mb": round(found.installation.database_bytes / 1e6, 1),
                "growth": tables.growth_text(found.projections[0].growth),
                "first_limit": first.resource if first else "none within ten years",
                **({"months": round(first.limit_months, 1)} if first and first.limit_months is not None else {}),
                "summary": dg.MetadataValue.md(tables.markdown(found)),
            },
        )

    return capacity
