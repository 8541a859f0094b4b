"""Two rankings become one: reciprocal rank fusion, and the convex combination of normalised scores."""

from collections.abc import Mapping, Sequence
from typing import Literal

Fusion = Literal["convex", "rrf"]
RRF_K = 60
"""The constant of Cormack, Clarke and Büttcher, "Reciprocal Rank Fusion" (SIGIR 2009)."""


def reciprocal_rank_fusion(rankings: Sequence[Sequence[str]], *, k: int = RRF_K) -> dict[str, float]:
    """Σ 1 / (k + rank) over the rankings an id is in; ranks count from 1."""
    fused: dict[str, float] = {}
    for ranking in rankings:
        for rank, item in enumerate(ranking, start=1):
            fused[item] = fused.get(item, 0.0) + 1.0 / (k + rank)
    return fused


def convex_combination(parts: Sequence[tuple[float, Mapping[str, float]]]) -> dict[str, float]:
    """Σ weight · min-max-normalised score over the union of the ids; an id a part does not have counts 0 there.

    As Bruch, Gai and Ingber, "An Analysis of Fusion Functions for Hybrid Retrieval" (TOIS 2023), with the minimum taken over
    the candidates of the part.
    """
    fused: dict[str, float] = {}
    for weight, scores in parts:
        for item, score in normalised(scores).items():
            fused[item] = fused.get(item, 0.0) + weight * score
    return fused


def normalised(scores: Mapping[str, float]) -> dict[str, float]:
    """Scores mapped linearly to 0 … 1; all 1 where they are equal."""
    if not scores:
        return {}
    low, high = min(scores.values()), max(scores.values())
    if high == low:
        return dict.fromkeys(scores, 1.0)
    return {item: (score - low) / (high - low) for item, score in scores.items()}


def ranked(scores: Mapping[str, float]) -> list[str]:
    """Ids by falling score; equal scores by id, so that the order never depends on chance."""
    return sorted(scores, key=lambda item: (-scores[item], item))
