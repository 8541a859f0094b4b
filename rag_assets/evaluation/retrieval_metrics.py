"""Retrieval metrics of one question, as trec_eval and BEIR define them. Pure functions.

Relevance is judged per document, so a ranking is a list of distinct documents, each at the rank of its best chunk; the
cut-off k counts documents. A ranking for k must therefore come from a search deep enough to hold k documents. Only
``evidence_recall_at_k`` looks at chunks (see also :mod:`evidence`).

``grades`` maps documents to graded relevance; a document is relevant if its grade is above 0. At least one must be:
without a relevant document none of these metrics is defined.
"""

import math
from collections.abc import Mapping, Sequence

from rag_assets.errors import RagAssetsError
from rag_assets.evaluation.questions import Label, Question, normalise_quote
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


def evidence_recall_at_k(labels: Sequence[Label], hits: Sequence[Hit], k: int) -> float | None:
    """Share of the labels' quotes found whole in one of the first k chunks, of the label's own document.

    A quote cut in two by a chunk border is not found: that is what this metric shows. None if no label has a quote.
    """
    quotes = {(label.document, normalise_quote(label.quote)) for label in labels if label.quote and label.grade > 0}
    if not quotes:
        return None
    first = sorted(hits, key=lambda hit: hit.rank)[:k]
    texts = [(hit.document, normalise_quote(hit.text)) for hit in first]
    found = sum(any(document == name and quote in text for name, text in texts) for document, quote in quotes)
    return found / len(quotes)


def score_question(question: Question, hits: Sequence[Hit], ks: Sequence[int] = DEFAULT_KS) -> dict[str, float | None]:
    """Every metric at every k, as ``{"ndcg@10": 0.63, …}``; ``evidence_recall@k`` only where a label has a quote.

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
    scores: dict[str, float | None] = {}
    for k in ks:
        scores[f"recall@{k}"] = recall_at_k(ranked, grades, k)
        scores[f"precision@{k}"] = precision_at_k(ranked, grades, k)
        scores[f"hit_rate@{k}"] = hit_rate_at_k(ranked, grades, k)
        scores[f"mrr@{k}"] = mrr_at_k(ranked, grades, k)
        scores[f"ndcg@{k}"] = ndcg_at_k(ranked, grades, k)
        if (evidence := evidence_recall_at_k(question.relevant, hits, k)) is not None:
            scores[f"evidence_recall@{k}"] = evidence
    return scores


def unmeasured_scores(question: Question, ks: Sequence[int] = DEFAULT_KS) -> dict[str, float | None]:
    """The keys ``score_question`` would return, all None: a failed search, or labels that no longer hold."""
    names = ["recall", "precision", "hit_rate", "mrr", "ndcg"]
    if any(label.quote for label in question.relevant):
        names.append("evidence_recall")
    return {f"{name}@{k}": None for k in ks for name in names}


def _relevant_found(ranked: Sequence[str], grades: Mapping[str, float], k: int) -> int:
    return sum(grades.get(name, 0) > 0 for name in ranked[:k])


def _dcg(gains: Sequence[float]) -> float:
    return sum(gain / math.log2(rank + 1) for rank, gain in enumerate(gains, start=1))
