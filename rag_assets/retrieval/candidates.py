"""Candidates of one question from one generation: what each side finds, and how the two become one ranking."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from rag_assets.models import Condition
from rag_assets.retrieval.fusion import convex_combination, ranked, reciprocal_rank_fusion
from rag_assets.settings import LexicalSettings, RetrievalSettings
from rag_assets.stores.protocol import Near, Plan, Searcher


@dataclass(frozen=True, slots=True)
class Asked:
    """A question as the stores take it."""

    question: str
    vector: npt.NDArray[np.float32] | None
    """Unit vector; None in mode ``lexical``."""
    filters: Sequence[Condition] = ()
    exact: bool = False
    """Compare with every row instead of using the HNSW index."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """The candidates in order, and every score by chunk id."""

    order: tuple[str, ...]
    dense: Mapping[str, float] = field(default_factory=dict)
    """Cosine similarity of what the dense side found."""
    bm25: Mapping[str, float] = field(default_factory=dict)
    """BM25 of what the lexical side found."""
    fused: Mapping[str, float] = field(default_factory=dict)
    """Score both sides add up to; empty unless the mode is hybrid."""
    other_bm25: Mapping[str, float] = field(default_factory=dict)
    """BM25 of what only the dense side found."""
    plan: Plan | None = None
    """Which way was taken behind the filter; None: there is none."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Time of ``dense``, ``lexical`` and ``fuse``; a side that was not asked has no key."""


def find(
    searcher: Searcher,
    asked: Asked,
    count: int,
    settings: RetrievalSettings,
    lexical_settings: LexicalSettings,
    ef_search: int,
) -> Candidates:
    """At least ``count`` candidates, if there are so many, best first.

    Raises:
        RagAssetsError: mode ``lexical`` of a generation that has no lexical index.
    """
    depth = max(count, settings.candidates) if settings.mode == "hybrid" else count
    seconds: dict[str, float] = {}
    began = time.perf_counter()
    side = dense_side(searcher, asked, depth, ef_search)
    dense, plan = side.found, side.plan
    if asked.vector is not None:
        began = _lap(seconds, "dense", began)
    bm25: dict[str, float] = {}
    others: Mapping[str, float] = {}
    # A generation of an earlier release has no lexical index; it answers from vectors alone until the next sync builds one.
    if settings.mode == "lexical" or (settings.mode == "hybrid" and searcher.has_words):
        found = searcher.words(
            asked.question, depth, settings=lexical_settings, near=side, filters=asked.filters, also=tuple(dense)
        )
        bm25 = {match.chunk_id: match.score for match in found.matches}
        others = found.others
        # Without a vector the listing of what passes the filter is part of it.
        began = _lap(seconds, "lexical", began)
    if settings.mode != "hybrid" or not bm25:
        return Candidates(tuple(ranked(dense or bm25))[:count], dense, bm25, plan=plan, seconds=seconds)
    near: Mapping[str, float] = {}
    if settings.fusion == "convex":
        near = searcher.similarities([item for item in bm25 if item not in dense], asked.vector)
    fused = fuse(dense, bm25, settings, other_dense=near, other_bm25=others)
    order = tuple(ranked(fused))[:count]
    _lap(seconds, "fuse", began)
    return Candidates(order, dense, bm25, fused, others, plan, seconds)


def _lap(seconds: dict[str, float], stage: str, began: float) -> float:
    """Note the time since ``began``; returns the time it is."""
    now = time.perf_counter()
    seconds[stage] = now - began
    return now


def dense_side(searcher: Searcher, asked: Asked, depth: int, ef_search: int) -> Near:
    """What the dense side finds."""
    return searcher.nearest(asked.vector, depth, ef_search=ef_search, exact=asked.exact, filters=asked.filters)


def fuse(
    dense: Mapping[str, float],
    bm25: Mapping[str, float],
    settings: RetrievalSettings,
    *,
    other_dense: Mapping[str, float],
    other_bm25: Mapping[str, float],
) -> dict[str, float]:
    """One score for everything that either side found.

    What one side has found counts with its true score of the other, too (``other_…``): to count it as that side's worst costs quality.
    """
    if settings.fusion == "rrf":
        return reciprocal_rank_fusion([ranked(dense), ranked(bm25)])
    weight = settings.dense_weight
    return convex_combination([(weight, {**other_dense, **dense}), (1 - weight, {**other_bm25, **bm25})])


def rank_of(scores: Mapping[str, float], ids: Sequence[str]) -> dict[str, int]:
    """Ranks, counted from 1, that ``ids`` have by a score they all may or may not have."""
    wanted = set(ids)
    return {item: rank for rank, item in enumerate(ranked(scores), start=1) if item in wanted}
