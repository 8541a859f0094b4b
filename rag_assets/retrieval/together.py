"""Search in several collections at once: each is searched as it is, then all that was found is ranked as one list.

Ranks of different collections can't be compared: the first of a collection that has nothing to say would stand beside the
first of one that has the answer. Nor can fused scores, which are normalised over what one collection found. But cosines to
one question vector can, and BM25 nearly (its word statistics are each collection's own). So the scores of both sides are
fused anew over the candidates of all collections, as one index of all of them would. Where collections were embedded with
different models, or are searched in different modes, ranks are all there is: reciprocal rank fusion.

Measured on the sample corpus, whose four folders (120, 92, 1 and 1 documents) became a collection each: nDCG@10 of 210 golden
questions in mode hybrid 0.972 by scores and 0.492 by ranks, against 0.965 of one index of everything; dense 0.957, 0.502 and
0.957; lexical 0.955, 0.655 and 0.939. Two of the collections have nothing to say on nearly every question.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from rag_assets.database import generations
from rag_assets.database.generations import Generation
from rag_assets.errors import ConfigurationError, RagAssetsError
from rag_assets.models import Condition, Hit
from rag_assets.retrieval.diversity import POOL, diversify
from rag_assets.retrieval.filters import BUILT_IN
from rag_assets.retrieval.fusion import convex_combination, ranked, reciprocal_rank_fusion
from rag_assets.retrieval.passages import live_generation
from rag_assets.retrieval.reading import as_read
from rag_assets.retrieval.search import MAX_K, SearchResult, check_fields, search
from rag_assets.runtime import Runtime
from rag_assets.settings import RetrievalSettings


@dataclass(frozen=True, slots=True)
class SearchedTogether:
    """Hits of several collections in one ranking."""

    hits: tuple[Hit, ...]
    """Their ``collection`` says where each is from; ``scores["fused"]`` is over all collections."""
    found: Mapping[str, SearchResult]
    """What each collection gave, by its name."""
    fusion: Literal["scores", "ranks"]
    milliseconds: Mapping[str, float]
    """Sums over the collections, which are searched one after the other; ``search`` is everything."""

    @property
    def reranked(self) -> bool:
        """Whether a reranker ordered the hits of every collection that had any."""
        return any(one.reranked for one in self.found.values()) and all(
            one.reranked or not one.hits for one in self.found.values()
        )


def search_together(
    runtime: Runtime,
    question: str,
    collections: Sequence[str],
    *,
    k: int = 10,
    filters: Sequence[Condition] = (),
    overrides: Mapping[str, Any] | None = None,
) -> SearchedTogether:
    """The ``k`` passages of several collections that fit a question best.

    Args:
        runtime: the parts.
        question: in plain words.
        collections: their names.
        k: number of hits, 1 … 1000.
        filters: what the metadata must pass; a field that only some collections know is missing in the others.
        overrides: fields of ``RetrievalSettings`` for this search; the rest is as each collection's settings say.

    Raises:
        ConfigurationError: no or an unknown collection, a field that none knows, or as ``search`` raises it.
        RagAssetsError: a collection has no live index.
    """
    started = time.perf_counter()
    names = list(dict.fromkeys(runtime.settings.target(name) for name in collections))
    if not names:
        raise ConfigurationError("No collection to search was named. Name one.")
    if not 1 <= k <= MAX_K:
        raise ConfigurationError(f"k = {k} is out of range; 1 to {MAX_K} are allowed.")
    # Diversity is judged over all of them, below.
    alone = {**(overrides or {}), "diversity": False}
    chosen = {name: runtime.settings.retrieval_of(name).model_copy(update=alone) for name in names}
    if filters:
        chosen = _with_known_fields(runtime, chosen, filters)
    found = {
        name: search(runtime, question, collection=name, k=max(k, POOL), filters=filters, retrieval=retrieval)
        for name, retrieval in chosen.items()
    }
    common = _common(runtime, names, overrides or {})
    fusion: Literal["scores", "ranks"] = "scores" if _comparable(found, chosen) else "ranks"
    if fusion == "scores":
        if common.mode == "hybrid":
            # One model embedded them all, and reads the question as little here as within one collection.
            common = as_read(common, runtime.embedder_of(found[names[0]].generation), question)
        hits = _by_score(found, common)
    else:
        hits = _by_rank(found)
    if common.diversity:
        hits = diversify(hits, k, near_duplicate=common.near_duplicate, max_per_document=common.max_per_document)
    milliseconds: dict[str, float] = {}
    for one in found.values():
        for stage, spent in one.milliseconds.items():
            milliseconds[stage] = milliseconds.get(stage, 0.0) + spent
    milliseconds["search"] = (time.perf_counter() - started) * 1000
    placed = tuple(replace(hit, rank=rank) for rank, hit in enumerate(hits[:k], start=1))
    return SearchedTogether(placed, found, fusion, milliseconds)


def live_collections(runtime: Runtime) -> list[str]:
    """Every configured collection that has a live index.

    Raises:
        RagAssetsError: none has.
    """
    with runtime.database.transaction() as connection:
        live = [name for name in runtime.settings.collections if generations.live(connection, name) is not None]
    if not live:
        raise RagAssetsError("No collection has a live index yet. Run `rag-assets sync` first.")
    return live


def _with_known_fields(
    runtime: Runtime, chosen: Mapping[str, RetrievalSettings], filters: Sequence[Condition]
) -> dict[str, RetrievalSettings]:
    """Let a field that one collection knows be asked of the others, too, unless their settings name the fields."""
    refused: dict[str, ConfigurationError] = {}
    for name, retrieval in chosen.items():
        try:
            check_fields(runtime, live_generation(runtime, name).collection, filters, retrieval)
        except ConfigurationError as error:
            refused[name] = error
    if len(refused) == len(chosen):
        raise next(iter(refused.values()))
    asked = tuple({*BUILT_IN, *(condition.field for condition in filters)})
    return {
        name: retrieval.model_copy(update={"filter_fields": asked})
        if name in refused and retrieval.filter_fields is None
        else retrieval
        for name, retrieval in chosen.items()
    }


def _common(runtime: Runtime, names: Sequence[str], overrides: Mapping[str, Any]) -> RetrievalSettings:
    """The settings that rank all together: what the collections agree on, else the top-level ones."""
    all_of_them = [runtime.settings.retrieval_of(name) for name in names]
    same = all(one == all_of_them[0] for one in all_of_them)
    return (all_of_them[0] if same else runtime.settings.retrieval).model_copy(update=dict(overrides))


def _comparable(found: Mapping[str, SearchResult], chosen: Mapping[str, RetrievalSettings]) -> bool:
    """Whether scores of one collection mean the same as those of another."""
    models = {_model(one.generation) for one in found.values()}
    modes = {retrieval.mode for retrieval in chosen.values()}
    return len(modes) == 1 and (len(models) == 1 or modes == {"lexical"})


def _model(generation: Generation) -> str:
    return generation.key.embedder_fp


def _by_score(found: Mapping[str, SearchResult], settings: RetrievalSettings) -> list[Hit]:
    hits = {hit.chunk_id: hit for one in found.values() for hit in one.hits}
    dense = _scores(hits, "dense")
    bm25 = _scores(hits, "bm25")
    if settings.mode == "hybrid":
        scores = convex_combination([(settings.dense_weight, dense), (1 - settings.dense_weight, bm25)])
        hits = {key: replace(hit, scores={**hit.scores, "fused": round(scores[key], 6)}) for key, hit in hits.items()}
    else:
        scores = dense if settings.mode == "dense" else bm25
    order = ranked(scores)
    again = _scores(hits, "rerank")
    if again:
        # Those that were reranked are ordered among themselves, as within one collection; the rest stays behind them.
        before = {key: scores[key] for key in again}
        weight = settings.rerank_weight
        first = ranked(convex_combination([(weight, again), (1 - weight, before)]))
        order = [*first, *(key for key in order if key not in again)]
    return [hits[key] for key in order]


def _scores(hits: Mapping[str, Hit], part: str) -> dict[str, float]:
    return {key: score for key, hit in hits.items() if (score := hit.scores.get(part)) is not None}


def _by_rank(found: Mapping[str, SearchResult]) -> list[Hit]:
    hits = {hit.chunk_id: hit for one in found.values() for hit in one.hits}
    scores = reciprocal_rank_fusion([[hit.chunk_id for hit in one.hits] for one in found.values()])
    return [replace(hits[key], scores={**hits[key].scores, "fused": round(scores[key], 6)}) for key in ranked(scores)]
