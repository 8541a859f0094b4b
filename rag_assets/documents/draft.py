"""From what a format reader finds to a ``ParsedDocument``: the rules that hold for every format."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from rag_assets.documents.normalise import normalise_text
from rag_assets.errors import UnparsableDocument
from rag_assets.models import Element, ParsedDocument

MAX_ELEMENTS = 500_000
"""More than any book has; bounds what the parent process has to hold for a hostile file."""
_LONGEST_WORD = 10_000
"""Characters; a longer run without white space is cut, or tokenisers downstream run for minutes."""
_LONGEST_HEADING = 200
"""Characters; a longer heading is a paragraph in a heading's style, and would swamp every chunk below it."""
_LONG_WORD = re.compile(rf"(?<!\S)\S{{{_LONGEST_WORD}}}\S+")
"""Looked for where words begin only: from every character on, words a little shorter take the square of their length."""
_METADATA_VALUES = 1000
_METADATA_CHARACTERS = 1000


@dataclass(frozen=True, slots=True)
class Block:
    """A paragraph, heading, list item, table or code block as a format reader found it; text not yet normalised."""

    kind: str
    text: str
    level: int | None = None
    """Depth of a heading, 1 the outermost; None for anything that is not certainly a heading. A heading without text
    ends the sections of its depth: what follows has no title of its own."""
    page: int | None = None


@dataclass(frozen=True, slots=True)
class Draft:
    """What a format reader returns."""

    blocks: Iterable[Block]
    """In reading order; may be lazy."""
    title: str = ""
    """The title the file itself states; the first heading goes before it unless ``headings_name_it`` is off."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    headings_name_it: bool = True
    """False when headings are no titles of the document: sheet names, or guesses where the title is stated."""


def finish(draft: Draft, uri: str, max_characters: int) -> ParsedDocument:
    """Normalise the text, give every element its heading path, and choose the title.

    Raises:
        UnparsableDocument: there is no text, or more than ``max_characters`` or ``MAX_ELEMENTS`` of it.
    """
    elements: list[Element] = []
    path: list[tuple[int, str]] = []
    headings: tuple[str, ...] = ()
    first_heading = ""
    characters = 0
    for block in draft.blocks:
        text = _clean(block)
        if not text:
            if block.level is not None:
                path = [entry for entry in path if entry[0] < block.level]
                headings = tuple(heading for _, heading in path)
            continue
        characters += len(text)
        if characters > max_characters:
            # Keep counting, so that the message says how far to raise the limit, but hold nothing more.
            elements.clear()
            continue
        is_heading = block.level is not None and len(text) <= _LONGEST_HEADING
        if is_heading and block.level is not None:
            line = " ".join(text.split())
            path = [*(entry for entry in path if entry[0] < block.level), (block.level, line)]
            headings = tuple(heading for _, heading in path)
            first_heading = first_heading or line
        elements.append(Element("Title" if is_heading else block.kind, text, headings, block.page))
        if len(elements) > MAX_ELEMENTS:
            raise UnparsableDocument(f"has more than {MAX_ELEMENTS:,} paragraphs; split the file")
    if characters > max_characters:
        raise too_long(characters, max_characters)
    if not elements:
        raise UnparsableDocument("contains no text; if it holds only pictures, run OCR first")
    stated = " ".join(normalise_text(draft.title).split())[:_LONGEST_HEADING]
    candidates = (first_heading, stated) if draft.headings_name_it else (stated,)
    # Never the file's name: the title is embedded with the text, and a rename must embed nothing.
    title = next(filter(None, candidates), "")
    return ParsedDocument(title, tuple(elements), clean_metadata(draft.metadata))


def too_long(characters: int, max_characters: int) -> UnparsableDocument:
    """The error for a document with too much text."""
    return UnparsableDocument(
        f"has {characters:,} characters of text; parsing.max_characters is {max_characters:,}; "
        "raise it in rag_assets.toml or split the file"
    )


def cut_long_words(text: str) -> str:
    """``text`` with a space after every 10,000 characters of a run without white space."""
    return _LONG_WORD.sub(_cut, text)


def _cut(word: re.Match[str]) -> str:
    text = word.group()
    return " ".join(text[start : start + _LONGEST_WORD] for start in range(0, len(text), _LONGEST_WORD))


def _clean(block: Block) -> str:
    text = normalise_text(block.text, keep_spaces=block.kind == "CodeSnippet")
    text = text.strip("\n").rstrip() if block.kind == "CodeSnippet" else text.strip()
    return cut_long_words(text) if len(text) > _LONGEST_WORD else text


def clean_metadata(value: Mapping[str, Any]) -> dict[str, Any]:
    """``value`` as JSON can hold it: normalised strings, dates as ISO 8601, nothing empty, bounded in size."""
    budget = [_METADATA_VALUES]
    return {key: item for key, item in _plain(value, budget, 0).items() if item not in (None, "", [], {})}


def _plain(value: Any, budget: list[int], depth: int) -> Any:
    # YAML aliases make a small file describe a huge tree, so the number of values visited is what is bounded.
    budget[0] -= 1
    if budget[0] < 0 or depth > 8 or value is None:
        return None
    if isinstance(value, bool | int):
        return value if abs(value) < 1 << 53 else str(value)[:_METADATA_CHARACTERS]
    if isinstance(value, float):
        return value if abs(value) < float("inf") else str(value)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {
            normalise_text(str(key)).strip()[:_METADATA_CHARACTERS]: _plain(item, budget, depth + 1)
            for key, item in _first(value.items())
        }
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item, budget, depth + 1) for item in _first(value)]
    return normalise_text(str(value)).strip()[:_METADATA_CHARACTERS]


def _first(values: Iterable[Any]) -> list[Any]:
    return [item for item, _ in zip(values, range(_METADATA_VALUES), strict=False)]
