"""What a tuning finds: plain values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rag_assets.evaluation.metrics.statistics import Score
from rag_assets.settings import RetrievalSettings

DEPTH = 50
"""Chunks retrieved per question, as in an evaluation: the first ten distinct documents are among them."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to search."""

    retrieval: RetrievalSettings
    ef_search: int

    @property
    def count(self) -> int:
        """Chunks the candidates are cut to."""
        return max(DEPTH, self.retrieval.rerank_depth) if self.retrieval.rerank != "none" else DEPTH

    @property
    def depth(self) -> int:
        """Chunks each side is asked for."""
        return max(self.count, self.retrieval.candidates) if self.retrieval.mode == "hybrid" else self.count

    @property
    def effective_ef(self) -> int:
        """``hnsw.ef_search`` as it is set: never below what is asked for."""
        return min(1000, max(self.depth, self.ef_search))

    @property
    def pipeline(self) -> tuple[Any, ...]:
        """Everything that decides how long a search takes: variants that differ in weights only take the same time."""
        chosen = self.retrieval
        return (
            chosen.mode,
            self.effective_ef if chosen.mode != "lexical" else None,
            self.depth,
            chosen.rerank,
            chosen.rerank_depth if chosen.rerank != "none" else None,
        )

    @property
    def label(self) -> str:
        """In a few words, as the report's table shows it."""
        chosen = self.retrieval
        parts: list[str] = [chosen.mode]
        if chosen.mode == "hybrid":
            parts.append(f"{chosen.dense_weight:g} dense" if chosen.fusion == "convex" else "rrf")
            parts.append(f"{chosen.candidates} candidates")
        if chosen.mode != "lexical":
            parts.append(f"ef {self.effective_ef}")
        if chosen.rerank != "none":
            parts.append(f"{chosen.rerank} of {chosen.rerank_depth} at {chosen.rerank_weight:g}")
        return ", ".join(parts)


@dataclass(frozen=True, slots=True)
class Timing:
    """Search times of one pipeline, measured by searching."""

    p50: float
    """Milliseconds, embedding of the question included."""
    p95: float
    n: int
    fell_back: int = 0
    """Searches whose reranker ran out of time."""


@dataclass(frozen=True, slots=True)
class Point:
    """The best variant of one pipeline: its quality and its time."""

    variant: Variant
    quality: Score
    """nDCG@10 over the questions it was chosen with."""
    difference: Score
    """Against the present settings, paired."""
    timing: Timing
    pareto: bool = False
    """No other point is both better and quicker."""


@dataclass(frozen=True, slots=True)
class ContextSize:
    """What an answer can rest on with one value of ``answers.top_k``."""

    top_k: int
    evidence: Score
    """Share of the gold quotes' characters in the context."""
    tokens: float
    """Mean size of the context, in tokens of the answering model."""


@dataclass(frozen=True, slots=True)
class Tuning:
    """What was measured and what follows from it."""

    collection: str
    generation: str
    created_at: str
    """ISO 8601, UTC."""
    questions: int
    """Measurable golden questions that were used."""
    chosen_with: int
    """Questions settings were chosen with; the others confirm the choice."""
    points: tuple[Point, ...]
    """One per pipeline, quickest first."""
    present: Point
    recommended: Point
    confirmation: Score | None
    """nDCG@10 of the recommended settings less that of the present ones, over the questions held back; None without those."""
    reasons: tuple[str, ...]
    """Why it is recommended, or why nothing else is."""
    contexts: tuple[ContextSize, ...]
    """By top_k; empty where no question quotes its evidence."""
    top_k: int | None
    """Recommended ``answers.top_k``; None where nothing could be measured."""
    toml: str
    """The recommended settings as they would stand in the settings file; empty where the present ones are recommended."""
    fingerprint: Mapping[str, Any] = field(default_factory=dict)
    """What the figures depend on."""
