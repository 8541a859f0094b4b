"""The document-level assets, partitioned by collection and shard: ``raw_documents`` → ``chunks`` → ``embeddings`` →
``index_entries``. A run materializes all four of one partition in one process.
"""

from functools import partial

import dagster as dg
from dagster._core.definitions.data_version import DATA_VERSION_TAG

from rag_assets.database import ledger
from rag_assets.defs.metadata import stage_metadata
from rag_assets.defs.partitions import parse_shard_key, shard_partitions
from rag_assets.documents.parsing import parser_fingerprint
from rag_assets.fingerprint import fingerprint
from rag_assets.indexing import chunks, embeddings, index_entries, raw_documents
from rag_assets.indexing.ahead import taken
from rag_assets.indexing.planning import make_plan, note_listing, refuse_other_folder
from rag_assets.indexing.results import StageResult
from rag_assets.plan import Plan
from rag_assets.runtime import Runtime
from rag_assets.settings import Settings

GROUP = "documents"
SHARD_JOB = "update_shard"
SHARD_ASSETS = ("raw_documents", "chunks", "embeddings", "index_entries")


class PlanConfig(dg.Config):
    """How a run looks at the source."""

    verify: bool = False
    """Hash every file instead of trusting its size and modification time."""
    allow_mass_delete: bool = False
    """A person confirms that documents that vanished all at once are really gone."""


def source_spec() -> dg.AssetSpec:
    """``document_source``: the folder of documents, which changes outside Dagster."""
    return dg.AssetSpec(
        "document_source",
        description="The team's documents. Changes here are found by listing: size and time first, hashes on suspicion.",
        group_name=GROUP,
        kinds={"file"},
    )


def shard_assets(settings: Settings, *, pooled: bool = True) -> list[dg.AssetsDefinition]:
    """The four assets of a shard; ``pooled``: those that share the model or the store wait for a place in its pool."""
    partitions = shard_partitions(settings)
    chunking = {name: settings.chunking_of(name).model_dump(mode="json") for name in settings.collections}
    embedder = fingerprint(settings.embedder.model_dump(mode="json"))

    @dg.asset(
        name="raw_documents",
        deps=["document_source"],
        partitions_def=partitions,
        group_name=GROUP,
        kinds={"unstructured", "postgres"},
        code_version=parser_fingerprint(settings.parsing),
        description="Bytes become parsed text and elements; a file that can't be parsed is quarantined with its reason.",
    )
    def raw_documents_asset(
        context: dg.AssetExecutionContext, config: PlanConfig, runtime: dg.ResourceParam[Runtime]
    ) -> dg.MaterializeResult:
        collection, shard = parse_shard_key(context)
        runtime.store(collection).check()
        plan = _plan(context, runtime, collection, shard, config)
        work = partial(raw_documents.materialize, runtime, plan, shard)
        result = _materialized(runtime, taken(runtime, "raw_documents", collection, shard, work))
        context.log_event(_observation(runtime, plan))
        return result

    @dg.asset(
        name="chunks",
        deps=[raw_documents_asset],
        partitions_def=partitions,
        group_name=GROUP,
        kinds={"postgres"},
        code_version=fingerprint(chunking),
        description="Documents cut to the token budget of the embedding model, with heading path, page and exact span.",
    )
    def chunks_asset(context: dg.AssetExecutionContext, runtime: dg.ResourceParam[Runtime]) -> dg.MaterializeResult:
        collection, shard = parse_shard_key(context)
        work = partial(chunks.materialize, runtime, collection, shard)
        return _materialized(runtime, taken(runtime, "chunks", collection, shard, work))

    @dg.asset(
        name="embeddings",
        deps=[chunks_asset],
        partitions_def=partitions,
        group_name=GROUP,
        kinds={"pytorch", "postgres"},
        code_version=embedder,
        pool="embedder" if pooled else None,
        description="One unit vector per distinct text and model; nothing is embedded twice.",
    )
    def embeddings_asset(context: dg.AssetExecutionContext, runtime: dg.ResourceParam[Runtime]) -> dg.MaterializeResult:
        collection, shard = parse_shard_key(context)
        work = partial(embeddings.materialize, runtime, collection, shard)
        return _materialized(runtime, taken(runtime, "embeddings", collection, shard, work))

    @dg.asset(
        name="index_entries",
        deps=[embeddings_asset],
        partitions_def=partitions,
        group_name=GROUP,
        kinds={"postgres"},
        code_version=fingerprint(settings.index.model_dump(mode="json", exclude={"ef_search"})),
        pool="vector_store_writes" if pooled else None,
        description="The difference is applied to the target generation: the live one in place, or the one being built.",
    )
    def index_entries_asset(
        context: dg.AssetExecutionContext, runtime: dg.ResourceParam[Runtime]
    ) -> dg.MaterializeResult:
        return _materialized(runtime, index_entries.materialize(runtime, *parse_shard_key(context)))

    return [raw_documents_asset, chunks_asset, embeddings_asset, index_entries_asset]


def _plan(context: dg.AssetExecutionContext, runtime: Runtime, collection: str, shard: int, config: PlanConfig) -> Plan:
    """The plan ``sync`` has just made in this process, else one made now that only looks into the shard's files.

    Raises:
        GateRefused: the source is a wholly different folder.
    """
    if collection in runtime.plans:
        return runtime.plans[collection]
    planned = make_plan(
        runtime, collection, verify=config.verify, allow_mass_delete=config.allow_mass_delete, only_shard=shard
    )
    refuse_other_folder(runtime, planned)
    note_listing(runtime, planned)
    raw_documents.prepare(runtime, planned.plan.of_shard(shard))
    if planned.plan.withheld:
        context.log.warning(
            "%d documents vanished at once; nothing is deleted until a run with allow_mass_delete confirms it.",
            len(planned.plan.withheld),
        )
    return planned.plan


def _observation(runtime: Runtime, plan: Plan) -> dg.AssetObservation:
    """The version of the source as this run has read it, and what the listing showed."""
    with runtime.database.transaction() as connection:
        version, files = ledger.source_version(connection)
    return dg.AssetObservation(
        asset_key="document_source",
        metadata={"files": files, "collection": plan.collection, "unchanged": plan.unchanged, **plan.counts},
        tags={DATA_VERSION_TAG: version},
    )


def _materialized(runtime: Runtime, result: StageResult) -> dg.MaterializeResult:
    runtime.results.append(result)
    return dg.MaterializeResult(
        data_version=dg.DataVersion(result.data_version),
        metadata=stage_metadata(result),
    )
