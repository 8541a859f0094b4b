"""Plain text."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Literal

from rag_assets.documents.draft import Block, Draft, too_long
from rag_assets.documents.formats.elements import LANGUAGES, bare, blocks_of
from rag_assets.documents.guards import check_text
from rag_assets.documents.normalise import decode_text, normalise_text

_CLASSIFIED_CHARACTERS = 1_000_000
"""Above this, paragraphs are not told apart: classifying takes a second per MB, and such files are data or logs."""
_UNCLASSIFIED = re.compile(r"(?<!\S)\S{3000}")
"""Patterns of unstructured take time with the square of the length of a word: 900 KB without a space take minutes."""
_PARAGRAPH = re.compile(r"\n[ \t]*\n\s*")
_TITLE_CHARACTERS = 80
_TITLE_WORDS = 12
_BODY_CHARACTERS = 40
_PAGE_NUMBER = re.compile(r"\s\d{1,4}$")
"""A running header ends so; so does "Chapter 3", which then is no heading either."""
_TERMINAL = tuple(".!?:;,…。\uff01\uff1f\uff1a\uff1b،؛؟|")


def read_text(data: bytes, max_characters: int) -> Draft:
    """A plain text file."""
    check_text(data)
    text = normalise_text(decode_text(data), keep_spaces=True)
    if len(text) > max_characters:
        raise too_long(len(text), max_characters)
    title = _first_line_title(text)
    return Draft(text_blocks(text), title, headings_name_it=not title)


def _first_line_title(text: str) -> str:
    """The first paragraph, where it is one short line without a full stop: so people title a plain text."""
    first, _, rest = text.strip().partition("\n")
    is_alone = rest.startswith("\n") or rest.lstrip("=-~ ").startswith("\n")
    return first if is_alone and _is_short_line(first) else ""


def text_blocks(text: str) -> Iterator[Block]:
    """Paragraphs of plain text; short lines that head a paragraph become headings of one level."""
    return trusted_headings(classified(text))


def classified(text: str, *, page: int | None = None, lines_joined: bool = False) -> Iterator[Block]:
    """Paragraphs as unstructured labels them; all of them NarrativeText where that would take too long.

    With ``lines_joined`` only blank lines part paragraphs; otherwise unstructured decides what a line break means.
    """
    if len(text) > _CLASSIFIED_CHARACTERS or _UNCLASSIFIED.search(text):
        return (Block("NarrativeText", paragraph, None, page) for paragraph in _PARAGRAPH.split(text))
    from unstructured.partition.text import partition_text

    grouper: Literal[False] | None = False if lines_joined else None
    elements = bare(partition_text)(text=text, paragraph_grouper=grouper, languages=LANGUAGES)
    return blocks_of(elements, page=page)


def trusted_headings(blocks: Iterable[Block]) -> Iterator[Block]:
    """Keep a guessed title as a heading only if it looks like one and stands above text.

    A wrong heading is put before every chunk below it, which is worse than none.
    """
    ahead: list[Block | None] = [*blocks, None]
    for block, following in pairwise(ahead):
        if block is None:
            return
        if block.kind != "Title":
            yield block
        elif following is not None and following.kind != "Title" and _looks_like_heading(block.text, following.text):
            yield replace(block, level=1)
        else:
            yield replace(block, kind="Text", level=None)


def _looks_like_heading(text: str, body: str) -> bool:
    text = text.strip()
    return _is_short_line(text) and _PAGE_NUMBER.search(text) is None and len(body) > max(len(text), _BODY_CHARACTERS)


def _is_short_line(text: str) -> bool:
    return (
        len(text) <= _TITLE_CHARACTERS
        and len(text.split()) <= _TITLE_WORDS
        and not text.endswith(_TERMINAL)
        and any(char.isalpha() for char in text)
        and not text[:1].islower()
    )
