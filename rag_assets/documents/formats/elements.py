"""From unstructured's elements to blocks."""

import inspect
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from rag_assets.documents.draft import Block

LANGUAGES = ["eng"]
"""Naming a language switches off language detection, which takes longer than the parsing itself."""
_Partitioner = TypeVar("_Partitioner", bound=Callable[..., Any])
_DROPPED = frozenset({"PageBreak", "PageNumber"})
_RENAMED = {"UncategorizedText": "Text"}


def bare(partitioner: _Partitioner) -> _Partitioner:
    """A partitioner of unstructured without its decorators, which take a quarter of the time to note what is not read
    here: ids, parents, languages, the type of the file."""
    found: _Partitioner = inspect.unwrap(partitioner)
    return found


def table_text(rows: Iterable[Iterable[str]]) -> str:
    """Rows as lines, cells separated by ``" | "``; empty rows and trailing empty cells are left out."""
    lines = []
    for row in rows:
        cells = [" ".join(cell.split()) for cell in row]
        while cells and not cells[-1]:
            cells.pop()
        if cells:
            lines.append(" | ".join(cells))
    return "\n".join(lines)


def blocks_of(elements: Iterable[Any], *, page: int | None = None) -> Iterator[Block]:
    """Blocks of unstructured elements; a Title has level ``category_depth + 1``. Keep only levels you can trust."""
    for element in elements:
        kind = _RENAMED.get(element.category, element.category)
        if kind in _DROPPED:
            continue
        text = element.text
        if kind == "Table":
            text = _rows_of_html(element.metadata.text_as_html) or text
        level = (element.metadata.category_depth or 0) + 1 if kind == "Title" else None
        yield Block(kind, text, level, page if page is not None else element.metadata.page_number)


def _rows_of_html(html: str | None) -> str:
    if not html:
        return ""
    from lxml import etree

    table = etree.fromstring(html, etree.HTMLParser(no_network=True, huge_tree=True))
    caption = " ".join(" ".join(node.itertext()) for node in table.iter("caption"))
    rows = (["".join(cell.itertext()) for cell in row.iter("td", "th")] for row in table.iter("tr"))
    return "\n".join(filter(None, [caption, table_text(rows)]))
