"""What each side finds for a question, looked up once, and the rankings any settings would make of it without searching."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from rag_assets.database.generations import Generation
from rag_assets.evaluation.golden.questions import Question
from rag_assets.evaluation.metrics.retrieval import ndcg_at_k
from rag_assets.evaluation.tuning.results import Variant
from rag_assets.retrieval.candidates import Asked, dense_side, fuse
from rag_assets.retrieval.filters import filters_of
from rag_assets.retrieval.fusion import ranked
from rag_assets.retrieval.reading import as_read
from rag_assets.retrieval.rerank import Reranker, blended, passage_text
from rag_assets.runtime import Runtime
from rag_assets.settings import RetrievalSettings

CUT_OFF = 10
"""Documents that count: nDCG@10."""


@dataclass(slots=True)
class Lists:
    """What is known of one question."""

    question: Question
    dense: dict[int, list[tuple[str, float]]]
    """By ef_search: chunk ids and cosine similarities, nearest first, as many as ef_search says."""
    bm25: list[tuple[str, float]]
    """Chunk ids and BM25 scores, best first."""
    similarities: Mapping[str, float]
    """Cosine similarity of every chunk above."""
    words: Mapping[str, float]
    """BM25 score of every chunk above."""
    documents: Mapping[str, str]
    """The document of every chunk above."""
    passages: Mapping[str, str]
    """What a reranker reads of it."""
    read: Callable[[RetrievalSettings], RetrievalSettings] = lambda settings: settings
    """Settings as they hold for this question: see :mod:`rag_assets.retrieval.reading`."""
    reranked: dict[str, float] = field(default_factory=dict)
    """A reranker's scores, of the chunks it was shown so far."""


def look_up(runtime: Runtime, generation: Generation, question: Question, efs: Iterable[int], depth: int) -> Lists:
    """Search both sides in one snapshot, the dense one once for every value of ef_search."""
    embedder = runtime.embedder_of(generation)
    vector = embedder.embed_queries([question.question])[0]
    asked = Asked(question.question, vector, filters_of(question.filter))
    with runtime.database.transaction(snapshot=True) as connection:
        searcher = runtime.store_of(generation).searcher(connection, generation)
        dense = {ef: list(dense_side(searcher, asked, ef, ef).found.items()) for ef in efs}
        bm25: list[tuple[str, float]] = []
        words: Mapping[str, float] = {}
        if searcher.has_words:
            found = searcher.words(
                question.question,
                depth,
                settings=runtime.settings.lexical,
                filters=asked.filters,
                also=sorted({chunk for nearest in dense.values() for chunk, _ in nearest}),
            )
            bm25 = [(match.chunk_id, match.score) for match in found.matches]
            words = {**found.others, **dict(bm25)}
        ids = {chunk for one in (*dense.values(), bm25) for chunk, _ in one}
        rows = searcher.fetch(sorted(ids), vector)
    similarities = {chunk: row.dense for chunk, row in rows.items()}
    documents = {chunk: str(row.payload["document"]) for chunk, row in rows.items()}
    passages = {chunk: passage_text(row) for chunk, row in rows.items()}
    return Lists(
        question,
        dense,
        bm25,
        similarities,
        words,
        documents,
        passages,
        lambda settings: as_read(settings, embedder, question.question),
    )


def candidates(lists: Lists, variant: Variant) -> dict[str, float]:
    """The candidates of a variant and their scores before reranking: what ``retrieval.candidates.find`` finds."""
    chosen = lists.read(variant.retrieval)
    dense = dict(lists.dense[variant.effective_ef][: variant.depth]) if chosen.mode != "lexical" else {}
    bm25 = dict(lists.bm25[: variant.depth]) if chosen.mode != "dense" else {}
    scores = dense or bm25
    if dense and bm25:
        near = {chunk: lists.similarities[chunk] for chunk in bm25}
        words = {chunk: lists.words.get(chunk, 0.0) for chunk in dense}
        scores = fuse(dense, bm25, chosen, other_dense=near, other_bm25=words)
    return {chunk: scores[chunk] for chunk in ranked(scores)[: variant.count]}


def ranking(lists: Lists, variant: Variant) -> list[str]:
    """The chunks a search with a variant returns, best first. Reranked chunks must have been scored.

    Raises:
        KeyError: a chunk has no reranker's score yet.
    """
    before = candidates(lists, variant)
    order = list(before)
    if variant.retrieval.rerank == "none":
        return order
    return blended(order, before, lists.reranked, lists.read(variant.retrieval))


def score_passages(reranker: Reranker, lists: Lists, variants: Sequence[Variant]) -> None:
    """Let a reranker score, once, every chunk that one of the variants would show it."""
    shown = {c for variant in variants for c in list(candidates(lists, variant))[: variant.retrieval.rerank_depth]}
    new = sorted(shown - lists.reranked.keys())
    if new:
        batches = reranker.score(lists.question.question, [lists.passages[chunk] for chunk in new])
        scores = [score for batch in batches for score in batch]
        lists.reranked.update(zip(new, scores, strict=True))


def quality(every: Sequence[Lists], variant: Variant) -> dict[str, float]:
    """nDCG@10 of a variant by question id."""
    values = {}
    for lists in every:
        found = dict.fromkeys(lists.documents[chunk] for chunk in ranking(lists, variant)[: variant.count])
        values[lists.question.id] = ndcg_at_k(list(found), lists.question.grades, CUT_OFF)
    return values
