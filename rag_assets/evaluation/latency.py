"""How long things take: the stages, their distributions and classes, and what a latency benchmark found.

Stages, in milliseconds: ``embedding`` (of the question); ``dense``, ``lexical`` and ``fuse`` (the two sides of a search and
their becoming one ranking, the scores each side lacks of the other's finds included), all three parts of ``retrieval`` (everything in
the database); ``rerank`` (if there is a reranker); ``search`` (all of these, and everything else a search does); ``first_token``
(from the request to the language model to the first text it sends), ``generation`` (to the last), ``total`` (the whole
query). Others may be added; they have no class unless the settings give them one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from rag_assets.evaluation.metrics.statistics import percentile
from rag_assets.settings import LATENCY_CLASSES, LATENCY_STAGES, LatencyLimits

LatencyClass = Literal["excellent", "good", "acceptable", "poor", "critical"]

STAGES = LATENCY_STAGES
"""In the order people read them."""


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
    ef_search: int | None = None
    """It was searched with. None: the store's index has its own …"""
    setting: int | None = None
    """… and ``index.ef_search`` says nothing of a question either."""
    widest_tried: int | None = None
    """Where no beam met the floors: the widest that was tried. None: one did, or none but this was tried."""


@dataclass(frozen=True, slots=True)
class FoundQuality:
    """What the very searches that were timed have found: a quick search that finds less is no quick search."""

    recall_at_10: float | None = None
    """Mean share of the ten passages that the same search finds when its dense side compares every row. None: unmeasured."""
    n_recall: int = 0
    """Searches it rests on."""
    hit_rate_at_10: float | None = None
    """Share of searches with a relevant document among their ten passages. None: no question has labels."""
    ndcg_at_10: float | None = None
    """Of the documents of those ten passages (an evaluation looks deeper, for ten documents)."""
    n_labelled: int = 0
    """Searches these two rest on."""


@dataclass(frozen=True, slots=True)
class ClosedLevel:
    """So many clients, each of which asks its next question when it has the answer to the last."""

    concurrency: int
    requests: int
    """Answered ones; what began during warm-up is not counted."""
    errors: int
    error: str | None
    """The first one's message."""
    throughput: float
    """Answered queries a second."""
    latency: LatencySummary | None
    """None: nothing was answered."""
    quality: FoundQuality = FoundQuality()


@dataclass(frozen=True, slots=True)
class OpenLevel:
    """Questions that come at fixed times, whether or not those before are answered, as people's do."""

    rate: float
    """Intended queries a second."""
    achieved: float
    """Answered queries a second."""
    requests: int
    errors: int
    error: str | None
    unstarted: int
    """Due, but still waiting when the level was ended; they count in ``latency`` with the time they had waited until then."""
    latency: LatencySummary | None
    """From the time a question was *due* to its answer: what waited behind a slow one counts (coordinated omission corrected)."""
    service: LatencySummary | None
    """From the time it was *begun*: what an uncorrected benchmark would show."""
    quality: FoundQuality = FoundQuality()


@dataclass(frozen=True, slots=True)
class ColdStart:
    """First queries, each on a database connection of its own that has never run one."""

    caches: Literal["evicted", "connection"]
    """``evicted``: the index was also evicted from PostgreSQL's buffers before each; ``connection``: only the connection's own
    caches were empty. The operating system's page cache stayed as it was in both."""
    stages: Mapping[str, LatencySummary]


@dataclass(frozen=True, slots=True)
class GenerationSpeed:
    """Answers streamed from the language model, one at a time, without fallbacks, after one that is not timed."""

    model: str
    n_total: int
    n_failed: int
    """Asked in vain; not in the times."""
    error: str | None
    """Why the first of them failed."""
    stages: Mapping[str, LatencySummary]
    """``first_token``, ``generation``, ``total``."""
    tokens_per_second: float | None
    """Tokens written per second from the request to the last one: median over answers."""
    tokens_per_second_p05: float | None
    """What one answer in twenty gets, or less."""


@dataclass(frozen=True, slots=True)
class LatencyBenchmark:
    """How fast one generation answers: stage by stage, cold, and under load."""

    queries: int
    """Different ones, asked in turn."""
    query_source: Literal["golden questions", "first sentences of chunks"]
    seconds: float
    """Measured at each level …"""
    warm_up_seconds: float
    """… after so long a time that is not."""
    pool_size: int
    """Database connections the queries share: beyond it they wait for one another."""
    stages: Mapping[str, LatencySummary]
    """One query at a time, warm."""
    quality: FoundQuality
    ann_recall: AnnRecall | None
    """Of the dense side alone, for these queries."""
    cold: ColdStart | None
    closed: tuple[ClosedLevel, ...] = ()
    open: tuple[OpenLevel, ...] = ()
    answers: GenerationSpeed | None = None
    """None: no model was asked."""
    took_seconds: float = 0.0
    errors: Mapping[str, int] = field(default_factory=dict)
    """Failed searches by phase, beside those of the levels."""

    @property
    def levels(self) -> tuple[ClosedLevel | OpenLevel, ...]:
        """All levels of load."""
        return (*self.closed, *self.open)


def summarise_latency(milliseconds: Sequence[float]) -> LatencySummary:
    """Percentiles of one stage's times. Raises RagAssetsError if there are none."""
    p50, p95, p99 = (percentile(milliseconds, q) for q in (50, 95, 99))
    return LatencySummary(len(milliseconds), p50, p95, p99, max(milliseconds))


def summarise_stages(measured: Sequence[Mapping[str, float]]) -> dict[str, LatencySummary]:
    """Percentiles by stage of requests' times by stage; a stage that some requests skip has fewer of them."""
    stages = sorted({stage for times in measured for stage in times}, key=stage_order)
    return {stage: summarise_latency([times[stage] for times in measured if stage in times]) for stage in stages}


def stage_order(stage: str) -> tuple[int, str]:
    """Sort key: the order of ``STAGES``, then others by name."""
    return (STAGES.index(stage) if stage in STAGES else len(STAGES)), stage


def latency_class(
    stage: str, milliseconds: float, classes: Mapping[str, LatencyLimits] = LATENCY_CLASSES
) -> LatencyClass | None:
    """The class of a time, by the limits in seconds; None for a stage without limits."""
    if stage not in classes:
        return None
    excellent, good, acceptable, poor = classes[stage]
    seconds = milliseconds / 1000
    if seconds < excellent:
        return "excellent"
    if seconds <= good:
        return "good"
    if seconds <= acceptable:
        return "acceptable"
    return "poor" if seconds <= poor else "critical"
