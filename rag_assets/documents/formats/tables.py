"""Tables: CSV, TSV and Excel.

unstructured's readers of these go by way of pandas, which guesses types (``007`` becomes 7, a column of whole numbers
with a gap becomes decimal) and drops empty cells, so that values no longer line up with their headers; its Excel reader
needs xlrd besides. The standard library and openpyxl keep what the file says, one row at a time.
"""

import csv
import io
from collections.abc import Iterable, Iterator
from datetime import date, datetime, time
from typing import Any

from rag_assets.documents.draft import Block, Draft, too_long
from rag_assets.documents.formats.elements import table_text
from rag_assets.documents.guards import check_text, open_zip
from rag_assets.documents.normalise import decode_text

_SNIFFED = 16_384
_DELIMITERS = ",;\t|"


def read_csv(data: bytes, max_characters: int) -> Draft:
    """Comma-separated values; semicolons, tabs and bars are recognised too."""
    return _delimited(data, max_characters, None)


def read_tsv(data: bytes, max_characters: int) -> Draft:
    """Tab-separated values."""
    return _delimited(data, max_characters, "\t")


def _delimited(data: bytes, max_characters: int, delimiter: str | None) -> Draft:
    check_text(data)
    text = decode_text(data).replace("\x00", "\ufffd")
    if len(text) > max_characters:
        raise too_long(len(text), max_characters)
    csv.field_size_limit(len(text) + 1)
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter or _delimiter_of(text))
    return Draft([Block("Table", table_text(rows))])


def _delimiter_of(text: str) -> str:
    """The delimiter that divides most of the first lines, and divides them most alike."""
    lines = [line for line in text[:_SNIFFED].splitlines() if line.strip()][:50]

    def agreement(delimiter: str) -> tuple[int, int]:
        counts = [len(row) for row in csv.reader(lines, delimiter=delimiter)]
        usual = max(set(counts), key=counts.count)
        return (counts.count(usual) if usual > 1 else 0, usual)

    return max(_DELIMITERS, key=agreement)


def read_xlsx(data: bytes, max_characters: int) -> Draft:
    """An Excel workbook: one heading per sheet, one table per group of rows between empty ones."""
    from openpyxl import load_workbook

    open_zip(data)
    book = load_workbook(io.BytesIO(data), read_only=True, data_only=True, keep_links=False)
    properties = book.properties
    metadata = {"title": properties.title, "author": properties.creator, "sheets": book.sheetnames}
    return Draft(_sheets(book), properties.title or "", metadata, headings_name_it=False)


def _sheets(book: Any) -> Iterator[Block]:
    for number, name in enumerate(book.sheetnames, 1):
        sheet = book[name]
        if not hasattr(sheet, "iter_rows"):
            continue
        # The size a file states for its sheets is often wrong; without it, rows are read until they end.
        sheet.reset_dimensions()
        tables = list(_groups([_cell(value) for value in row] for row in sheet.iter_rows(values_only=True)))
        if tables:
            yield Block("Title", name, 1, number)
        for table in tables:
            is_table = " | " in table or "\n" in table
            yield Block("Table" if is_table else "Text", table, None, number)


def _groups(rows: Iterable[list[str]]) -> Iterator[str]:
    group: list[list[str]] = []
    for row in rows:
        if any(row):
            group.append(row)
        elif group:
            yield _block_text(group)
            group = []
    if group:
        yield _block_text(group)


def _block_text(rows: list[list[str]]) -> str:
    """A group of rows without the columns that are empty in all of them at its left edge."""
    left = min(next(index for index, cell in enumerate(row) if cell) for row in rows)
    return table_text(row[left:] for row in rows)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.date().isoformat() if value.time() == time() else value.isoformat(" ")
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else f"{value:.12g}"
    return str(value).strip()
