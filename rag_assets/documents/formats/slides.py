"""PowerPoint presentations."""

import io
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from rag_assets.documents.draft import Block, Draft
from rag_assets.documents.formats.elements import LANGUAGES, blocks_of, table_text
from rag_assets.documents.formats.office import core_properties
from rag_assets.documents.guards import open_zip

_C = "{http://schemas.openxmlformats.org/drawingml/2006/chart}"
_A = "{http://schemas.openxmlformats.org/drawingml/2006/main}"


def read_pptx(data: bytes, max_characters: int) -> Draft:
    """A presentation: slide titles as headings, text, tables, charts and notes; ``page`` is the slide."""
    import pptx

    open_zip(data)
    presentation = pptx.Presentation(io.BytesIO(data))
    title, metadata = core_properties(presentation)
    return Draft(_blocks(data, presentation), title, {**metadata, "slides": len(presentation.slides)})


def _blocks(data: bytes, presentation: Any) -> Iterator[Block]:
    from unstructured.partition.pptx import partition_pptx

    by_slide: dict[int | None, list[Block]] = {}
    for block in blocks_of(partition_pptx(file=io.BytesIO(data), languages=LANGUAGES)):
        by_slide.setdefault(block.page, []).append(block)
    for number, slide in enumerate(presentation.slides, 1):
        yield Block("Title", "", 1, number)
        for index, block in enumerate(by_slide.get(number, ())):
            # The title placeholder comes first, at depth 1; any other title is a guess from the wording.
            guessed = block.kind == "Title" and (index > 0 or block.level != 1)
            yield replace(block, kind="Text", level=None) if guessed else block
        for shape in _shapes(slide.shapes):
            if getattr(shape, "has_chart", False):
                yield Block("Table", _chart_text(shape.chart.part._element), None, number)
        if slide.has_notes_slide and slide.notes_slide.notes_text_frame is not None:
            yield Block("NarrativeText", slide.notes_slide.notes_text_frame.text, None, number)


def _shapes(shapes: Any) -> Iterator[Any]:
    """All shapes, those in groups too."""
    pending = list(reversed(list(shapes)))
    while pending:
        shape = pending.pop()
        if hasattr(shape, "shapes"):
            pending.extend(reversed(list(shape.shapes)))
        else:
            yield shape


def _chart_text(chart: Any) -> str:
    """The title of a chart and its numbers, one row per category. From the XML: python-pptx knows few chart types."""
    title = " ".join(node.text or "" for block in chart.iter(_C + "title") for node in block.iter(_A + "t"))
    series = list(chart.iter(_C + "ser"))
    names = [" ".join(_points(one, "tx").values()) for one in series]
    values = [_points(one, "val") or _points(one, "yVal") for one in series]
    categories: dict[int, str] = {}
    for one in series:
        categories = categories or _points(one, "cat") or _points(one, "xVal")
    indexes = sorted({index for points in (categories, *values) for index in points})
    rows = [[categories.get(index, ""), *(points.get(index, "") for points in values)] for index in indexes]
    return "\n".join(filter(None, [title, table_text([["", *names], *rows])]))


def _points(series: Any, part: str) -> dict[int, str]:
    """Position -> text of the cached points of one part of a series."""
    node = series.find(_C + part)
    points = node.iter(_C + "pt") if node is not None else ()
    return {int(point.get("idx", 0)): "".join(value.text or "" for value in point.iter(_C + "v")) for point in points}
