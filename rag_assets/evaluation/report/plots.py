"""Plots as data URIs of SVG images (one as a PNG): nothing to fetch, legible on a white card in light and dark mode.

Text stays text (the reader's fonts draw it), colours are Okabe and Ito's (colour-blind readers tell them apart), and
equal values give equal bytes.
"""

import base64
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rag_assets.evaluation.latency import ClosedLevel, OpenLevel
from rag_assets.evaluation.metrics.statistics import Score
from rag_assets.evaluation.results import HistoryPoint

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BLUE, _VERMILLION, _INK, _GREY = "#0072B2", "#D55E00", "#222222", "#8a8a8a"
_WIDTH_INCHES = 5.6
"""About 540 CSS pixels: text is still readable when a phone shrinks the plot to its width."""
_SHORTEST_MS = 0.01
"""Left end of the logarithmic axis: nothing here is timed more finely."""
_MAX_DATE_LABELS = 6
_SHORT_AXIS_DECADES = 2
_MAX_NAME_CHARACTERS = 28


def latency_plot(milliseconds: Mapping[str, Sequence[float]]) -> str:
    """One density ridge per stage on a logarithmic axis, with its median and 95th percentile marked.

    Args:
        milliseconds: at least one stage, each with at least one time.
    """
    import numpy as np
    from matplotlib.ticker import LogLocator, NullLocator

    figure, [axes] = _figure(height=0.75 + 0.62 * len(milliseconds))
    times = {name: np.maximum(np.asarray(values), _SHORTEST_MS) for name, values in milliseconds.items()}
    lowest = math.log10(min(float(values.min()) for values in times.values()))
    highest = math.log10(max(float(values.max()) for values in times.values()))
    edges = np.linspace(lowest - 0.1, highest + 0.1, 61)
    centres = 10 ** ((edges[:-1] + edges[1:]) / 2)
    for row, values in enumerate(reversed(times.values())):
        counts, _ = np.histogram(np.log10(values), bins=edges)
        # A three-bin moving average: enough to read a shape, too little to invent one.
        heights = np.convolve(counts, np.ones(3) / 3, mode="same")
        axes.fill_between(centres, row, row + 0.78 * heights / heights.max(), color=_BLUE, alpha=0.3, linewidth=0)
        median, p95 = np.percentile(values, [50, 95])
        axes.plot([median, median], [row, row + 0.78], color=_INK, linewidth=1.6, label="median" if row == 0 else None)
        axes.plot(
            [p95, p95],
            [row, row + 0.78],
            color=_VERMILLION,
            linewidth=1.6,
            linestyle=(0, (3, 1.5)),
            label="95th percentile" if row == 0 else None,
        )
    axes.set_xscale("log")
    # A short axis may hold no power of ten at all.
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if highest - lowest < _SHORT_AXIS_DECADES else (1,)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda value, _: _duration(value))
    # "$" would start mathematics.
    names = [name[:_MAX_NAME_CHARACTERS].replace("$", r"\$") for name in reversed(times)]
    axes.set_yticks([row + 0.3 for row in range(len(times))], names)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(-0.05, len(times))
    axes.grid(axis="x", color="#e4e4e4", linewidth=0.8)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False)
    return as_data_uri(figure)


def quality_plot(values: Sequence[float], metric: str) -> str:
    """Histogram of one metric (0 … 1) over questions, with its mean marked.

    Args:
        values: at least one.
        metric: its name, for the axis.
    """
    from matplotlib.ticker import MaxNLocator

    figure, [axes] = _figure(height=2.6)
    mean = sum(values) / len(values)
    axes.hist(values, bins=[step / 10 for step in range(11)], color=_BLUE, alpha=0.75, edgecolor="white", linewidth=1)
    axes.axvline(mean, color=_VERMILLION, linewidth=1.6, linestyle=(0, (3, 1.5)), label=f"mean {mean:.3f}")
    axes.set_xlim(0, 1)
    axes.set_xlabel(f"{metric} of a question")
    axes.set_ylabel("questions")
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False)
    return as_data_uri(figure)


@dataclass(frozen=True, slots=True)
class ScoreRow:
    """A score (0 … 1) and what it is seen against."""

    name: str
    score: Score
    before: float | None = None
    """Of the previous evaluation."""
    baseline: float | None = None
    floor: float | None = None


def score_plot(rows: Sequence[ScoreRow]) -> "Figure":
    """Each score with its 95 % interval, the previous one, the baseline's, and its floor.

    Args:
        rows: at least one, with a value each.
    """
    figure, [axes] = _figure(height=1.0 + 0.3 * len(rows))
    places = range(len(rows) - 1, -1, -1)
    drawn = [(place, row, row.score.value or 0.0) for place, row in zip(places, rows, strict=True)]
    low = [value - (row.score.low if row.score.low is not None else value) for _, row, value in drawn]
    high = [(row.score.high if row.score.high is not None else value) - value for _, row, value in drawn]
    values = [value for _, _, value in drawn]
    bars = [[max(0.0, error) for error in errors] for errors in (low, high)]
    axes.errorbar(values, list(places), xerr=bars, fmt="o", color=_BLUE, markersize=5, elinewidth=2, label="now")
    for name, marker, colour, points in (
        ("previous", "d", _GREY, [(row.before, place) for place, row, _ in drawn]),
        ("baseline", "s", _GREY, [(row.baseline, place) for place, row, _ in drawn]),
        ("floor", "|", _VERMILLION, [(row.floor, place) for place, row, _ in drawn]),
    ):
        known = [(x, y) for x, y in points if x is not None]
        if known:
            axes.plot(
                *zip(*known, strict=True),
                linestyle="none",
                marker=marker,
                markersize=14 if marker == "|" else 6,
                markerfacecolor="none",
                markeredgecolor=colour,
                markeredgewidth=1.6,
                label=name,
            )
    axes.set_yticks(list(places), [row.name[:_MAX_NAME_CHARACTERS].replace("$", r"\$") for row in rows])
    axes.tick_params(axis="y", length=0)
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.grid(axis="x", color="#e4e4e4", linewidth=0.8)
    axes.legend(loc="lower center", bbox_to_anchor=(0.35, 1.0), ncols=4, frameon=False, columnspacing=1.2)
    return figure


def trend_plot(history: Sequence[HistoryPoint]) -> str:
    """nDCG@10 and search p95 over evaluations, oldest first; a gap where there is no value."""
    figure, [upper, lower] = _figure(height=3.4, rows=2)
    positions = range(len(history))
    quality = [math.nan if point.ndcg_at_10 is None else point.ndcg_at_10 for point in history]
    times = [math.nan if point.search_p95 is None else point.search_p95 for point in history]
    upper.plot(positions, quality, color=_BLUE, marker="o", markersize=4)
    upper.set_ylabel("nDCG@10")
    lower.plot(positions, times, color=_VERMILLION, marker="s", markersize=4)
    lower.set_ylabel("search p95, ms")
    lower.margins(y=0.15)
    lower.autoscale_view()
    lower.set_ylim(bottom=0)
    figure.align_ylabels()
    step = max(1, math.ceil(len(history) / _MAX_DATE_LABELS))
    ticks = list(positions)[::-step][::-1]
    lower.set_xticks(ticks, [history[tick].created_at[:10] for tick in ticks])
    lower.set_xlim(-0.3, len(history) - 0.7)
    for axes in (upper, lower):
        axes.grid(axis="y", color="#e4e4e4", linewidth=0.8)
    return as_data_uri(figure)


def pareto_plot(points: Sequence[tuple[float, float, bool]], *, present: int, recommended: int) -> bytes:
    """Quality against time as a PNG, which Dagster's Markdown shows.

    Args:
        points: p95 in milliseconds, nDCG@10, and whether nothing is both quicker and better; at least one.
        present: index of the settings in force.
        recommended: index of the recommended ones.
    """
    from matplotlib.ticker import LogLocator, NullLocator

    figure, [axes] = _figure(height=3.2)
    axes.scatter([p[0] for p in points], [p[1] for p in points], s=22, color=_GREY, label="measured")
    front = sorted((milliseconds, value) for milliseconds, value, best in points if best)
    axes.plot(*zip(*front, strict=True), color=_BLUE, marker="o", markersize=5, linewidth=1.4, label="Pareto front")
    for index, name, marker, colour in (
        (present, "present", "s", _INK),
        (recommended, "recommended", "*", _VERMILLION),
    ):
        size = 190 if marker == "*" else 90
        axes.scatter(
            [points[index][0]],
            [points[index][1]],
            s=size,
            marker=marker,
            facecolors="none" if marker == "s" else colour,
            edgecolors=colour,
            linewidths=1.4,
            label=name,
            zorder=3,
        )
    axes.set_xscale("log")
    times = [milliseconds for milliseconds, _, _ in points]
    short = math.log10(max(times) / max(min(times), _SHORTEST_MS)) < _SHORT_AXIS_DECADES / 2
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if short else (1, 3)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda value, _: _duration(value))
    axes.set_xlabel("95th percentile of search time")
    axes.set_ylabel("nDCG@10")
    axes.grid(color="#e4e4e4", linewidth=0.8)
    axes.legend(loc="lower center", bbox_to_anchor=(0.45, 1.0), ncols=4, frameon=False, columnspacing=1.2)
    return as_png(figure)


def as_png(figure: "Figure") -> bytes:
    """A picture for where no SVG is shown: Dagster's Markdown."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120, metadata={"Software": None})
    return buffer.getvalue()


def load_plot(closed: Sequence[ClosedLevel], opened: Sequence[OpenLevel]) -> str:
    """Latency percentiles against throughput: closed loop as lines with a mark per concurrency, open loop as single marks.

    Args:
        closed: at least one that was answered.
        opened: at what they achieved, their latencies corrected for coordinated omission.
    """
    from matplotlib.ticker import LogLocator, NullLocator

    figure, [axes] = _figure(height=3.2)
    answered = sorted(
        ((level.throughput, level.latency, level) for level in closed if level.latency), key=lambda x: x[0]
    )
    due = [(level.achieved, level.latency) for level in opened if level.latency]
    times: list[float] = []
    for name, colour, style in (("p50", _BLUE, "-"), ("p95", _VERMILLION, "--"), ("p99", _INK, ":")):
        values = [max(getattr(latency, name), _SHORTEST_MS) for _, latency, _ in answered]
        corrected = [max(getattr(latency, name), _SHORTEST_MS) for _, latency in due]
        axes.plot(
            [x for x, _, _ in answered], values, color=colour, linestyle=style, marker="o", markersize=4, label=name
        )
        axes.scatter([x for x, _ in due], corrected, s=40, marker="D", facecolors="none", edgecolors=colour, zorder=3,
                     label=f"{name}, open loop" if due else None)  # fmt: skip
        times += values + corrected
    for throughput, latency, level in answered:
        axes.annotate(f"{level.concurrency}", (throughput, max(latency.p50, _SHORTEST_MS)), textcoords="offset points",
                      xytext=(0, -12), ha="center", fontsize=8)  # fmt: skip
    axes.set_yscale("log")
    short = math.log10(max(times) / min(times)) < _SHORT_AXIS_DECADES
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if short else (1,)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(lambda value, _: _duration(value))
    axes.margins(y=0.15)
    axes.set_xlim(left=0)
    axes.set_xlabel("queries answered a second (numbers: clients)")
    axes.grid(color="#e4e4e4", linewidth=0.8)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, frameon=False)
    return as_data_uri(figure)


def _figure(height: float, rows: int = 1) -> "tuple[Figure, list[Axes]]":
    # Figure instead of pyplot, which keeps every figure alive until someone closes it.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH_INCHES, height), layout="constrained")
    panels = list(figure.subplots(rows, 1, sharex=True, squeeze=False)[:, 0])
    for axes in panels:
        for side in ("top", "right", "left"):
            axes.spines[side].set_visible(False)
        axes.spines["bottom"].set_color(_GREY)
        axes.tick_params(color=_GREY)
        axes.set_axisbelow(True)
    return figure, panels


def as_data_uri(figure: "Figure") -> str:
    """A plot as the address of an SVG image."""
    from matplotlib import rc_context

    buffer = io.BytesIO()
    # A fixed salt and no date make equal plots equal bytes.
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "rag-assets"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _duration(milliseconds: float) -> str:
    return f"{milliseconds / 1000:g} s" if milliseconds >= 1000 else f"{milliseconds:g} ms"
