"""The ways to search that a tuning tries, stage by stage: a full grid of them would be thousands. Pure functions."""

from collections.abc import Iterable
from typing import Any

from rag_assets.evaluation.tuning.results import Variant

WEIGHTS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
CANDIDATES = (50, 100, 200)
EFS = (50, 100, 200, 400)
RERANK_DEPTHS = (20, 50)
RERANK_WEIGHTS = (0.3, 0.5, 0.7, 1.0)


def fusions(present: Variant, *, lexical: bool) -> list[Variant]:
    """Modes, fusions and weights, with as many candidates as now and no reranker."""
    plain = with_settings(present, rerank="none")
    if not lexical:
        return [with_settings(plain, mode="dense")]
    weighted = [with_settings(plain, mode="hybrid", fusion="convex", dense_weight=weight) for weight in WEIGHTS]
    alone = [with_settings(plain, mode="dense"), with_settings(plain, mode="lexical")]
    return distinct([plain, *weighted, with_settings(plain, mode="hybrid", fusion="rrf"), *alone])


def widths(origins: Iterable[Variant]) -> list[Variant]:
    """Each origin with fewer and more candidates, and with every ef_search that is not less than those."""
    found = []
    for origin in origins:
        if origin.retrieval.mode == "lexical":
            continue
        for count in CANDIDATES if origin.retrieval.mode == "hybrid" else (origin.retrieval.candidates,):
            wide = with_settings(origin, candidates=count)
            found += [Variant(wide.retrieval, ef) for ef in EFS if ef >= wide.depth]
    return distinct(found)


def rerankings(origins: Iterable[Variant], reranker: str, present: Variant) -> list[Variant]:
    """Each origin reranked, to several depths and with several weights; the present depth and weight among them."""
    depths = sorted({*RERANK_DEPTHS, present.retrieval.rerank_depth})
    weights = sorted({*RERANK_WEIGHTS, present.retrieval.rerank_weight})
    return distinct(
        with_settings(origin, rerank=reranker, rerank_depth=depth, rerank_weight=weight)
        for origin in origins
        for depth in depths
        for weight in weights
    )


def all_efs(present: Variant) -> list[int]:
    """Every value of ef_search that a variant of the stages above may take effect with."""
    deepest = max(*RERANK_DEPTHS, present.retrieval.rerank_depth)
    counts = {50, *CANDIDATES, present.retrieval.candidates, deepest, present.depth}
    return sorted({min(1000, max(ef, count)) for ef in (*EFS, present.ef_search) for count in counts})


def with_settings(variant: Variant, **settings: Any) -> Variant:
    """The variant with other retrieval settings."""
    return Variant(variant.retrieval.model_copy(update=settings), variant.ef_search)


def distinct(variants: Iterable[Variant]) -> list[Variant]:
    """The first of those that search alike."""
    return list({variant.label: variant for variant in reversed(list(variants))}.values())[::-1]
