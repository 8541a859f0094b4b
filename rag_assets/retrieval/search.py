"""Search: embed the question with the served model, find and rank passages in the served generation, in one snapshot."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from rag_assets.database.generations import Generation
from rag_assets.errors import ConfigurationError
from rag_assets.models import Condition, Hit
from rag_assets.retrieval.candidates import Candidates, rank_of
from rag_assets.retrieval.diversity import POOL, diversify
from rag_assets.retrieval.filters import BUILT_IN, checked_fields
from rag_assets.retrieval.passages import Passages, Query, expected_live, live_passages, passages_of
from rag_assets.retrieval.rerank import blended, build_reranker, passage_text, rerank
from rag_assets.runtime import Runtime
from rag_assets.settings import RetrievalSettings
from rag_assets.stores.protocol import Plan, Row

MAX_K = 1000
MAX_QUESTION_CHARACTERS = 20_000


@dataclass(frozen=True, slots=True)
class SearchResult:
    """Hits, where they come from, and how long it took."""

    hits: tuple[Hit, ...]
    generation: Generation
    milliseconds: Mapping[str, float]
    """``embedding`` (the question), ``retrieval`` (everything in the database, of which ``dense``, ``lexical`` and ``fuse`` are
    parts), ``rerank`` (if asked for), ``search`` (everything)."""
    reranked: bool = False
    """True when a reranker ordered the hits; False also where its time was spent before it was done."""
    plan: Plan | None = None
    """Which way was taken behind the filters; None: there were none."""


def search(
    runtime: Runtime,
    question: str,
    *,
    collection: str | None = None,
    k: int = 10,
    filters: Sequence[Condition] = (),
    generation: Generation | None = None,
    exact: bool = False,
    retrieval: RetrievalSettings | None = None,
) -> SearchResult:
    """The ``k`` passages that fit a question best.

    Args:
        runtime: the parts.
        question: in plain words.
        collection: its name; None: the one ``Settings.target`` names.
        k: number of hits, 1 … 1000.
        filters: what the metadata must pass, as :mod:`filters` reads it.
        generation: search this one instead of the live one (evaluation does).
        exact: the dense side compares with every row instead of using the index.
        retrieval: how; None: as the settings say.

    Raises:
        ConfigurationError: the question is empty or too long, k is out of range, a filter's field is unknown, or the
            reranker can't be had.
        RagAssetsError: nothing is live yet, or the reranker failed.
    """
    started = time.perf_counter()
    question = checked_question(question)
    if not 1 <= k <= MAX_K:
        raise ConfigurationError(f"k = {k} is out of range; 1 to {MAX_K} are allowed.")
    name = generation.collection if generation else runtime.settings.target(collection)
    settings = retrieval or runtime.settings.retrieval_of(name)
    if filters:
        if generation is None:
            expected_live(runtime, name)
        check_fields(runtime, name, filters, settings)
    wide = max(k, POOL) if settings.diversity else k
    query = Query(question, wide, settings, filters, exact)
    passages = passages_of(runtime, generation, query) if generation else live_passages(runtime, name, query)
    retrieved = time.perf_counter()
    hits, reranked, seconds = _reranked(runtime, question, passages, wide)
    if settings.diversity:
        hits = _diverse(hits, k, settings)
    milliseconds = {
        "embedding": passages.embedding * 1000,
        **{stage: spent * 1000 for stage, spent in passages.found.seconds.items()},
        "retrieval": (retrieved - started - passages.embedding) * 1000,
        **({"rerank": seconds * 1000} if settings.rerank != "none" else {}),
        "search": (time.perf_counter() - started) * 1000,
    }
    return SearchResult(hits, passages.generation, milliseconds, reranked, passages.found.plan)


def check_fields(runtime: Runtime, collection: str, filters: Sequence[Condition], settings: RetrievalSettings) -> None:
    """Refuse a field that may not be filtered by, or that no document has.

    Raises:
        ConfigurationError: names the field and the known ones.
    """
    if settings.filter_fields is not None:
        checked_fields(filters, settings.filter_fields, why="retrieval.filter_fields allows")
        return
    others = sorted({condition.field for condition in filters} - set(BUILT_IN))
    if not others:
        return
    with runtime.database.transaction() as connection:
        # A document that has it is found soon, if the field is not rare; the list of all is needed for the message alone.
        known = connection.execute(
            "SELECT field FROM unnest(%s::text[]) AS field"
            " WHERE EXISTS (SELECT 1 FROM document WHERE collection = %s AND metadata ? field)",
            (others, collection),
        ).fetchall()
        if len(known) == len(others):
            return
        known = connection.execute(
            "SELECT DISTINCT jsonb_object_keys(metadata) FROM document WHERE collection = %s", (collection,)
        ).fetchall()
    checked_fields(filters, {*BUILT_IN, *(row[0] for row in known)}, why=f"Fields of {collection!r}")


def _reranked(runtime: Runtime, question: str, passages: Passages, k: int) -> tuple[tuple[Hit, ...], bool, float]:
    """(hits, whether a reranker ordered them, seconds it took)."""
    found, rows, settings = passages.found, passages.rows, passages.settings
    order: Sequence[str] = found.order
    scores: dict[str, float] = {}
    seconds = 0.0
    if settings.rerank != "none" and order:
        first = list(order[: settings.rerank_depth])
        texts = {item: passage_text(rows[item]) for item in first}
        kept = {texts[item]: vectors for item, vectors in passages.tokens.items()}
        reranker = build_reranker(settings.rerank, runtime.embedder_of(passages.generation), kept)
        done = rerank(reranker, question, list(texts.values()), budget_seconds=settings.rerank_seconds)
        seconds = done.seconds
        if done.scores is not None:
            scores = dict(zip(first, done.scores, strict=True))
            before = found.fused or found.dense or found.bm25
            order = blended(order, before, scores, settings)
    hits = _hits(passages.generation.collection, order[:k], rows, found, scores)
    return hits, bool(scores), seconds


def _diverse(hits: Sequence[Hit], k: int, settings: RetrievalSettings) -> tuple[Hit, ...]:
    """The first ``k`` of the hits in their diverse order, ranked anew."""
    chosen = diversify(hits, k, near_duplicate=settings.near_duplicate, max_per_document=settings.max_per_document)
    return tuple(replace(hit, rank=rank) for rank, hit in enumerate(chosen[:k], start=1))


def _hits(
    collection: str,
    order: Sequence[str],
    rows: Mapping[str, Row],
    found: Candidates,
    reranked: Mapping[str, float],
) -> tuple[Hit, ...]:
    parts = {"dense": found.dense, "bm25": found.bm25, "fused": found.fused, "rerank": reranked}
    given = {name: (values, rank_of(values, order)) for name, values in parts.items() if values}
    hits = []
    for rank, item in enumerate(order, start=1):
        row = rows[item]
        metadata = dict(row.payload)
        scores: dict[str, float | None] = dict.fromkeys(parts)
        ranks: dict[str, int | None] = dict.fromkeys(parts)
        for name, (values, ranked) in given.items():
            if item in values:
                scores[name], ranks[name] = round(values[item], 6), ranked[item]
        if item in found.other_bm25 and scores["bm25"] is None:
            scores["bm25"] = round(found.other_bm25[item], 6)
        if not math.isnan(row.dense):
            # Also of what only the lexical side found: answers judge by it whether a passage is about the question.
            scores["dense"] = round(row.dense, 6)
        hits.append(
            Hit(
                rank=rank,
                document=str(metadata.pop("document", "")),
                chunk_id=item,
                text=row.text,
                scores=scores,
                metadata=metadata,
                ranks=ranks,
                collection=collection,
            )
        )
    return tuple(hits)


def checked_question(question: str) -> str:
    """The question without what no database or model can take.

    Raises:
        ConfigurationError: it is empty or too long.
    """
    cleaned = question.replace("\x00", " ").encode("utf-8", "replace").decode("utf-8").strip()
    if not cleaned:
        raise ConfigurationError("The question is empty. Ask something in plain words.")
    if len(cleaned) > MAX_QUESTION_CHARACTERS:
        raise ConfigurationError(
            f"The question has {len(cleaned):,} characters; {MAX_QUESTION_CHARACTERS:,} are allowed. Shorten it."
        )
    return cleaned
