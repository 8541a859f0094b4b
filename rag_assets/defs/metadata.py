"""What an asset page shows: counts, throughput, a few rows as a table, the chunk lengths as a picture."""

import base64
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from rag_assets.indexing.results import StageResult

_BINS = 24
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
    """A histogram of chunk lengths (tokens) as a PNG data URI: Dagster's Markdown shows no SVG.

    Drawn with Pillow because a run of one small document must not pay for importing a plotting library.
    """
    from PIL import Image, ImageDraw, ImageFont

    width, height, left, bottom, top = 560, 220, 16, 40, 22
    low, high = min(lengths), max(lengths)
    step = max(1, -(-(high - low + 1) // _BINS))
    counts = Counter((length - low) // step for length in lengths)
    bins = (high - low) // step + 1
    image = Image.new("RGB", (width, height), "white")
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(13)
    bar, floor = (width - 2 * left) / bins, height - bottom
    for number, count in counts.items():
        x, y = left + number * bar, floor - (floor - top) * count / max(counts.values())
        draw.rectangle((x, y, x + max(1.0, bar - 1), floor), fill="#3b6ea8")
    draw.line((left, floor, width - left, floor), fill="#444444")
    for x, text, anchor in ((left, low, "lt"), (width - left, high, "rt")):
        draw.text((x, floor + 6), f"{text:,}", fill="#444444", font=font, anchor=anchor)
    draw.text((width / 2, floor + 20), "tokens per chunk", fill="#444444", font=font, anchor="mt")
    most = f"tallest bar: {max(counts.values()):,} of {len(lengths):,} chunks"
    draw.text((left, 4), most, fill="#444444", font=font, anchor="lt")
    buffer = io.BytesIO()
    image.save(buffer, format="png", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
