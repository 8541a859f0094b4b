"""What the report, the asset page and the command line show of a latency benchmark."""

from collections.abc import Iterator, Mapping
from typing import Any

from rag_assets.evaluation.latency import LatencyBenchmark, LatencySummary, latency_class, stage_order
from rag_assets.evaluation.report.formatting import markdown_environment
from rag_assets.evaluation.report.plots import load_plot
from rag_assets.settings import LatencyLimits


def benchmark_view(found: LatencyBenchmark, classes: Mapping[str, LatencyLimits]) -> dict[str, Any]:
    """What the templates ``benchmark.html`` and ``benchmark.md`` show."""
    return {
        "benchmark": found,
        "stage_rows": list(stage_rows(found, classes)),
        "load_plot": load_plot(found.closed, found.open) if any(level.latency for level in found.closed) else None,
    }


def benchmark_markdown(found: LatencyBenchmark, classes: Mapping[str, LatencyLimits]) -> str:
    """The tables as Markdown."""
    return markdown_environment().get_template("benchmark.md").render(benchmark_view(found, classes))


def stage_rows(
    found: LatencyBenchmark, classes: Mapping[str, LatencyLimits]
) -> Iterator[tuple[str, str, LatencySummary, str]]:
    """(stage, how it was measured, its times, the class of its p95 or a dash)."""
    cold = "cold: index evicted" if found.cold and found.cold.caches == "evicted" else "cold: new connection"
    groups = (
        ("warm", found.stages),
        (cold, found.cold.stages if found.cold else {}),
        ("streamed", found.answers.stages if found.answers else {}),
    )
    for how, stages in groups:
        # A database may have reordered the keys of what it kept.
        for stage in sorted(stages, key=stage_order):
            summary = stages[stage]
            yield stage.replace("_", " "), how, summary, latency_class(stage, summary.p95, classes) or "–"
