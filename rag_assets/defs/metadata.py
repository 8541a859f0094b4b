"""What an asset page shows: counts, throughput, a few rows as a table, the chunk lengths as a picture."""

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from rag_assets.indexing.results import StageResult

_CELL = 90
"""Characters of a table cell: Dagster squeezes wider columns into a letter a line."""


def stage_metadata(result: StageResult) -> dict[str, Any]:
    """The metadata of one materialization."""
    metadata: dict[str, Any] = dict(result.counts)
    metadata["seconds"] = round(result.seconds, 3)
    metadata |= {key: value for key, value in result.facts.items() if value is not None}
    for unit in ("parsed", "texts", "rows", "chunks"):
        if result.counts.get(unit) and result.seconds > 0:
            metadata[f"{unit}_per_second"] = round(result.counts[unit] / result.seconds, 1)
            break
    if result.samples:
        metadata["samples"] = table(result.samples)
    if result.quarantined:
        rows = [{"document": document, "reason": reason} for document, reason in result.quarantined]
        metadata["quarantined_files"] = table(rows)
    if result.lengths:
        metadata["chunk_lengths"] = dg.MetadataValue.md(f"![chunk lengths]({histogram(result.lengths)})")
    return metadata


def table(rows: Sequence[Mapping[str, Any]]) -> dg.TableMetadataValue:
    """Rows as a table; long cells are cut with an ellipsis."""
    return dg.MetadataValue.table([dg.TableRecord({key: _cell(value) for key, value in row.items()}) for row in rows])


def _cell(value: Any) -> str | int | float | bool | None:
    if value is None or isinstance(value, bool | int | float):
        return value
    text = str(value)
    return text if len(text) <= _CELL else text[: _CELL - 1] + "…"


def histogram(lengths: Sequence[int]) -> str:
    """A histogram of chunk lengths (tokens) as a PNG data URI: Dagster's Markdown shows no SVG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 2.2), dpi=110, layout="constrained")
    axes = figure.subplots()
    axes.hist(lengths, bins=24, color="#3b6ea8")
    axes.set_xlabel("tokens per chunk")
    axes.set_ylabel("chunks")
    axes.spines[["top", "right"]].set_visible(False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
