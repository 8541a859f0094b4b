"""``plan`` for people: what a sync would do, in documents, chunks, tokens, minutes and money. Writes nothing.

New and changed documents are really parsed and cut, so the counts are the counts a sync would report; only beyond
``EXACT_DOCUMENTS`` documents a sample of them is, and the result says so.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rag_assets.chunking import chunk_document, identify
from rag_assets.chunking.identity import Chunk
from rag_assets.database import generations
from rag_assets.database.ledger import Connection
from rag_assets.documents.source import FileGone, FileUnreadable
from rag_assets.errors import UnparsableDocument
from rag_assets.indexing import rebuilding
from rag_assets.indexing.chunks import read_document
from rag_assets.indexing.planning import Planned
from rag_assets.indexing.raw_documents import document_hashes
from rag_assets.models import ParsedDocument, ServedEmbedder
from rag_assets.plan import Change, Kind
from rag_assets.runtime import Runtime

EXACT_DOCUMENTS = 2000
"""Documents that are parsed for the preview; of more, a sample is."""
TOKENS_PER_SECOND = 3000.0
"""Speed assumed until this installation has measured its own: a careful guess for a small machine."""


@dataclass(frozen=True, slots=True)
class Preview:
    """What a sync would do."""

    documents: Mapping[str, int]
    chunks: Mapping[str, int]
    embeddings: Mapping[str, int]
    reasons: Sequence[str]
    tokens: int
    estimated_seconds: float
    estimated_cost_usd: float | None
    """What a server will charge for the texts that are embedded; None: its price is not known. A local model costs nothing."""
    exact: bool
    """False when the counts were scaled up from a sample."""
    changes: Sequence[Mapping[str, str]]
    """Every document that would be touched, with the reason."""
    withheld: Sequence[str]


@dataclass(slots=True)
class _Tally:
    added: int = 0
    removed: int = 0
    metadata_only: int = 0
    texts: dict[str, int] = field(default_factory=dict)
    """Tokens by text hash, of the chunks that would be added."""
    followed: dict[str, dict[str, int]] = field(default_factory=dict)
    """The same for a live index made otherwise, by its embedder's fingerprint."""


def preview(runtime: Runtime, planned: Planned) -> Preview:
    """Work out what ``planned`` means."""
    plan = planned.plan
    cut = [change for change in plan.changes if change.kind is not Kind.REMOVED]
    step = max(1, -(-len(cut) // EXACT_DOCUMENTS))
    sample = cut[::step]
    tally = _Tally()
    quarantined: list[Change] = []
    with runtime.database.transaction(snapshot=True) as connection:
        target = generations.find(connection, plan.collection, runtime.key(plan.collection))
        target_id = target.id if target else None
        for number, change in enumerate(sample):
            if not _cut(connection, runtime, plan.collection, change, target_id, tally):
                quarantined.append(change)
            runtime.progress("plan", number + 1, len(sample))
        scale = len(cut) / len(sample) if sample else 1
        gone = [c.doc_id for c in plan.changes if c.kind is Kind.REMOVED]
        gone += [c.previous_doc_id for c in plan.changes if c.previous_doc_id]
        gone += planned.have.orphans
        removed = round(tally.removed * scale) + len(_rows_of(connection, target_id, gone))
        missing = _missing(connection, runtime.embedder.fingerprint, tally.texts)
        followed = {fp: _missing(connection, fp, texts) for fp, texts in tally.followed.items()}
        total = _total(connection, target_id)
        speed = _speed(connection, runtime)
    added = round(tally.added * scale)
    computed = round((len(missing) + sum(len(texts) for texts in followed.values())) * scale)
    tokens = round((sum(missing.values()) + sum(sum(texts.values()) for texts in followed.values())) * scale)
    counts = plan.counts
    lost = Counter(change.kind for change in quarantined)
    return Preview(
        documents={
            "added": counts["added"] - lost[Kind.ADDED],
            "changed": counts["changed"] - lost[Kind.CHANGED] - tally.metadata_only,
            "renamed": counts["renamed"] - lost[Kind.RENAMED],
            "removed": counts["removed"],
            "metadata_only": tally.metadata_only,
            "reindexed": counts["pending"] - lost[Kind.PENDING],
            "unchanged": _unchanged(planned),
            "quarantined": len(_unusable(planned, quarantined)),
        },
        chunks={"total": total + added - removed, "added": added, "removed": removed},
        embeddings={"computed": computed, "reused": max(0, added - computed)},
        reasons=reasons(runtime, planned),
        tokens=tokens,
        estimated_seconds=round(tokens / speed + 0.02 * len(cut), 1),
        estimated_cost_usd=_cost(runtime, plan.collection, missing, followed, scale),
        exact=step == 1,
        changes=[{"document": c.uri, "kind": c.kind.value, "reason": c.reason} for c in plan.changes],
        withheld=[change.uri for change in plan.withheld],
    )  # fmt: skip


def _cost(
    runtime: Runtime,
    collection: str,
    missing: Mapping[str, int],
    followed: Mapping[str, Mapping[str, int]],
    scale: float,
) -> float | None:
    """Money for the texts of each model: ``followed`` is by its fingerprint."""
    total = 0.0
    for recipe in runtime.recipes(collection):
        texts = missing if recipe.embedder is runtime.embedder else followed.get(recipe.key.embedder_fp, {})
        if texts and isinstance(recipe.embedder, ServedEmbedder):
            price = recipe.embedder.usd_per_token()
            if price is None:
                return None
            total += sum(texts.values()) * scale * price
    return round(total, 6)


def _unchanged(planned: Planned) -> int:
    """Parsed documents that no change touches, those that are withheld or can't be seen right now among them."""
    worked_on = {change.doc_id for change in planned.plan.changes}
    worked_on |= {change.previous_doc_id for change in planned.plan.changes if change.previous_doc_id}
    return sum(not state.quarantined and doc_id not in worked_on for doc_id, state in planned.have.files.items())


def _unusable(planned: Planned, quarantined: Sequence[Change]) -> set[str]:
    """Names of the files that would not be indexed."""
    tried = {change.doc_id for change in planned.plan.changes}
    still = {state.uri for state in planned.have.files.values() if state.quarantined and state.doc_id not in tried}
    return still | {change.uri for change in quarantined} | {item.uri for item in planned.problems}


def reasons(runtime: Runtime, planned: Planned) -> list[str]:
    """Why there is work, one sentence each, the weightiest first."""
    plan, found = planned.plan, []
    live = runtime.live(plan.collection)
    key = runtime.key(plan.collection)
    if live is None:
        found.append("No index is live yet: a first generation is built.")
    elif live.key != key:
        for name, what, mine, theirs in (
            ("chunker", "the chunking settings", key.chunker_fp, live.key.chunker_fp),
            ("embedder", "the embedding model", key.embedder_fp, live.key.embedder_fp),
            ("index", "the HNSW parameters or the analysis of words", key.index_fp, live.key.index_fp),
        ):
            if mine != theirs:
                found.append(f"{what.capitalize()} changed since {live.name} ({name} {theirs[:8]} → {mine[:8]}): a new "
                             "generation is built beside it.")  # fmt: skip
    if why := rebuilding.reason(runtime, planned):
        found.append(f"A new index is built beside {live.name if live else 'the live one'}: {why}.")
    by_reason = Counter((change.kind, _general(change)) for change in plan.changes)
    found += [f"{count} {kind.value}: {reason}" for (kind, reason), count in sorted(by_reason.items())]
    if plan.withheld:
        found.append(f"{len(plan.withheld)} documents vanished at once: nothing is deleted until --allow-mass-delete.")
    if plan.kept_unreadable:
        found.append(f"{plan.kept_unreadable} documents can't be read right now: what the index has of them is kept.")
    return found


def _general(change: Change) -> str:
    return "renamed" if change.kind is Kind.RENAMED else change.reason


def _cut(
    connection: Connection, runtime: Runtime, collection: str, change: Change, target_id: int | None, tally: _Tally
) -> bool:
    """Count one document; False when it would be quarantined."""
    if change.kind is Kind.PENDING:
        found = read_document(connection, change.doc_id)
        if found is None:  # quarantined by a run that did not live to remove its rows
            tally.removed += len(_rows_of(connection, target_id, [change.doc_id]))
            return False
        document = found[0]
    else:
        try:
            limit = int(runtime.settings.parsing.max_file_mb * 1_000_000)
            content = runtime.source(collection).read(change.path, limit)
            document = runtime.parsers.parse(change.uri, content.data)
        except (UnparsableDocument, FileGone, FileUnreadable):
            tally.removed += len(_rows_of(connection, target_id, [change.doc_id]))
            return False
        _count_followed(runtime, collection, change, document, tally)
        tally.metadata_only += _only_metadata(connection, change, document)
    chunks: list[Chunk] = identify(
        change.doc_id, chunk_document(document, runtime.chunking(collection), runtime.embedder)
    )
    have = _rows_of(connection, target_id, [change.doc_id])
    wanted = {chunk.chunk_id for chunk in chunks}
    tally.added += len(wanted - have)
    tally.removed += len(have - wanted)
    tally.texts.update({chunk.text_hash: chunk.draft.tokens for chunk in chunks if chunk.chunk_id not in have})
    return True


def _count_followed(runtime: Runtime, collection: str, change: Change, document: ParsedDocument, tally: _Tally) -> None:
    """Note what the live index needs embedded, too, where it is made otherwise than the configuration asks for."""
    for recipe in runtime.recipes(collection)[1:]:
        texts = tally.followed.setdefault(recipe.key.embedder_fp, {})
        chunks = identify(change.doc_id, chunk_document(document, recipe.chunking, recipe.embedder))
        texts.update({chunk.text_hash: chunk.draft.tokens for chunk in chunks})


def _only_metadata(connection: Connection, change: Change, document: ParsedDocument) -> bool:
    row = connection.execute(
        "SELECT body_hash, document_hash FROM document WHERE doc_id = %s", (change.doc_id,)
    ).fetchone()
    body_hash, document_hash = document_hashes(document, change.uri)
    return row is not None and row[0] == body_hash and row[1] != document_hash


def _rows_of(connection: Connection, target_id: int | None, doc_ids: Sequence[str]) -> set[str]:
    rows: list[Any] = connection.execute(
        "SELECT chunk_id FROM index_entry WHERE generation_id = %s AND doc_id = ANY(%s)", (target_id, list(doc_ids))
    ).fetchall()
    return {row[0] for row in rows}


def _missing(connection: Connection, embedder_fp: str, texts: Mapping[str, int]) -> dict[str, int]:
    rows = connection.execute(
        "SELECT text_hash FROM embedding WHERE embedder_fp = %s AND text_hash = ANY(%s)", (embedder_fp, list(texts))
    ).fetchall()
    known = {row[0] for row in rows}
    return {digest: tokens for digest, tokens in texts.items() if digest not in known}


def _total(connection: Connection, target_id: int | None) -> int:
    row: Any = connection.execute("SELECT count(*) FROM index_entry WHERE generation_id = %s", (target_id,)).fetchone()
    return int(row[0])


def _speed(connection: Connection, runtime: Runtime) -> float:
    row = connection.execute(
        "SELECT tokens_per_second FROM throughput WHERE embedder_fp = %s", (runtime.embedder.fingerprint,)
    ).fetchone()
    return float(row[0]) if row else TOKENS_PER_SECOND
