"""What a sync did, in the shape scripts rely on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rag_assets.database import ledger
from rag_assets.database.generations import Generation
from rag_assets.indexing.results import StageResult
from rag_assets.plan import Kind, Plan
from rag_assets.runtime import Runtime
from rag_assets.stores import pgvector

_SECONDS = {
    "raw_documents": "parse",
    "chunks": "chunk",
    "embeddings": "embed",
    "index_entries": "load",
    "hnsw_index": "index",
}


@dataclass(frozen=True, slots=True)
class SyncReport:
    """What a sync did, in the shape scripts rely on."""

    collection: str
    documents: Mapping[str, int]
    chunks: Mapping[str, int]
    embeddings: Mapping[str, int]
    generation: Mapping[str, Any]
    seconds: Mapping[str, float]
    """Of the stages, and ``total``; stages overlap, so that they add up to more than they took."""
    shards: Sequence[int] = field(default=())
    """Shards that were run."""
    withheld: Sequence[str] = field(default=())
    """Documents the mass-delete guard did not let go."""
    refused: str | None = None
    """Why the new generation did not go live."""
    rebuilt_because: str | None = None
    """Why an index was built beside the live one instead of changing that."""

    @property
    def nothing_changed(self) -> bool:
        """True when no run was needed."""
        return not self.shards and not self.generation["promoted"] and self.refused is None


def made_report(
    runtime: Runtime,
    plan: Plan,
    results: Sequence[StageResult],
    target: Generation | None,
    shards: Sequence[int],
    promoted: bool,
    refused: str | None,
    seconds: float,
    rebuilt_because: str | None = None,
) -> SyncReport:
    """Put together what the stages reported of one sync.

    Args:
        runtime: the parts.
        plan: what was to be done.
        results: of this sync's stages.
        target: the generation that was worked on.
        shards: those that were run.
        promoted: whether it went live.
        refused: why it did not, where a gate refused it.
        seconds: wall time of the whole.
        rebuilt_because: why a new index was built beside the live one, where the amount of changes asked for it.
    """

    def total(stage: str, count: str) -> int:
        return sum(result.counts.get(count, 0) for result in results if result.stage == stage)

    with runtime.database.transaction() as connection:
        rows = pgvector.count(connection, target) if target else 0
        ledger_quarantined = {uri for uri, _ in ledger.quarantined(connection, plan.collection)}
        unusable = ledger_quarantined | {uri for uri, _ in ledger.problems(connection, plan.collection)}
    metadata_only = total("raw_documents", "metadata_only")
    computed = total("embeddings", "computed")
    fresh = {kind: [c for c in plan.changes if c.kind is kind and c.uri not in ledger_quarantined] for kind in Kind}
    spent: dict[str, float] = {"total": seconds, **dict.fromkeys(_SECONDS.values(), 0.0)}
    for result in results:
        if result.stage in _SECONDS:
            spent[_SECONDS[result.stage]] += result.seconds
    known = sum(len(changes) for changes in fresh.values()) - len(fresh[Kind.REMOVED])
    return SyncReport(
        collection=plan.collection,
        documents={
            "added": len(fresh[Kind.ADDED]),
            "changed": len(fresh[Kind.CHANGED]) - metadata_only,
            "renamed": len(fresh[Kind.RENAMED]),
            "removed": len(fresh[Kind.REMOVED]),
            "metadata_only": metadata_only,
            "reindexed": len(fresh[Kind.PENDING]),
            "unchanged": _documents(runtime, plan.collection) - known,
            "quarantined": len(unusable),
        },
        chunks={
            "total": rows,
            "added": total("index_entries", "added"),
            "removed": total("index_entries", "removed"),
        },
        embeddings={"computed": computed, "reused": max(0, total("index_entries", "added") - computed)},
        generation={
            "id": target.id if target else None,
            "name": target.name if target else None,
            "state": target.state if target else "none",
            "promoted": promoted,
        },
        seconds={key: round(value, 3) for key, value in spent.items()},
        shards=list(shards),
        withheld=[change.uri for change in plan.withheld],
        refused=refused,
        rebuilt_because=rebuilt_because,
    )


def _documents(runtime: Runtime, collection: str) -> int:
    with runtime.database.transaction() as connection:
        row = connection.execute("SELECT count(*) FROM document WHERE collection = %s", (collection,)).fetchone()
    return int(row[0]) if row else 0
