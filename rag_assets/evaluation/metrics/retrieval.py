"""Retrieval metrics of one question, as trec_eval and BEIR define them. Pure functions.

Two levels. Per document: a ranking is a list of distinct documents, each at the rank of its best chunk; the cut-off k counts
documents, so a ranking for k must come from a search deep enough to hold k of them. Per chunk, where labels have quotes:
the cut-off counts chunks, a chunk is relevant if it holds a quote whole (``evidence_…``; see also :mod:`evidence`), and
a quote that several overlapping chunks hold counts once, at the first of them.

``grades`` maps documents to graded relevance; a document is relevant if its grade is above 0. At least one must be:
without a relevant document none of these metrics is defined.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rag_assets.errors import RagAssetsError
from rag_assets.evaluation.golden.questions import Label, Question, normalise_quote
from rag_assets.models import Hit

DEFAULT_KS = (1, 3, 5, 10)


def ranked_documents(hits: Sequence[Hit]) -> list[str]:
    """The distinct documents of chunk results, each at the place of its best chunk."""
    return list(dict.fromkeys(hit.document for hit in sorted(hits, key=lambda hit: hit.rank)))


def recall_at_k(ranked: Sequence[str], grades: Mapping[str, float], k: int) -> float:
    """Share of the relevant documents that are among the first k."""
    return _relevant_found(ranked, grades, k) / sum(grade > 0 for grade in grades.values())


def precision_at_k(ranked: Sequence[str], grades: Mapping[str, float], k: int) -> float:
    """Share of the first k places that hold a relevant document; places left empty count as not relevant."""
    return _relevant_found(ranked, grades, k) / k


def hit_rate_at_k(ranked: Sequence[str], grades: Mapping[str, float], k: int) -> float:
    """1 if any of the first k documents is relevant, else 0 (also called success@k)."""
    return float(_relevant_found(ranked, grades, k) > 0)


def mrr_at_k(ranked: Sequence[str], grades: Mapping[str, float], k: int) -> float:
    """1 / rank of the first relevant document, 0 if it is not among the first k (Voorhees 1999, TREC-8)."""
    return next((1 / rank for rank, name in enumerate(ranked[:k], start=1) if grades.get(name, 0) > 0), 0.0)


def ndcg_at_k(ranked: Sequence[str], grades: Mapping[str, float], k: int) -> float:
    """Normalised discounted cumulative gain: gain = grade, discount = log2(rank + 1), over that of the best ranking.

    Järvelin and Kekäläinen 2002, "Cumulated gain-based evaluation of IR techniques", with the discount of trec_eval's
    ``ndcg_cut``, which BEIR reports.
    """
    best = sorted((grade for grade in grades.values() if grade > 0), reverse=True)
    return _dcg([max(grades.get(name, 0.0), 0.0) for name in ranked[:k]]) / _dcg(best[:k])


@dataclass(frozen=True, slots=True)
class Evidence:
    """Where the labels' quotes stand among the chunks of a ranking."""

    first: tuple[int | None, ...]
    """By quote: the rank of the first chunk of its document that holds it whole; None: none does."""
    holding: frozenset[int]
    """Ranks of the chunks that hold a quote."""

    def scores(self, k: int) -> dict[str, float]:
        """Metrics over the first k chunks.

        ``evidence_recall``: share of the quotes that are held. A quote cut in two by a chunk border is not: that is what it shows.
        ``evidence_precision``: share of the k places whose chunk holds a quote. ``evidence_mrr``: 1 / rank of the first such
        chunk. ``evidence_ndcg``: 1 / log2(rank + 1) of each quote's first chunk, as a mean over quotes: the nDCG of a ranking with one
        relevant item, for each, since in how many chunks they might stand depends on how documents are cut.
        """
        ranks = [rank for rank in self.first if rank is not None and rank <= k]
        return {
            "evidence_recall": len(ranks) / len(self.first),
            "evidence_precision": sum(rank <= k for rank in self.holding) / k,
            "evidence_mrr": 1 / min(ranks) if ranks else 0.0,
            "evidence_ndcg": sum(1 / math.log2(rank + 1) for rank in ranks) / len(self.first),
        }


def find_evidence(labels: Sequence[Label], hits: Sequence[Hit], depth: int) -> Evidence | None:
    """Where the labels' quotes stand among the first ``depth`` chunks; None if no relevant label has a quote."""
    quotes = {(label.document, normalise_quote(label.quote)) for label in labels if label.quote and label.grade > 0}
    if not quotes:
        return None
    documents = {document for document, _ in quotes}
    ranked = enumerate(sorted(hits, key=lambda hit: hit.rank)[:depth], start=1)
    texts = [(rank, hit.document, normalise_quote(hit.text)) for rank, hit in ranked if hit.document in documents]
    found = [
        [rank for rank, name, text in texts if name == document and quote in text] for document, quote in sorted(quotes)
    ]
    return Evidence(tuple(min(ranks, default=None) for ranks in found), frozenset(r for ranks in found for r in ranks))


def score_question(question: Question, hits: Sequence[Hit], ks: Sequence[int] = DEFAULT_KS) -> dict[str, float | None]:
    """Every metric at every k, as ``{"ndcg@10": 0.63, …}``; ``evidence_…@k`` only where a label has a quote.

    Args:
        question: with valid labels only (see ``resolve_labels``).
        hits: chunk results, best first by ``rank``, deep enough to hold ``max(ks)`` documents.
        ks: cut-offs.

    Raises:
        RagAssetsError: the question has no relevant document.
    """
    grades = question.grades
    if not any(grade > 0 for grade in grades.values()):
        raise RagAssetsError(
            f"Question {question.id!r} names no relevant document, so retrieval can't be scored on it. "
            "Pass it to unmeasured_scores, or use it to measure abstention only."
        )
    ranked = ranked_documents(hits)
    evidence = find_evidence(question.relevant, hits, max(ks))
    scores: dict[str, float | None] = {}
    for k in ks:
        scores[f"recall@{k}"] = recall_at_k(ranked, grades, k)
        scores[f"precision@{k}"] = precision_at_k(ranked, grades, k)
        scores[f"hit_rate@{k}"] = hit_rate_at_k(ranked, grades, k)
        scores[f"mrr@{k}"] = mrr_at_k(ranked, grades, k)
        scores[f"ndcg@{k}"] = ndcg_at_k(ranked, grades, k)
        if evidence is not None:
            scores |= {f"{name}@{k}": value for name, value in evidence.scores(k).items()}
    return scores


def unmeasured_scores(question: Question, ks: Sequence[int] = DEFAULT_KS) -> dict[str, float | None]:
    """The keys ``score_question`` would return, all None: a failed search, or labels that no longer hold."""
    names = ["recall", "precision", "hit_rate", "mrr", "ndcg"]
    if any(label.quote for label in question.relevant):
        names += ["evidence_recall", "evidence_precision", "evidence_mrr", "evidence_ndcg"]
    return {f"{name}@{k}": None for k in ks for name in names}


def _relevant_found(ranked: Sequence[str], grades: Mapping[str, float], k: int) -> int:
    return sum(grades.get(name, 0) > 0 for name in ranked[:k])


def _dcg(gains: Sequence[float]) -> float:
    return sum(gain / math.log2(rank + 1) for rank, gain in enumerate(gains, start=1))
