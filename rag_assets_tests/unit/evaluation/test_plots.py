"""Plots: valid, self-contained SVG that shows the names and values it was given, equal for equal values."""

import base64
from collections.abc import Callable
from xml.etree import ElementTree

import pytest

from rag_assets.evaluation.metrics.statistics import Score
from rag_assets.evaluation.report.plots import (
    ScoreRow,
    as_data_uri,
    as_png,
    latency_plot,
    load_plot,
    pareto_plot,
    quality_plot,
    score_plot,
    trend_plot,
)
from rag_assets.evaluation.results import HistoryPoint

from .fixtures import realistic_benchmark

HISTORY = [HistoryPoint(f"2026-11-{day:02}T03:00:00+00:00", f"g{day}", 0.5 + day / 100, 40.0) for day in range(1, 21)]
SCORES = [
    ScoreRow("nDCG@10", Score(0.8, 0.7, 0.9, 50, 50), before=0.75, floor=0.6),
    ScoreRow("a $ sign", Score(0.5, None, None, 1, 1)),
]
PLOTS: list[Callable[[], str]] = [
    lambda: latency_plot({"embedding": [1.0, 2.0, 3.0], "total": [30.0, 4_000.0]}),
    lambda: quality_plot([0.0, 0.5, 1.0], "nDCG@10"),
    lambda: trend_plot(HISTORY),
    lambda: as_data_uri(score_plot(SCORES)),
    lambda: load_plot(realistic_benchmark().closed, realistic_benchmark().open),
]


def words(uri: str) -> list[str]:
    """All texts drawn in a plot."""
    prefix = "data:image/svg+xml;base64,"
    assert uri.startswith(prefix)
    root = ElementTree.fromstring(base64.b64decode(uri.removeprefix(prefix)))
    return [text.strip() for text in root.itertext() if text.strip()]


@pytest.mark.parametrize("plot", PLOTS)
def test_equal_values_give_equal_bytes(plot: Callable[[], str]) -> None:
    assert plot() == plot()


def test_the_latency_plot_names_stages_and_times() -> None:
    drawn = words(PLOTS[0]())
    assert {"embedding", "total", "median", "95th percentile", "10 ms", "1 s"} <= set(drawn)


def test_a_narrow_range_of_times_still_has_an_axis() -> None:
    assert "20 ms" in words(latency_plot({"search": [12.0, 25.0, 60.0]}))


def test_extreme_times_and_mathematics_in_names_are_drawn() -> None:
    assert "$a_1$ <b>" in words(latency_plot({"$a_1$ <b>": [0.0], "x": [1e7, 1e-9]}))


def test_the_load_plot_names_percentiles_and_clients() -> None:
    drawn = words(PLOTS[4]())
    assert {"p50", "p95", "p99", "p99, open loop", "1", "4", "50 ms"} <= set(drawn)
    assert "8" not in drawn, "nothing was answered to eight clients"
    assert "p50, open loop" not in words(load_plot(realistic_benchmark().closed[:1], ()))


def test_the_quality_plot_shows_the_mean() -> None:
    assert "mean 0.500" in words(PLOTS[1]())


def test_the_trend_labels_its_ends_and_bears_gaps() -> None:
    gap = HistoryPoint("2026-11-30T00:00:00+00:00", "g", None, None)
    drawn = words(trend_plot([*HISTORY, gap]))
    assert "2026-11-30" in drawn
    assert len([text for text in drawn if text.startswith("2026-11-")]) <= 7
    assert "2026-11-30" in words(trend_plot([gap, gap]))


def test_the_pareto_plot_is_a_png_that_says_where_the_settings_stand() -> None:
    points = [(10.0, 0.6, True), (40.0, 0.7, True), (50.0, 0.65, False)]
    drawn = pareto_plot(points, present=2, recommended=0)
    assert drawn.startswith(b"\x89PNG")
    assert drawn == pareto_plot(points, present=2, recommended=0)
    assert drawn != pareto_plot(points, present=2, recommended=1)


def test_scores_are_drawn_beside_what_they_are_compared_with() -> None:
    drawn = words(PLOTS[3]())
    assert {"nDCG@10", "a $ sign", "now", "previous", "floor"} <= set(drawn)
    assert "baseline" not in drawn
    assert as_png(score_plot(SCORES)).startswith(b"\x89PNG")
