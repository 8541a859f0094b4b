"""The latency benchmark of one generation, phase by phase."""

import math
import time
from collections.abc import Sequence

from rag_assets.database.generations import Generation
from rag_assets.database.pool import POOL_SIZE
from rag_assets.errors import RagAssetsError
from rag_assets.evaluation.benchmark.cold import cold_start
from rag_assets.evaluation.benchmark.generating import time_answers
from rag_assets.evaluation.benchmark.load import Measured, closed_loop, open_loop
from rag_assets.evaluation.benchmark.searches import Found, Searches, benchmark_queries
from rag_assets.evaluation.latency import (
    ClosedLevel,
    FoundQuality,
    LatencyBenchmark,
    LatencySummary,
    OpenLevel,
    summarise_latency,
    summarise_stages,
)
from rag_assets.evaluation.metrics.ann_recall import ann_recall
from rag_assets.runtime import Runtime
from rag_assets.settings import BenchmarkSettings

AUTO_RATES = (0.5, 0.8)
"""Open-loop rates as shares of the highest closed-loop throughput: a busy hour, and nearly too much."""


def benchmark(runtime: Runtime, generation: Generation, settings: BenchmarkSettings | None = None) -> LatencyBenchmark:
    """Measure how fast a generation answers, one query at a time and under load.

    Args:
        runtime: the parts.
        generation: which index; it need not be live.
        settings: None: those in force.

    Raises:
        RagAssetsError: the generation is empty, or can't be searched at all.
        ConfigurationError: the question file or the list of models is wrong.
    """
    settings = settings or runtime.settings.benchmark
    started = time.monotonic()
    queries, source = benchmark_queries(runtime, generation)
    if not queries:
        raise RagAssetsError(f"{generation.name} holds no text to ask for. Run `rag-assets sync` first.")
    searches = Searches(runtime, generation, queries)
    phases = _Phases(runtime, len(settings.concurrencies) + 4)
    # The model and the pool are made before threads ask for them, and a search that can't be made at all ends it here.
    searches.warm()
    searches.look_up_exactly(settings.seconds / 2)
    embed = runtime.embedder_of(generation).embed_queries
    vectors = (embed([query.text])[0] for query in queries)
    recall = ann_recall(runtime, generation, vectors, seconds=settings.seconds / 2)
    phases.done()
    single = _closed(searches, 1, settings)
    phases.done()
    cold, cold_errors = cold_start(runtime, generation, searches)
    phases.done()
    closed, opened = _load(searches, single, settings, phases)
    generated = time_answers(runtime, generation, queries, settings.generations) if settings.generations else None
    phases.done()
    errors = {"stages": len(single.errors), "cold": cold_errors}
    return LatencyBenchmark(
        queries=len(queries),
        query_source=source,
        seconds=settings.seconds,
        warm_up_seconds=settings.warm_up_seconds,
        pool_size=POOL_SIZE,
        stages=summarise_stages([found.milliseconds for found in _answers(single)]),
        quality=searches.quality(_answers(single)),
        ann_recall=recall,
        cold=cold,
        closed=closed,
        open=opened,
        answers=generated,
        took_seconds=time.monotonic() - started,
        errors={phase: count for phase, count in errors.items() if count},
    )


def _load(
    searches: Searches, single: Measured[Found], settings: BenchmarkSettings, phases: "_Phases"
) -> tuple[tuple[ClosedLevel, ...], tuple[OpenLevel, ...]]:
    """Closed and open loops; a single client was measured before."""
    closed = []
    for concurrency in settings.concurrencies:
        measured = single if concurrency == 1 else _closed(searches, concurrency, settings)
        closed.append(closed_level(concurrency, measured, searches.quality(_answers(measured))))
        phases.done()
    opened = []
    for rate in _rates(settings, closed):
        measured = _open(searches, rate, settings)
        opened.append(open_level(rate, measured, searches.quality(_answers(measured))))
    return tuple(closed), tuple(opened)


class _Phases:
    """Shows how far the benchmark is."""

    def __init__(self, runtime: Runtime, total: int) -> None:
        self._runtime, self._total, self._done = runtime, total, 0

    def done(self) -> None:
        self._done += 1
        self._runtime.progress("benchmark", self._done, self._total)


def _closed(searches: Searches, concurrency: int, settings: BenchmarkSettings) -> Measured[Found]:
    return closed_loop(
        searches.ask,
        concurrency=concurrency,
        seconds=settings.seconds,
        warm_up_seconds=settings.warm_up_seconds,
    )


def _open(searches: Searches, rate: float, settings: BenchmarkSettings) -> Measured[Found]:
    return open_loop(
        searches.ask,
        rate=rate,
        seconds=settings.seconds,
        warm_up_seconds=settings.warm_up_seconds,
        workers=POOL_SIZE,
    )


def closed_level(concurrency: int, measured: Measured[Found], quality: FoundQuality) -> ClosedLevel:
    """What a closed loop showed."""
    return ClosedLevel(
        concurrency=concurrency,
        requests=len(measured.answered),
        errors=len(measured.errors),
        error=next(iter(measured.errors), None),
        throughput=measured.throughput,
        latency=_summary([request.done - request.began for request in measured.answered]),
        quality=quality,
    )


def open_level(rate: float, measured: Measured[Found], quality: FoundQuality) -> OpenLevel:
    """What an open loop showed: latency from when questions were due, service time from when they were begun."""
    answered = measured.answered
    return OpenLevel(
        rate=rate,
        achieved=measured.throughput,
        requests=len(answered),
        errors=len(measured.errors),
        error=next(iter(measured.errors), None),
        unstarted=len(measured.waited),
        latency=_summary([*(request.done - request.due for request in answered), *measured.waited]),
        service=_summary([request.done - request.began for request in answered]),
        quality=quality,
    )


def _rates(settings: BenchmarkSettings, closed: Sequence[ClosedLevel]) -> Sequence[float]:
    """The rates to try; those of ``auto`` to three digits."""
    if settings.rates != "auto":
        return settings.rates
    highest = max((level.throughput for level in closed), default=0.0)
    if highest <= 0:
        return ()
    digits = 2 - math.floor(math.log10(highest))
    return [round(share * highest, digits) for share in AUTO_RATES]


def _answers(measured: Measured[Found]) -> list[Found]:
    return [request.answer for request in measured.answered if request.answer is not None]


def _summary(seconds: Sequence[float]) -> LatencySummary | None:
    return summarise_latency([value * 1000 for value in seconds]) if seconds else None
