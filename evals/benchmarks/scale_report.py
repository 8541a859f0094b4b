"""Growth as figures: exponents with their intervals, verdicts, a table, a plot. Pure but for the plot's file."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

STAGES = ("parse", "chunk", "embed", "load", "index")
"""They overlap: parsing, cutting and embedding go ahead of the runs that load."""
MEMORY_LIMIT_MB = 1.5 * 1024**3 / 1e6
"""1.5 GiB of resident memory of a sync."""
MEMORY_AT = 100_000
BUILD_LIMIT, NO_OP_LIMIT = 1.1, 1.0


@dataclass(frozen=True, slots=True)
class Exponent:
    """``y = a · n ** value``, by least squares of the logarithms."""

    value: float
    half_width: float
    """Of the 95 % interval (Student's t of the residuals); infinite with fewer than three sizes."""

    def text(self) -> str:
        interval = f" ± {self.half_width:.2f}" if math.isfinite(self.half_width) else " (too few sizes for an interval)"
        return f"{self.value:.2f}{interval}"


def fit(sizes: Sequence[float], values: Sequence[float]) -> Exponent:
    """The exponent with which values grow.

    Raises:
        ValueError: fewer than two sizes, or a value that is not positive.
    """
    if len(sizes) < 2 or min(values) <= 0:
        raise ValueError("growth needs two sizes and positive values")
    x, y = np.log(np.asarray(sizes, float)), np.log(np.asarray(values, float))
    centred = x - x.mean()
    slope = float(centred @ y / (centred @ centred))
    free = len(sizes) - 2
    if free == 0:
        return Exponent(slope, math.inf)
    from scipy.stats import t

    residuals = y - y.mean() - slope * centred
    error = math.sqrt(float(residuals @ residuals) / free / float(centred @ centred))
    return Exponent(slope, float(t.ppf(0.975, free)) * error)


def logarithmic(sizes: Sequence[float]) -> float:
    """The exponent that growth with ln n shows between the smallest and the largest size."""
    low, high = min(sizes), max(sizes)
    return math.log(math.log(high) / math.log(low)) / math.log(high / low)


def series(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
    """The figures whose growth counts, by name."""
    return {
        "build": [row["build"]["seconds"] for row in rows],
        **{f"build: {stage}": [max(1e-3, row["build"]["stages"][stage]) for row in rows] for stage in STAGES},
        "no-op": [row["no_op"] for row in rows],
        "one document": [row["one_document"] for row in rows],
        "dense p95": [row["search"]["dense"]["p95"] for row in rows],
        "hybrid p95": [row["search"]["hybrid"]["p95"] for row in rows],
        "memory": [row["build"]["client_mb"] for row in rows],
        "disk": [row["disk_mb"] for row in rows],
    }


def exponents(rows: Sequence[Mapping[str, Any]]) -> dict[str, Exponent]:
    """Every series' exponent over the chunks."""
    sizes = [row["chunks"] for row in rows]
    return {name: fit(sizes, values) for name, values in series(rows).items()}


def verdicts(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The targets, one line each."""
    found, sizes = exponents(rows), [row["chunks"] for row in rows]
    lines = [
        _judged("build time", found["build"], BUILD_LIMIT),
        _judged("time of a sync with nothing to do", found["no-op"], NO_OP_LIMIT),
    ]
    like_log = logarithmic(sizes)
    for side in ("dense", "hybrid"):
        exponent = found[f"{side} p95"]
        met = exponent.value <= like_log or exponent.value - exponent.half_width <= like_log
        lines.append(
            f"{side} search p95: n^{exponent.text()}; growth with ln n would show n^{like_log:.2f} over these sizes: "
            + ("log-like within noise" if met else "more than log-like")
        )
    largest = max(rows, key=lambda row: row["chunks"])
    megabytes, chunks = largest["build"]["client_mb"], largest["chunks"]
    if chunks >= MEMORY_AT * 0.95:
        state = "met" if megabytes <= MEMORY_LIMIT_MB else "missed"
    else:
        state = f"not measured: the largest size here is {chunks:,}"
    lines.append(
        f"peak memory of a sync: {megabytes:,.0f} MB at {chunks:,} chunks; limit {MEMORY_LIMIT_MB:,.0f} MB at {MEMORY_AT:,}: {state}"
    )
    return lines


def _judged(what: str, exponent: Exponent, limit: float) -> str:
    state = "met" if exponent.value <= limit else "missed"
    if math.isfinite(exponent.half_width) and abs(exponent.value - limit) < exponent.half_width:
        state += ", but the interval reaches across the target: measure more sizes, or on a quieter machine"
    return f"{what}: n^{exponent.text()}; target n^{limit}: {state}"


def markdown(result: Mapping[str, Any]) -> str:
    """Conditions, the table by size, exponents, verdicts."""
    rows = result["rows"]
    lines = [
        f"{result['cores']} cores, load {result['load']:.1f} at the beginning. Vectors come from a hashing embedder (384 dimensions, 24 of them free), so "
        "that what grows is ours: no model's time is in these figures. Texts are synthetic words by Zipf's law, five chunks a document.",
    ]
    if rows:
        lines += [
            "",
            "| chunks (documents) | build, s | its stages, which overlap: "
            + " / ".join(STAGES)
            + ", s | no-op, s | one document, s | dense p50 / p95, ms "
            "| hybrid p50 / p95, ms | peak memory, MB: sync / PostgreSQL | disk, MB |",
            "|---|---|---|---|---|---|---|---|---|",
        ]
    for row in rows:
        build, search = row["build"], row["search"]
        stages = " / ".join(f"{build['stages'][stage]:.1f}" for stage in STAGES)
        times = " | ".join(f"{search[side]['p50']:.1f} / {search[side]['p95']:.1f}" for side in ("dense", "hybrid"))
        lines.append(
            f"| {row['chunks']:,} ({row['documents']:,}) | {build['seconds']:.1f} | {stages} | {row['no_op']:.2f} | "
            f"{row['one_document']:.2f} | {times} | {build['client_mb']:,.0f} / {build['server_mb']:,.0f} | {row['disk_mb']:,.0f} |"
        )
    if len(rows) > 1:
        growing = ", ".join(f"{name} n^{exponent.text()}" for name, exponent in exponents(rows).items())
        lines += ["", f"Exponents (95 % intervals): {growing}.", "", *(f"* {line}" for line in verdicts(rows))]
    for stored in result.get("vectors", []):
        lines += ["", vectors_line(stored)]
    return "\n".join(lines) + "\n"


def vectors_line(stored: Mapping[str, Any]) -> str:
    """Vectors that were only stored and searched."""
    where = f" around {stored['clusters']:,} points" if stored["clusters"] else ""
    return (
        f"* {stored['vectors']:,} vectors{where}, stored and searched only: COPY {stored['copy_seconds']:.0f} s, HNSW {stored['index_seconds']:.0f} s, dense "
        f"p50 / p95 {stored['p50']:.1f} / {stored['p95']:.1f} ms at recall@10 {stored['recall']:.3f} "
        f"with ef_search {stored['beam']}, exact search for 200 questions {stored['exact_seconds']:.1f} s, {stored['disk_mb']:,.0f} MB, PostgreSQL's peak "
        f"memory {stored['server_mb']:,.0f} MB"
    )


PANELS: Sequence[tuple[str, Sequence[str]]] = (
    ("seconds", ("build", "no-op", "one document")),
    ("seconds of the build", tuple(f"build: {stage}" for stage in STAGES)),
    ("milliseconds", ("dense p95", "hybrid p95")),
    ("MB", ("memory", "disk")),
)


def plot(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Every series over the chunks, both axes logarithmic, with its exponent."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 2, figsize=(11, 8), layout="constrained")
    sizes, values, found = [row["chunks"] for row in rows], series(rows), exponents(rows)
    for axis, (unit, names) in zip(axes.flat, PANELS, strict=True):
        for name in names:
            axis.loglog(sizes, values[name], marker="o", label=f"{name}: n^{found[name].value:.2f}")
        axis.set(xlabel="chunks", ylabel=unit)
        axis.grid(visible=True, which="both", alpha=0.3)
        axis.legend()
    figure.suptitle("Growth of rag-assets (hashing embedder)")
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
