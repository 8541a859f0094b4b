"""Candidates of one question from one generation: what each side finds, and how the two become one ranking."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from rag_assets.models import Condition
from rag_assets.retrieval.fusion import convex_combination, ranked, reciprocal_rank_fusion
from rag_assets.settings import LexicalSettings, RetrievalSettings
from rag_assets.stores.protocol import HybridQuery, Near, Plan, Searcher


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
    """Time of ``dense``, ``lexical`` and ``fuse``; a side that was not asked has no key, and one that runs beside the other
    has what was waited for it alone."""


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
    if settings.mode == "hybrid" and searcher.has_words:
        return _hybrid(searcher, asked, count, settings, lexical_settings, ef_search)
    # A generation of an earlier release has no lexical index; it answers from vectors alone until the next sync builds one.
    depth = max(count, settings.candidates) if settings.mode == "hybrid" else count
    began = time.perf_counter()
    side = dense_side(searcher, asked, depth, ef_search)
    walked = time.perf_counter()
    if settings.mode != "lexical":
        return by_vector(side.found, count, walked - began, plan=side.plan)
    found = searcher.words(asked.question, depth, settings=lexical_settings, near=side, filters=asked.filters)
    bm25 = {match.chunk_id: match.score for match in found.matches}
    # Without a vector the listing of what passes the filter is part of it.
    seconds = {"lexical": time.perf_counter() - began}
    return Candidates(_first(bm25, count), bm25=bm25, plan=side.plan, seconds=seconds)


def by_vector(found: Mapping[str, float], count: int, seconds: float, *, plan: Plan | None = None) -> Candidates:
    """What the dense side alone has found in so many seconds."""
    return Candidates(_first(found, count), found, plan=plan, seconds={"dense": seconds})


def _hybrid(
    searcher: Searcher,
    asked: Asked,
    count: int,
    settings: RetrievalSettings,
    lexical_settings: LexicalSettings,
    ef_search: int,
) -> Candidates:
    began = time.perf_counter()
    sides = searcher.both(
        HybridQuery(
            asked.question,
            asked.vector,
            max(count, settings.candidates),
            settings=lexical_settings,
            ef_search=ef_search,
            exact=asked.exact,
            filters=asked.filters,
            similar=settings.fusion == "convex",
        )
    )
    dense, plan = sides.near.found, sides.near.plan
    bm25 = {match.chunk_id: match.score for match in sides.found.matches}
    if not bm25:
        return Candidates(_first(dense, count), dense, plan=plan, seconds=sides.seconds)
    fused = fuse(dense, bm25, settings, other_dense=sides.similar, other_bm25=sides.found.others)
    order = _first(fused, count)
    rest = time.perf_counter() - began - sum(sides.seconds.values())
    return Candidates(order, dense, bm25, fused, sides.found.others, plan, {**sides.seconds, "fuse": rest})


def _first(scores: Mapping[str, float], count: int) -> tuple[str, ...]:
    return tuple(ranked(scores)[:count])


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
