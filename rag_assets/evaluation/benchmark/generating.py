"""How fast the language model answers: time to the first text, tokens a second, the whole query."""

import time
from collections.abc import Sequence
from typing import Any

from rag_assets.database.generations import Generation
from rag_assets.errors import RagAssetsError
from rag_assets.evaluation.benchmark.searches import Query
from rag_assets.evaluation.latency import GenerationSpeed, summarise_stages
from rag_assets.evaluation.metrics.statistics import percentile
from rag_assets.runtime import Runtime


def time_answers(
    runtime: Runtime, generation: Generation, queries: Sequence[Query], count: int
) -> GenerationSpeed | None:
    """Answer ``count`` queries, one after the other; None if none of them finds anything to answer from.

    Raises:
        ConfigurationError: the list of models is wrong.
    """
    from rag_assets.generation.router import build_router

    # A fallback's time would pass for the model's own, and a retry's for one request's.
    router = build_router(
        runtime.settings.answers, runtime.embedder.embed_queries, num_retries=0, disable_cooldowns=True,
        fallbacks=[], default_fallbacks=[], context_window_fallbacks=[], content_policy_fallbacks=[],
    )  # fmt: skip
    asked = [queries[number % len(queries)] for number in range(count)]
    times: list[dict[str, float]] = []
    speeds: list[float] = []
    errors: list[str] = []
    # The first call imports what its provider needs, and connects.
    for number, query in enumerate([asked[0], *asked]):
        try:
            measured = _answered(runtime, generation, router, query)
        except RagAssetsError as error:
            errors += [str(error)] if number else []
            continue
        if measured is not None and number:
            times.append(measured[0])
            speeds.append(measured[1])
        runtime.progress("time answers", number, count)
    if not times and not errors:
        return None
    return GenerationSpeed(
        model=runtime.settings.answers.model,
        n_total=len(times) + len(errors),
        n_failed=len(errors),
        error=errors[0] if errors else None,
        stages=summarise_stages(times),
        tokens_per_second=percentile(speeds, 50) if speeds else None,
        tokens_per_second_p05=percentile(speeds, 5) if speeds else None,
    )


def _answered(
    runtime: Runtime, generation: Generation, router: Any, query: Query
) -> tuple[dict[str, float], float] | None:
    """(milliseconds by stage, tokens a second); None where nothing was found, so that no model is asked."""
    from rag_assets.generation.asking import prepare, token_counter
    from rag_assets.generation.streaming import stream_answer

    settings = runtime.settings.answers
    started = time.perf_counter()
    prepared = prepare(runtime, query.text, filters=query.filters, generation=generation)
    if not prepared.context.passages:
        return None
    streamed = stream_answer(
        prepared.question,
        prepared.context,
        router=router,
        settings=settings,
        count_tokens=token_counter(settings.model),
    )
    total = time.perf_counter() - started
    stages = {"first_token": streamed.first_token, "generation": streamed.seconds, "total": total}
    return {stage: seconds * 1000 for stage, seconds in stages.items()}, streamed.tokens_per_second
