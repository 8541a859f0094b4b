"""Asset checks that no materialization makes: is the source still whole, does the live index equal the ledger?

The sensor and the weekly run report them; anybody can run them by hand in the UI. Both only look.
"""

from collections.abc import Mapping
from dataclasses import asdict

import dagster as dg

from rag_assets.database.generations import Generation
from rag_assets.defs.partitions import collection_partitions
from rag_assets.errors import RagAssetsError
from rag_assets.indexing.integrity import Integrity, inspect
from rag_assets.indexing.planning import make_plan, refuse_other_folder
from rag_assets.runtime import Runtime
from rag_assets.settings import Settings

SOURCE_WHOLE = "nothing_vanished"
EQUALS_LEDGER = "equals_ledger"


def asset_checks(settings: Settings) -> list[dg.AssetChecksDefinition]:
    """The two checks."""

    @dg.asset_check(
        asset="document_source",
        name=SOURCE_WHOLE,
        description="Not so many documents vanished at once that a person must confirm it before any is deleted.",
    )
    def source_whole_check(runtime: dg.ResourceParam[Runtime]) -> dg.AssetCheckResult:
        vanished = {}
        for collection in runtime.settings.collections:
            complaint = source_complaint(runtime, collection)
            if complaint:
                vanished[collection] = complaint
        passed, description = _source_whole(vanished)
        return dg.AssetCheckResult(passed=passed, description=description)

    @dg.asset_check(
        asset="live_index",
        name=EQUALS_LEDGER,
        partitions_def=collection_partitions(settings),
        description="The live index holds exactly the rows the ledger asks for, with their text, vector and payload.",
    )
    def equals_ledger_check(
        context: dg.AssetCheckExecutionContext, runtime: dg.ResourceParam[Runtime]
    ) -> dg.AssetCheckResult:
        live = runtime.live(context.op_execution_context.partition_key)
        if live is None:
            return dg.AssetCheckResult(passed=True, description="Nothing is live yet.")
        found = inspect(runtime, live)
        return dg.AssetCheckResult(passed=not found.faults, description=_equality(live, found), metadata=asdict(found))

    return [source_whole_check, equals_ledger_check]


def source_complaint(runtime: Runtime, collection: str) -> str | None:
    """What a person must decide about a source before anything of it is deleted; None when there is nothing."""
    try:
        planned = make_plan(runtime, collection, only_live=True)
        refuse_other_folder(runtime, planned)
    except RagAssetsError as error:
        return str(error)
    return withheld(collection, len(planned.plan.withheld))


def withheld(collection: str, documents: int) -> str | None:
    """The word about documents that vanished all at once."""
    if not documents:
        return None
    return (
        f"{documents:,} documents vanished at once; none is deleted until `rag-assets sync --collection {collection} "
        "--allow-mass-delete` (or a run with allow_mass_delete) confirms it"
    )


def source_whole(complaints: Mapping[str, str]) -> dg.AssetCheckEvaluation:
    """The sensor's report on every source; ``complaints`` by collection."""
    passed, description = _source_whole(complaints)
    return dg.AssetCheckEvaluation(
        asset_key=dg.AssetKey("document_source"), check_name=SOURCE_WHOLE, passed=passed, description=description
    )


def _source_whole(complaints: Mapping[str, str]) -> tuple[bool, str]:
    if not complaints:
        return True, "Every source holds what it should."
    return False, "; ".join(f"{collection}: {text}" for collection, text in complaints.items())


def equals_ledger(generation: Generation, found: Integrity) -> dg.AssetCheckEvaluation:
    """The weekly run's report on a live index."""
    return dg.AssetCheckEvaluation(
        asset_key=dg.AssetKey("live_index"),
        check_name=EQUALS_LEDGER,
        passed=not found.faults,
        description=_equality(generation, found),
        metadata=asdict(found),
        partition=generation.collection,
    )


def _equality(generation: Generation, found: Integrity) -> str:
    if not found.faults:
        return f"{generation.name}: {found.rows:,} rows, none missing, extra, wrong, out of date, unreachable, truncated or wrong in the lexical index."
    return (
        f"{generation.name}: {found.missing} rows missing, {found.extra} extra, {found.wrong} wrong, {found.unreachable} "
        f"unreachable, {found.truncated} longer than the model reads, {found.lexical} wrong in the lexical index; {found.stale_documents} documents out of date. `rag-assets reconcile` repairs it."
    )
