"""Measures how long searches take, for real: whole searches, one pipeline after the other for every question.

Taking turns spreads whatever else the machine does over all pipelines alike.
"""

import copy
import random
from collections.abc import Sequence
from dataclasses import replace

from rag_assets.database.generations import Generation
from rag_assets.evaluation.golden.questions import Question
from rag_assets.evaluation.metrics.statistics import percentile
from rag_assets.evaluation.runner import WARM_UP
from rag_assets.evaluation.tuning.results import DEPTH, Timing, Variant
from rag_assets.retrieval.filters import filters_of
from rag_assets.retrieval.search import SearchResult, search
from rag_assets.runtime import Runtime

TIMED_QUESTIONS = 40
"""Searches of each pipeline that are timed: the p95 is then the third slowest."""


def searching(runtime: Runtime, generation: Generation, question: Question, variant: Variant) -> SearchResult:
    """One search with a variant's settings."""
    return search(
        with_ef(runtime, variant.ef_search),
        question.question,
        generation=with_no_beam(generation),
        k=DEPTH,
        filters=filters_of(question.filter),
        retrieval=variant.retrieval,
    )


def with_ef(runtime: Runtime, ef_search: int) -> Runtime:
    """The same runtime, its pool and model shared, under another ``index.ef_search``; it must not be closed."""
    index = runtime.settings.index.model_copy(update={"ef_search": ef_search})
    other = copy.copy(runtime)
    other.settings = runtime.settings.model_copy(update={"index": index})
    return other


def with_no_beam(generation: Generation) -> Generation:
    """The generation as if its recall needed no wider beam than the setting, so that a variant's holds exactly."""
    return replace(generation, beam=None)


def time_searches(
    runtime: Runtime, generation: Generation, questions: Sequence[Question], variants: Sequence[Variant]
) -> list[Timing]:
    """Search every question with every variant, after a few searches that are not timed."""
    asked = questions[:TIMED_QUESTIONS]
    # The pool and the model are made before the copies that share them.
    _ = runtime.database, runtime.embedder_of(generation)
    for question in asked[:WARM_UP]:
        for variant in variants:
            searching(runtime, generation, question, variant)
    times: list[list[float]] = [[] for _ in variants]
    fell_back = [0] * len(variants)
    for number, question in enumerate(asked, start=1):
        # Whoever searches for a question first finds its pages and posting lists cold: that is nobody who is timed.
        searching(runtime, generation, question, variants[0])
        # And nobody always comes after the same one, such as a reranker that has emptied the processor's caches.
        for place in random.Random(number).sample(range(len(variants)), len(variants)):
            variant = variants[place]
            found = searching(runtime, generation, question, variant)
            times[place].append(found.milliseconds["search"])
            fell_back[place] += variant.retrieval.rerank != "none" and bool(found.hits) and not found.reranked
        runtime.progress("time searches", number, len(asked))
    return [
        Timing(percentile(values, 50), percentile(values, 95), len(values), slow)
        for values, slow in zip(times, fell_back, strict=True)
    ]
