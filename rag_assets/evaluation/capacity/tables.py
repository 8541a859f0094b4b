"""A capacity projection for people (Markdown, terminal) and for scripts."""

from dataclasses import asdict
from typing import Any

from rag_assets.evaluation.capacity.projection import ADVICE, HORIZON_MONTHS, Capacity, Growth

USE_COLUMNS = ("resource", "now", "per 100,000 chunks", "warning", "limit", "where it comes from")
LIMIT_COLUMNS = ("growth", "first limit", "months to its warning / limit", "at about (chunks)", "what to do then")


def use_rows(capacity: Capacity) -> list[tuple[str, ...]]:
    """How full every resource is, and where it is full."""
    return [
        (
            resource.name,
            f"{_number(resource.now)} {resource.unit}",
            f"+ {_number(resource.per_chunk * 100_000)} {resource.unit}",
            f"{_number(resource.warning)}",
            f"{_number(resource.limit)}",
            resource.source,
        )
        for resource in capacity.resources
    ]


def limit_rows(capacity: Capacity) -> list[tuple[str, ...]]:
    """For each growth the limit that comes first, and those that follow."""
    rows: list[tuple[str, ...]] = []
    for projection in capacity.projections:
        growth = projection.growth
        within = [item for item in projection.reached if item.limit_months is not None]
        if not within:
            rows.append((growth_text(growth), "none", f"not within {HORIZON_MONTHS / 12:.0f} years", "–", "nothing"))
        for place, item in enumerate(within):
            chunks = capacity.installation.chunks + (item.limit_months or 0.0) * growth.chunks
            times = f"{_months(item.warning_months)} / {_months(item.limit_months)}"
            name = growth_text(growth) if place == 0 else ""
            rows.append((name, item.resource, times, f"{chunks:,.0f}", ADVICE[item.resource]))
    return rows


def growth_text(growth: Growth) -> str:
    """A growth in words."""
    return f"{growth.name} ({growth.chunks:,.0f} chunks a month, {growth.basis})"


def markdown(capacity: Capacity) -> str:
    """Both tables, and what could not be projected."""
    found = capacity.installation
    parts = [
        f"{found.documents:,} documents, {found.chunks:,} chunks, {found.database_bytes / 1e6:,.0f} MB of database.",
        _table(USE_COLUMNS, use_rows(capacity)),
        _table(LIMIT_COLUMNS, limit_rows(capacity)),
    ]
    parts += [f"Not projected: {'; '.join(capacity.unmeasured)}."] if capacity.unmeasured else []
    parts.append(
        "Thresholds and scenarios are given (`[capacity]` in the settings), everything else is measured here. Use is taken to grow in "
        "proportion to chunks: near today that holds, far from it it is a guess."
    )
    return "\n\n".join(parts) + "\n"


def to_json(capacity: Capacity) -> dict[str, Any]:
    """For scripts; months are null beyond the horizon."""
    data = asdict(capacity)
    for projection, row in zip(capacity.projections, data["projections"], strict=True):
        first = projection.first
        row["first_limit"] = first.resource if first else None
        row["advice"] = ADVICE[first.resource] if first else None
    return data


def _table(columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _months(value: float | None) -> str:
    if value is None:
        return f"> {HORIZON_MONTHS:.0f}"
    return "reached" if value == 0 else f"{value:.1f}"
