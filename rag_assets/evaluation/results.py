"""What one evaluation found: values. Their JSON is made by :mod:`result_json`.

Stages of latency, in milliseconds: ``embedding`` (of the question), ``retrieval`` (the database), ``search`` (both, and
everything else a search does), ``generation`` (the language model), ``total`` (the whole query). Others may be added;
they have no class.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Literal

from rag_assets.evaluation.holdings import DocumentState
from rag_assets.evaluation.questions import InvalidLabel, Label
from rag_assets.evaluation.statistics import DEFAULT_SEED, Score, percentile, summarise_metrics

Verdict = Literal["pass", "fail", "inconclusive"]
LatencyClass = Literal["excellent", "good", "acceptable", "poor", "critical"]

STAGES = ("embedding", "retrieval", "search", "generation", "total")
"""In the order people read them."""
LATENCY_LIMITS: Mapping[str, tuple[float, float, float, float]] = {
    "embedding": (0.1, 0.2, 0.5, 1),
    "retrieval": (0.05, 0.1, 0.3, 1),
    "generation": (3, 5, 10, 15),
    "total": (3, 5, 10, 15),
}
"""Seconds: under the first is excellent, then up to each next one good, acceptable, poor; beyond the last, critical."""


@dataclass(frozen=True, slots=True)
class Citation:
    """A passage an answer names as its source."""

    document: str
    chunk_id: str
    quote: str


@dataclass(frozen=True, slots=True)
class RetrievedPassage:
    """One search result, as it is shown to people."""

    rank: int
    document: str
    chunk_id: str
    text: str
    score: float | None
    relevant: bool
    """Its document is labelled relevant."""


@dataclass(frozen=True, slots=True)
class QuestionResult:
    """Everything measured on one question."""

    id: str
    question: str
    kind: str | None = None
    relevant: tuple[Label, ...] = ()
    """What was expected: valid labels only."""
    scores: Mapping[str, float | None] = field(default_factory=dict)
    """Retrieval metrics; None where unmeasured, no key where a metric does not apply."""
    retrieved: tuple[RetrievedPassage, ...] = ()
    answer: str | None = None
    abstained: bool = False
    gold_answer: str | None = None
    citations: tuple[Citation, ...] = ()
    answer_scores: Mapping[str, float | None] = field(default_factory=dict)
    milliseconds: Mapping[str, float] = field(default_factory=dict)
    """Time by stage."""
    error: str | None = None
    """Why the question could not be run."""
    unjudged: Mapping[str, str] = field(default_factory=dict)
    """Metrics of a judge that could not be measured, and why."""
    changed: tuple[str, ...] = ()
    """What changed since the previous evaluation: how its place moved, then why as far as that is known."""
    ndcg_before: float | None = None
    """nDCG@10 in the previous evaluation, where ``changed`` says something."""


@dataclass(frozen=True, slots=True)
class LatencySummary:
    """Distribution of one stage's time, in milliseconds."""

    n: int
    p50: float
    p95: float
    p99: float
    max: float


@dataclass(frozen=True, slots=True)
class AnnRecall:
    """recall@10 of the approximate index against exact search, over queries."""

    n: int
    mean: float
    p05: float
    """5th percentile: what one query in twenty gets, or less."""
    min: float


@dataclass(frozen=True, slots=True)
class Check:
    """A floor or a budget, and whether it is met."""

    name: str
    passed: bool | None
    """None: it could not be decided."""
    value: float | None
    threshold: float | None
    text: str
    """One sentence a person understands."""


@dataclass(frozen=True, slots=True)
class PreviousEvaluation:
    """The evaluation this one is compared with, on the same questions."""

    generation: str
    created_at: str
    retrieval: Mapping[str, Score] = field(default_factory=dict)
    answers: Mapping[str, Score] = field(default_factory=dict)
    latency: Mapping[str, LatencySummary] = field(default_factory=dict)
    differences: Mapping[str, Score] = field(default_factory=dict)
    """By metric: this evaluation minus the previous one, paired by question."""


@dataclass(frozen=True, slots=True)
class HistoryPoint:
    """One earlier evaluation, for the trend."""

    created_at: str
    generation: str
    ndcg_at_10: float | None
    search_p95: float | None
    """Milliseconds."""


@dataclass(frozen=True, slots=True)
class Judging:
    """What the judge's scores rest on. Kept replies make it the same again."""

    model: str
    """``model_name`` asked."""
    repeats: int
    answered_by: Mapping[str, int]
    """Replies by ``model_name``: others than ``model`` are its fallbacks."""
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float | None
    """Of all replies used, whenever they were paid for. None: a price is unknown."""
    spread: Mapping[str, float] = field(default_factory=dict)
    """By metric: largest minus smallest judgement of a question, as a mean over questions; empty without repeats."""


@dataclass(frozen=True, slots=True)
class JudgePaid:
    """What this run itself sent and paid for; the other replies were kept ones."""

    calls: int
    tokens: int
    cost_usd: float


@dataclass(frozen=True, slots=True)
class EvaluationResult:
    """One evaluation of one generation of a collection."""

    collection: str
    generation: str
    created_at: str
    """ISO 8601, UTC."""
    command: str
    """The command line that repeats it."""
    verdict: Verdict
    reasons: tuple[str, ...]
    """Why this verdict, the weightiest first."""
    fingerprint: Mapping[str, Any]
    """Everything the scores depend on: corpus and question set hashes, chunker, embedder, index parameters, answer
    model, library versions. JSON-serialisable."""
    questions: tuple[QuestionResult, ...]
    retrieval: Mapping[str, Score]
    answers: Mapping[str, Score] = field(default_factory=dict)
    by_slice: Mapping[str, Mapping[str, Mapping[str, Score]]] = field(default_factory=dict)
    """Slice name (``file type``, ``kind``) → slice value → metric → score."""
    latency: Mapping[str, LatencySummary] = field(default_factory=dict)
    ann_recall: AnnRecall | None = None
    checks: tuple[Check, ...] = ()
    invalid_labels: tuple[InvalidLabel, ...] = ()
    previous: PreviousEvaluation | None = None
    history: tuple[HistoryPoint, ...] = ()
    """Oldest first, this evaluation last."""
    judge: Judging | None = None
    """None: no model judged."""
    judge_paid: JudgePaid | None = None
    documents: Mapping[str, DocumentState] = field(default_factory=dict)
    """The labelled and the shown documents as the generation held them, by uri: what the next evaluation compares with."""
    aside: bool = False
    """Made on request, of a generation that was not live: it opens no gate and is in no trend."""


def summarise_latency(milliseconds: Sequence[float]) -> LatencySummary:
    """Percentiles of one stage's times. Raises RagAssetsError if there are none."""
    p50, p95, p99 = (percentile(milliseconds, q) for q in (50, 95, 99))
    return LatencySummary(len(milliseconds), p50, p95, p99, max(milliseconds))


def latency_class(stage: str, milliseconds: float) -> LatencyClass | None:
    """The class of a time by ``LATENCY_LIMITS``; None for a stage without limits."""
    if stage not in LATENCY_LIMITS:
        return None
    excellent, good, acceptable, poor = LATENCY_LIMITS[stage]
    seconds = milliseconds / 1000
    if seconds < excellent:
        return "excellent"
    if seconds <= good:
        return "good"
    if seconds <= acceptable:
        return "acceptable"
    return "poor" if seconds <= poor else "critical"


def file_type(result: QuestionResult) -> str:
    """Suffix of the documents that answer the question, without the dot; ``several`` if they differ, else ``none``."""
    types = {PurePosixPath(label.document).suffix.lower().removeprefix(".") or "none" for label in result.relevant}
    return "several" if len(types) > 1 else next(iter(types), "none")


def score_slices(
    results: Sequence[QuestionResult], *, seed: int = DEFAULT_SEED
) -> dict[str, dict[str, dict[str, Score]]]:
    """Retrieval and answer scores by file type and by kind; a question without labels or kind is in no such slice."""
    slices: dict[str, dict[str, list[Mapping[str, float | None]]]] = {}
    for result in results:
        row = {**result.scores, **result.answer_scores}
        if result.relevant:
            slices.setdefault("file type", {}).setdefault(file_type(result), []).append(row)
        if result.kind is not None:
            slices.setdefault("kind", {}).setdefault(result.kind, []).append(row)
    return {
        name: {value: summarise_metrics(rows, seed=seed) for value, rows in values.items()}
        for name, values in slices.items()
    }
