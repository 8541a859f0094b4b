"""What one evaluation found: values. Their JSON is made by :mod:`result_json`; stages of latency are those of :mod:`latency`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Literal

from rag_assets.evaluation.golden.questions import InvalidLabel, Label
from rag_assets.evaluation.impact.holdings import DocumentState
from rag_assets.evaluation.latency import AnnRecall, LatencyBenchmark, LatencySummary
from rag_assets.evaluation.metrics.statistics import DEFAULT_SEED, Score, summarise_metrics
from rag_assets.settings import LATENCY_CLASSES, LatencyLimits

Verdict = Literal["pass", "fail", "inconclusive"]
UNFILTERED = "none"


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
class Usage:
    """What an answer took."""

    model: str
    """``model_name`` that answered."""
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float | None
    """None: its price is unknown."""


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
    filter: Mapping[str, Any] | None = None
    """What the search was restricted to."""
    usage: Usage | None = None
    """What the answer took; None: nothing was answered."""
    changed: tuple[str, ...] = ()
    """What changed since the previous evaluation: how its place moved, then why as far as that is known."""
    ndcg_before: float | None = None
    """nDCG@10 in the previous evaluation, where ``changed`` says something."""


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
    """Slice name (``file type``, ``kind``, ``filter``) → slice value → metric → score."""
    latency: Mapping[str, LatencySummary] = field(default_factory=dict)
    latency_classes: Mapping[str, LatencyLimits] = field(default_factory=lambda: dict(LATENCY_CLASSES))
    """By which times are called excellent … critical."""
    ann_recall: AnnRecall | None = None
    checks: tuple[Check, ...] = ()
    invalid_labels: tuple[InvalidLabel, ...] = ()
    previous: PreviousEvaluation | None = None
    baseline: PreviousEvaluation | None = None
    """The same against the evaluation the team keeps as its baseline."""
    history: tuple[HistoryPoint, ...] = ()
    """Oldest first, this evaluation last."""
    judge: Judging | None = None
    """None: no model judged."""
    judge_paid: JudgePaid | None = None
    benchmark: LatencyBenchmark | None = None
    """None: speed under load was not measured."""
    documents: Mapping[str, DocumentState] = field(default_factory=dict)
    """The labelled and the shown documents as the generation held them, by uri: what the next evaluation compares with."""
    aside: bool = False
    """Made on request, of a generation that was not live: it opens no gate and is in no trend."""


def file_type(result: QuestionResult) -> str:
    """Suffix of the documents that answer the question, without the dot; ``several`` if they differ, else ``none``."""
    types = {PurePosixPath(label.document).suffix.lower().removeprefix(".") or "none" for label in result.relevant}
    return "several" if len(types) > 1 else next(iter(types), "none")


def filtered_by(result: QuestionResult) -> str:
    """The fields a question's search was filtered by, or ``none``."""
    return " and ".join(sorted(result.filter)) if result.filter else UNFILTERED


def score_slices(
    results: Sequence[QuestionResult], *, seed: int = DEFAULT_SEED
) -> dict[str, dict[str, dict[str, Score]]]:
    """Retrieval and answer scores by file type, kind and filter; a question without labels or kind is in no such slice, and
    where no question has a filter there is no slice by it."""
    slices: dict[str, dict[str, list[Mapping[str, float | None]]]] = {}
    for result in results:
        row = {**result.scores, **result.answer_scores}
        if result.relevant:
            slices.setdefault("file type", {}).setdefault(file_type(result), []).append(row)
        if result.kind is not None:
            slices.setdefault("kind", {}).setdefault(result.kind, []).append(row)
        slices.setdefault("filter", {}).setdefault(filtered_by(result), []).append(row)
    if list(slices.get("filter", {})) == [UNFILTERED]:
        del slices["filter"]
    return {
        name: {value: summarise_metrics(rows, seed=seed) for value, rows in values.items()}
        for name, values in slices.items()
    }
