"""PDF: the text layer, page by page.

unstructured's own reader returns nothing, without an error, for encrypted, truncated and textless files; pdfium says
what is wrong and is about sixty times faster. Its text is then labelled by unstructured like any other.
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from rag_assets.documents.draft import Block, Draft
from rag_assets.documents.formats.text import classified, trusted_headings
from rag_assets.documents.normalise import normalise_text
from rag_assets.errors import UnparsableDocument

_SPLIT_WORD = re.compile("[\ufffe\x02]\\s?")
"""What pdfium writes for a hyphen at the end of a line inside a word."""
_ITEM = re.compile(r"(?:[•◦▪‣●○■\u2013—*-]|\(?\d{1,3}[.)]|\(?[a-zA-Z][.)])\s")
_ENDS = (".", "!", "?", ":", "。", "\uff01", "\uff1f", "؟", ".”", '."', ".)")
_FULL_LINE = 0.75
"""A line shorter than this share of the page's long lines was not broken for lack of room."""
_MAX_OUTLINE = 5000


def read_pdf(data: bytes, max_characters: int) -> Draft:
    """A PDF with a text layer; entries of its outline become headings where their text is found on their page."""
    import pypdfium2

    try:
        document = pypdfium2.PdfDocument(data)
    except pypdfium2.PdfiumError as error:
        if "password" in str(error).lower():
            raise UnparsableDocument("is protected by a password; save a copy without one") from None
        raise UnparsableDocument(f"is damaged or cut short: {error}; save or export it again") from None
    pages = [_page_text(document, index) for index in range(len(document))]
    blank = sum(1 for page in pages if not page.strip())
    if blank == len(pages):
        raise UnparsableDocument("has no text layer (scanned?); run OCR first")
    stated = document.get_metadata_dict(skip_empty=True)
    title = stated.get("Title", "")
    metadata = {
        "title": title,
        "author": stated.get("Author"),
        "subject": stated.get("Subject"),
        "pages": len(pages),
        "pages_without_text": blank or None,
    }
    if title.lower() == "untitled":
        title = ""
    # Headings of a PDF are guesses; what the file says of itself is not.
    return Draft(_blocks(pages, _outline(document)), title, metadata, headings_name_it=not title)


def _page_text(document: Any, index: int) -> str:
    page = document[index]
    try:
        text = page.get_textpage()
        try:
            return _SPLIT_WORD.sub("", str(text.get_text_range()))
        finally:
            text.close()
    finally:
        page.close()


def _outline(document: Any) -> dict[int, dict[str, int]]:
    """Page number (from 1) -> folded title -> level (from 1)."""
    found: dict[int, dict[str, int]] = {}
    for entry, _ in zip(document.get_toc(), range(_MAX_OUTLINE), strict=False):
        target = entry.get_dest()
        page = target.get_index() if target is not None else None
        if page is not None:
            found.setdefault(page + 1, {})[_folded(entry.get_title())] = entry.level + 1
    return found


def _blocks(pages: list[str], outline: dict[int, dict[str, int]]) -> Iterator[Block]:
    for number, page in enumerate(pages, 1):
        headings = outline.get(number, {})
        text = "\n\n".join(_paragraphs(normalise_text(page), headings))
        blocks = classified(text, page=number, lines_joined=True)
        if not outline:
            yield from trusted_headings(blocks)
            continue
        for block in blocks:
            level = headings.get(_folded(block.text))
            yield replace(block, kind="Title" if level else _plain_kind(block.kind), level=level)


def _plain_kind(kind: str) -> str:
    return "Text" if kind == "Title" else kind


def _folded(text: str) -> str:
    return "".join(char for char in text.casefold() if char.isalnum())


def _paragraphs(page: str, headings: dict[str, int]) -> Iterator[str]:
    """Join the lines of a page into paragraphs: where a line ends early, or the next one starts something new."""
    lines = [line.strip() for line in page.split("\n")]
    lengths = sorted(len(line) for line in lines if line)
    full = lengths[int(len(lengths) * 0.9)] * _FULL_LINE if lengths else 0
    paragraph: list[str] = []
    for index, line in enumerate(lines):
        if line:
            paragraph.append(line)
        following = lines[index + 1] if index + 1 < len(lines) else ""
        if paragraph and (not line or not following or _breaks(line, following, full, headings)):
            yield " ".join(paragraph)
            paragraph = []


def _breaks(line: str, following: str, full: float, headings: dict[str, int]) -> bool:
    if _ITEM.match(following) or _folded(line) in headings or _folded(following) in headings:
        return True
    if len(line) >= full:
        return False
    return line.endswith(_ENDS) or not following[:1].islower()
