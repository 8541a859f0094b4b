"""The figures of all systems as tables, and what they say. Pure: numbers in, Markdown out."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

OURS = "rag-assets"
STEPS = ("cold build", "first no-op", "no-op", "1 % edits", "10 % deletes")
FLOORS = (0.95, 0.99)
GOALS = {"cold build": 3.0, "first no-op": 10.0, "no-op": 10.0, "1 % edits": 10.0}
"""How many times as long the fastest framework should take, by step."""
_RUNS = (
    "rag-assets runs every dirty shard as a Dagster run with its events in PostgreSQL, keeps BM25 up to date in the same transactions, and checks "
    "a first index row by row before it goes live; the parts are in the JSON, and what is no stage is this"
)
WHY = {
    "cold build": _RUNS,
    "1 % edits": _RUNS,
    "10 % deletes": _RUNS,
    "first no-op": "CocoIndex compares files with its own LMDB and imports no model library; rag-assets notes at the end of a sync what state "
    "everything is in; where somebody has written to the server since, it lists, asks PostgreSQL and hashes its model's files",
    "search": "CocoIndex is searched by bare SQL; rag-assets looks up the live generation in the same statement and makes hits of whole rows, with metadata",
    "disk": "rag-assets also keeps parsed documents, posting lists, vectors apart from the index (nothing is embedded twice), and Dagster's history",
}
"""Why a peer may be ahead, by what a figure's name begins with: how the systems work, not a profile of the run."""


def percentile(values: Sequence[float], share: float) -> float:
    """Linear interpolation between the two nearest ranks; ``share`` is 0 … 1."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def at_recall(points: Sequence[Mapping[str, Any]], floor: float) -> Mapping[str, Any] | None:
    """The narrowest search whose mean recall reaches the floor; None where none does."""
    reaching = [point for point in points if point["recall"] >= floor]
    return min(reaching, key=lambda point: point["ef"], default=None)


def point(ef: int, milliseconds: Sequence[float], recalls: Sequence[float]) -> dict[str, float]:
    """One breadth of the graph's search, summed up."""
    return {
        "ef": ef,
        "recall": statistics.fmean(recalls),
        "p50": percentile(milliseconds, 0.5),
        "p95": percentile(milliseconds, 0.95),
    }


def markdown(result: Mapping[str, Any]) -> str:
    """Everything: conditions, tables, verdicts, configurations."""
    systems = result["systems"]
    frameworks = {name: row for name, row in systems.items() if row["kind"] == "framework"}
    parts = [
        conditions(result),
        "### Bringing an index up to date\n\n" + updates(frameworks),
        "### Searching, memory, disk\n\n" + searches(frameworks),
    ]
    alone = {name: row for name, row in systems.items() if row["kind"] == "index"}
    if alone:
        parts.append("### The index alone\n\n" + indexes(alone, frameworks.get(OURS)))
    parts.append("### Verdicts\n\n" + "\n".join(f"* {line}" for line in verdicts(frameworks)))
    parts.append(
        "### How each was configured\n\n" + "\n".join(f"* **{n}**: {row['how']}" for n, row in systems.items())
    )
    return "\n\n".join(parts) + "\n"


def conditions(result: Mapping[str, Any]) -> str:
    """What was measured, where."""
    return (
        f"{result['documents']:,} documents, {result['questions']} questions, {result['cores']} cores, load {result['load']:.1f} at "
        "the beginning. Seconds are wall time of a fresh process, imports and model included; in brackets the part after those, then "
        "the ratio of the wall time to that of rag-assets. Every system has a database of its own on the same PostgreSQL."
    )


def updates(systems: Mapping[str, Any]) -> str:
    """Seconds of each step, and whether the index was right after it."""
    lines = ["| system | " + " | ".join(f"{step}, s" for step in STEPS) + " | rows | faults after each step |",
             "|---|" + "---|" * (len(STEPS) + 2)]  # fmt: skip
    ours = systems.get(OURS, {}).get("steps", {})
    for name, system in systems.items():
        if "error" in system:
            lines.append(f"| {name} | {system['error']} |" + " |" * (len(STEPS) + 1))
            continue
        cells = [_step(system["steps"][step], ours.get(step), own=name == OURS) for step in STEPS]
        wrong = [f"{step}: {row['faults']}" for step, row in system["steps"].items() if row["faults"] != "0"]
        wrong += [f"{system['gone_answers']} answers from deleted documents"] if system["gone_answers"] else []
        lines.append(f"| {name} | {' | '.join(cells)} | {system['rows']:,} | {'; '.join(wrong) or '0'} |")
    return "\n".join(lines)


def _step(row: Mapping[str, Any], ours: Mapping[str, Any] | None, *, own: bool) -> str:
    text = f"{row['seconds']:.2f} ({row['work']:.2f})"
    return text if own or not ours else f"{text} {row['seconds'] / ours['seconds']:.1f} ×"


def searches(systems: Mapping[str, Any]) -> str:
    """Search times at equal recall, end to end, memory and disk."""
    lines = ["| system | " + " | ".join(f"recall@10 ≥ {floor}: p50 / p95, ms" for floor in FLOORS)
             + " | question to hits: p50 / p95, ms | peak memory, MB: client / PostgreSQL | disk, MB |",
             "|---|" + "---|" * (len(FLOORS) + 3)]  # fmt: skip
    for name, system in systems.items():
        if "error" in system:
            continue
        cells = [_point(system["points"], floor) for floor in FLOORS]
        cells.append(f"{system['whole']['p50']:.1f} / {system['whole']['p95']:.1f}")
        cells.append(f"{system['client_mb']:,.0f} / {system['server_mb']:,.0f}")
        lines.append(f"| {name} | {' | '.join(cells)} | {system['disk_mb']:.1f} |")
    return "\n".join(lines)


def _point(points: Sequence[Mapping[str, Any]], floor: float) -> str:
    chosen = at_recall(points, floor)
    if chosen is None:
        return f"not reached ({max(point['recall'] for point in points):.3f})"
    return f"{chosen['p50']:.2f} / {chosen['p95']:.2f} (ef {chosen['ef']}, {chosen['recall']:.3f})"


def indexes(systems: Mapping[str, Any], ours: Mapping[str, Any] | None) -> str:
    """Libraries that hold vectors in memory, beside our HNSW stage and dense search."""
    header = ["build, s", "1 % replaced, s", "10 % deleted, s"] + [f"recall@10 ≥ {f}: p50 / p95, ms" for f in FLOORS]
    lines = [f"| index | {' | '.join(header)} | peak memory, MB | file, MB | deleted rows that answer |",
             "|---|" + "---|" * (len(header) + 3)]  # fmt: skip
    if ours and "error" not in ours:
        cells = [f"{ours['index_seconds']:.2f} (HNSW stage)", "–", "–", *(_point(ours["points"], f) for f in FLOORS)]
        lines.append(f"| {OURS} in PostgreSQL | {' | '.join(cells)} | – | – | 0 |")
    for name, system in systems.items():
        if "error" in system:
            lines.append(f"| {name} | {system['error']} |" + " |" * (len(header) + 2))
            continue
        seconds = [f"{system['seconds'][step]:.3f}" for step in ("cold", "edit", "delete")]
        cells = [*seconds, *(_point(system["points"], floor) for floor in FLOORS)]
        rest = f"{system['client_mb']:,.0f} | {system['bytes'] / 1e6:.1f} | {system['deleted_that_answer']}"
        lines.append(f"| {name} | {' | '.join(cells)} | {rest} |")
    return "\n".join(lines)


def verdicts(systems: Mapping[str, Any]) -> list[str]:
    """Each goal against the fastest framework, and every figure in which a peer is ahead."""
    ours = systems.get(OURS)
    peers = {name: row for name, row in systems.items() if name != OURS and "error" not in row}
    if not ours or "error" in ours or not peers:
        return ["nothing to compare"]
    lines = []
    for step, goal in GOALS.items():
        fastest = min(peers, key=lambda name: peers[name]["steps"][step]["seconds"])
        ratio = peers[fastest]["steps"][step]["seconds"] / ours["steps"][step]["seconds"]
        lines.append(
            f"{step}: {ratio:.1f} × as fast as {fastest}, the fastest; goal {goal:g} ×: {'met' if ratio >= goal else 'missed'}"
        )
    for floor in FLOORS:
        own = at_recall(ours["points"], floor)
        best = {name: found for name, row in peers.items() if (found := at_recall(row["points"], floor))}
        if own is None or not best:
            lines.append(f"search at recall@10 ≥ {floor}: not every system reaches it")
            continue
        fastest = min(best, key=lambda name: best[name]["p95"])
        ratio = best[fastest]["p95"] / own["p95"]
        lines.append(
            f"search p95 at recall@10 ≥ {floor}: {ratio:.2f} × as fast as {fastest}, the fastest: "
            + ("met" if ratio >= 1 else "missed")
            + (f" – likely because {WHY['search']}" if ratio < 1 and fastest.startswith("cocoindex") else "")
        )
    return lines + losses(ours, peers)


def losses(ours: Mapping[str, Any], peers: Mapping[str, Any]) -> list[str]:
    """Where a peer is ahead in seconds of a step (its work alone included), memory or disk."""
    lines = []
    figures: list[tuple[str, Any]] = []
    for step in STEPS:
        figures.append((f"{step}, wall", lambda row, step=step: row["steps"][step]["seconds"]))
        figures.append((f"{step}, work without imports and model", lambda row, step=step: row["steps"][step]["work"]))
    figures += [("question to hits, p95", lambda row: row["whole"]["p95"]),
                ("peak memory of the client", lambda row: row["client_mb"]),
                ("peak memory of PostgreSQL", lambda row: row["server_mb"]),
                ("disk", lambda row: row["disk_mb"])]  # fmt: skip
    for name, of in figures:
        ahead = [f"{peer} ({of(row):.4g})" for peer, row in peers.items() if of(row) < of(ours)]
        if ahead:
            why = next(
                (
                    f" – likely because {text}"
                    for key, text in WHY.items()
                    if name.startswith(f"{key}, wall") or name == key
                ),
                "",
            )
            lines.append(f"{name}: ahead of rag-assets ({of(ours):.4g}): {', '.join(ahead)}{why}")
    return lines
