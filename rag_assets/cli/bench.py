"""``bench``: how fast the live index answers."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rag_assets.cli.main import common, main, reporting, working
from rag_assets.cli.output import emit, rows
from rag_assets.errors import ConfigurationError

if TYPE_CHECKING:
    from rag_assets.evaluation.latency import FoundQuality, LatencyBenchmark, LatencySummary
    from rag_assets.settings import BenchmarkSettings


@main.command()
@common
@click.option("--concurrency", metavar="1,2,4", help="Closed loop: so many clients at once (default: as set).")
@click.option("--rate", metavar="10,50", help="Open loop: so many queries a second, or auto (default: as set).")
@click.option("--seconds", type=float, help="Time measured at each level (default: as set).")
@click.option("--no-generate", is_flag=True, help="Ask no language model.")
def bench(
    source: Path | str | None,
    collection: str | None,
    as_json: bool,
    concurrency: str | None,
    rate: str | None,
    seconds: float | None,
    no_generate: bool,
) -> None:
    """Measure how fast the live index answers: stage by stage, cold, and under load. Changes nothing."""
    with reporting(as_json), working(source, collection, as_json=as_json) as (runtime, name, bars):
        from rag_assets.evaluation.benchmark import benchmark
        from rag_assets.evaluation.result_json import plain
        from rag_assets.retrieval.passages import live_generation

        asked = {
            "concurrencies": concurrency.split(",") if concurrency else None,
            "rates": rate if rate == "auto" else rate.split(",") if rate else None,
            "seconds": seconds,
            "generations": 0 if no_generate else None,
        }
        settings = bench_settings(
            runtime.settings.benchmark, {key: value for key, value in asked.items() if value is not None}
        )
        generation = live_generation(runtime, name)
        found = benchmark(runtime, generation, settings)
        bars.__exit__(None, None, None)
        if as_json:
            emit({"collection": name, "generation": generation.name, **plain(found)})
        else:
            print_benchmark(generation.name, found, settings)


def bench_settings(configured: "BenchmarkSettings", asked: dict[str, Any]) -> "BenchmarkSettings":
    """The settings in force with what the options say.

    Raises:
        ConfigurationError: names the option, the value and what is allowed.
    """
    from pydantic import ValidationError

    from rag_assets.settings import BenchmarkSettings

    try:
        return BenchmarkSettings.model_validate({**configured.model_dump(), **asked})
    except ValidationError as error:
        options = {"concurrencies": "--concurrency", "rates": "--rate", "seconds": "--seconds"}
        first = error.errors()[0]
        name = str(first["loc"][0])
        raise ConfigurationError(f"{options.get(name, name)}: {first['input']!r} is refused: {first['msg']}.") from None


def print_benchmark(generation: str, found: "LatencyBenchmark", settings: "BenchmarkSettings") -> None:
    """Three tables, and what they can't show."""
    from rag_assets.evaluation.benchmark.tables import stage_rows

    rows(
        f"{generation}: one query at a time, {found.queries} {found.query_source}",
        ["stage", "", "p50 ms", "p95 ms", "p99 ms", "n", "p95 is"],
        [
            (stage, how, *_times(times), times.n, named)
            for stage, how, times, named in stage_rows(found, settings.classes)
        ],
    )
    columns = ["p50 ms", "p95 ms", "p99 ms", "n", "failed", "recall@10", "hit rate@10", "nDCG@10"]
    if found.closed:
        rows(
            "Closed loop: each client asks when it has its answer",
            ["clients", "queries/s", *columns],
            [
                (f"{level.concurrency}", f"{level.throughput:.1f}", *_times(level.latency), level.requests, level.errors,
                 *_quality(level.quality))
                for level in found.closed
            ],
        )  # fmt: skip
    if found.open:
        rows(
            "Open loop: times count from when a query was due (coordinated omission corrected)",
            ["queries/s due", "answered", "p99 of service alone", *columns, "not begun"],
            [
                (f"{level.rate:g}", f"{level.achieved:.1f}", _times(level.service)[2], *_times(level.latency), level.requests,
                 level.errors, *_quality(level.quality), level.unstarted)
                for level in found.open
            ],
        )  # fmt: skip
    for line in _notes(found):
        click.echo(line)


def _notes(found: "LatencyBenchmark") -> list[str]:
    """What belongs to the tables."""
    notes = [f"{found.pool_size} database connections; measured in {found.took_seconds:.0f} s."]
    if found.ann_recall is not None:
        ann = found.ann_recall
        notes.append(
            f"recall@10 of the dense side alone: mean {ann.mean:.3f}, 5th percentile {ann.p05:.3f}, n = {ann.n}."
        )
    if found.answers is not None:
        speed = found.answers
        tokens = f", {speed.tokens_per_second:.1f} tokens/s (median)" if speed.tokens_per_second is not None else ""
        notes.append(f"{speed.model}: {speed.n_total - speed.n_failed} of {speed.n_total} answered{tokens}.")
    errors = [
        found.answers.error if found.answers else None,
        *(level.error for level in found.levels),
    ]
    return notes + [f"failed: {error}" for error in dict.fromkeys(errors) if error]


def _times(summary: "LatencySummary | None") -> tuple[str, str, str]:
    if summary is None:
        return "–", "–", "–"
    return f"{summary.p50:.1f}", f"{summary.p95:.1f}", f"{summary.p99:.1f}"


def _quality(quality: "FoundQuality") -> list[str]:
    values = (quality.recall_at_10, quality.hit_rate_at_10, quality.ndcg_at_10)
    return ["–" if value is None else f"{value:.3f}" for value in values]
