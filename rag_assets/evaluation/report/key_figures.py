"""The key figures of an evaluation: as cards, and beside what they are compared with."""

from dataclasses import dataclass

from rag_assets.evaluation.checks import FLOOR
from rag_assets.evaluation.report.formatting import duration, metric_name, score_change, score_detail, score_value
from rag_assets.evaluation.report.plots import ScoreRow
from rag_assets.evaluation.results import EvaluationResult, PreviousEvaluation

_CARDS = (
    ("ndcg@10", "nDCG@10"),
    ("recall@10", "Recall@10"),
    ("mrr@10", "MRR@10"),
    ("context_evidence_recall", "Evidence in 4,000 characters"),
    ("answer_contained", "Answers with the gold answer"),
    ("citation_correctness", "Citation correctness"),
)


_JUDGED = ("faithfulness", "answer_relevancy", "factual_correctness", "context_precision", "context_recall")


@dataclass(frozen=True, slots=True)
class Card:
    """A key figure, worded."""

    label: str
    value: str
    detail: str
    """Interval and counts, or spread."""
    change: str
    """Against the previous evaluation; empty without one."""


def key_figures(result: EvaluationResult) -> list[Card]:
    """Those of the key metrics that apply, and the speed of a search; without questions, what the index finds."""
    scores = {**result.retrieval, **result.answers}
    cards = [_score_card(result, name, label) for name, label in _CARDS if name in scores]
    if result.questions or result.latency:
        cards.append(_speed_card(result))
    elif result.ann_recall:
        detail = f"of what exact search finds; {result.ann_recall.n} queries"
        cards.append(Card("Index recall@10", f"{result.ann_recall.mean:.3f}", detail, ""))
    return cards


def score_rows(result: EvaluationResult) -> list[ScoreRow]:
    """The key scores, and every one with a floor, with what they are seen against."""
    floors = {
        check.name.removeprefix(FLOOR): check.threshold for check in result.checks if check.name.startswith(FLOOR)
    }
    scores = {**result.retrieval, **result.answers}
    names = [name for name in dict.fromkeys([*(name for name, _ in _CARDS), *_JUDGED, *floors]) if name in scores]

    def of(other: PreviousEvaluation | None, name: str) -> float | None:
        score = {**other.retrieval, **other.answers}.get(name) if other else None
        return score.value if score else None

    return [
        ScoreRow(
            metric_name(name), scores[name], of(result.previous, name), of(result.baseline, name), floors.get(name)
        )
        for name in names
        if scores[name].value is not None
    ]


def _score_card(result: EvaluationResult, name: str, label: str) -> Card:
    score = result.retrieval.get(name) or result.answers.get(name)
    change = ""
    if result.previous and (difference := result.previous.differences.get(name)):
        change = score_change(difference)
    return Card(label, score_value(score), score_detail(score), change)


def _speed_card(result: EvaluationResult) -> Card:
    search = result.latency.get("search")
    if search is None:
        return Card("Search p95", "–", "not measured", "")
    detail = f"median {duration(search.p50)}, p99 {duration(search.p99)}; {search.n} searches"
    before = result.previous.latency.get("search") if result.previous else None
    return Card("Search p95", duration(search.p95), detail, f"before: {duration(before.p95)}" if before else "")
