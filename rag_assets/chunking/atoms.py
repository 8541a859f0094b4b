"""The smallest pieces chunks are packed from: sentences, table rows, lines of code; parts of one that is too long.

The atoms of an element are contiguous: each owns the white space after it, so nothing is lost between two of them.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from rag_assets.chunking.cost import CostMeter
from rag_assets.chunking.layout import CODE, TABLE, TITLE, Layout
from rag_assets.chunking.sentences import sentence_spans

Span = tuple[int, int]

_PARAGRAPH = re.compile(r"\n[^\S\n]*+\n\s*+")
_BLANK_LINES = re.compile(r"\n(?:[^\S\n]*+\n)++")
"""As ``_PARAGRAPH``, but the indentation after them stays with its line."""
_LINE = re.compile(r"\n+")
_UNSPACED = "\u2e80-\u2fdf\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9d"
"""Kana and ideographs: a line may break after each of them."""
_NEVER_FIRST = "、。，．！？：；）］｝」』】》〉”’…!?,.;:)\\]}"
_WORD = re.compile(rf"\s*+(?:[{_UNSPACED}]|[^\s{_UNSPACED}]++)[{_NEVER_FIRST}]*+\s*+")
_PARTS = 4
"""A sentence over the budget is cut into parts of a quarter of the budget or less, which pack well."""


@dataclass(frozen=True, slots=True)
class Atom:
    """A piece that is never cut."""

    start: int
    end: int
    cost: int
    block: int
    """Number of the paragraph it belongs to; paragraphs stay whole where they can."""
    role: Literal["heading", "sentence", "line", "part"]
    """``line``: a table row or a line of code. ``part``: of a sentence or line that is over the budget by itself."""
    room: int
    """What fits into a chunk that opens with this atom."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What the elements of a document cost; every list is per element."""

    costs: Sequence[int]
    """The whole element."""
    rooms: Sequence[int]
    """What fits into a chunk under its heading path."""
    header_costs: Sequence[int]
    """What its header row takes of a chunk that opens further down in the table."""

    def is_whole(self, layout: Layout, element: int) -> bool:
        """Whether the element is a table or code that fits into a chunk: such a one is never cut."""
        return layout.elements[element].kind in (TABLE, CODE) and self.costs[element] <= self.rooms[element]


def cut_elements(layout: Layout, spans: Iterable[tuple[int, int]], measured: Measured, meter: CostMeter) -> list[Atom]:
    """Cut elements into atoms that fit a chunk each.

    Args:
        layout: the document.
        spans: (element, room) of every element to cut, where room is what fits into a chunk there.
        measured: what its elements cost.
        meter: measures the atoms, all of them in one call per round.
    """
    atoms: list[Atom] = []
    block = 0
    for element, room in spans:
        kind = layout.elements[element].kind
        if measured.is_whole(layout, element):
            start, end = layout.starts[element], layout.starts[element + 1]
            atoms.append(Atom(start, end, max(1, measured.costs[element]), block, "line", measured.rooms[element]))
            block += 1
            continue
        header_end = layout.starts[element] + len(layout.header_row(element))
        between = _BLANK_LINES if kind in (TABLE, CODE) else _PARAGRAPH
        for paragraph in _cut_after(between, layout.text, layout.starts[element], layout.starts[element + 1]):
            for start, end in _atom_spans(kind, layout.text, paragraph):
                role = _role(kind)
                free = room - (measured.header_costs[element] if start >= header_end else 0)
                atoms.append(Atom(start, end, 0, block, role, free))
            block += 1
    return _within_room(layout.text, atoms, meter)


def cut_words(layout: Layout, measured: Measured, meter: CostMeter) -> list[Atom]:
    """Cut a whole document into words, and words that don't fit a chunk into parts."""
    atoms = []
    for element, room in enumerate(measured.rooms):
        start, end = layout.starts[element], layout.starts[element + 1]
        header_end = start + len(layout.header_row(element))
        for word in _cut_at([match.start() for match in _WORD.finditer(layout.text, start, end)], start, end):
            free = room - (measured.header_costs[element] if word[0] >= header_end else 0)
            atoms.append(Atom(*word, 0, element, "part", free))
    return _within_room(layout.text, atoms, meter)


def cut_in_two(layout: Layout, start: int, end: int) -> list[Span]:
    """Two or more parts of a span of at least two characters: cut between elements where it holds several, else between the
    lines of a table or of code, else between words where there are words."""
    half = (end - start + 1) // 2
    borders = layout.starts[layout.element_at(start) + 1 : layout.element_at(end - 1) + 1]
    if not borders and layout.elements[layout.element_at(start)].kind in (TABLE, CODE):
        borders = [match.end() for match in _LINE.finditer(layout.text, start, end) if match.end() < end]
    if borders:
        middle = min(borders, key=lambda border: abs(border - start - half))
        return [(start, middle), (middle, end)]
    parts = [*_words(half, layout.text, start, end)]
    return parts if len(parts) > 1 else [*_characters(half, layout.text, start, end)]


def _role(kind: str) -> Literal["heading", "sentence", "line"]:
    if kind in (TABLE, CODE):
        return "line"
    return "heading" if kind == TITLE else "sentence"


def _atom_spans(kind: str, text: str, paragraph: Span) -> Iterator[Span]:
    start, end = paragraph
    if kind in (TABLE, CODE):
        return _cut_after(_LINE, text, start, end)
    return _cut_at([start + first for first, _ in sentence_spans(text[start:end])], start, end)


def _within_room(text: str, atoms: list[Atom], meter: CostMeter) -> list[Atom]:
    """Measure the atoms and cut those over their room between words, then between characters."""
    size = max(1, meter.limit // _PARTS)
    cuts: list[Callable[[str, int, int], Iterable[Span]]] = [partial(_words, size), partial(_characters, size)]
    while size > 1:
        size = max(1, size // _PARTS)
        cuts.append(partial(_characters, size))
    atoms = _measured(text, atoms, meter)
    for cut in cuts:
        if all(atom.cost <= atom.room for atom in atoms):
            break
        kept: list[Atom] = []
        for atom in atoms:
            if atom.cost <= atom.room:
                kept.append(atom)
                continue
            role: Literal["heading", "part"] = "heading" if atom.role == "heading" else "part"
            kept += [replace(atom, start=a, end=b, cost=0, role=role) for a, b in cut(text, atom.start, atom.end)]
        atoms = _measured(text, kept, meter)
    return atoms


def _measured(text: str, atoms: Iterable[Atom], meter: CostMeter) -> list[Atom]:
    """The atoms with their cost; 0 means not yet measured."""
    atoms = [*atoms]
    unknown = [*dict.fromkeys(text[atom.start : atom.end] for atom in atoms if not atom.cost)]
    costs = dict(zip(unknown, meter.costs(unknown), strict=True))
    return [atom if atom.cost else replace(atom, cost=max(1, costs[text[atom.start : atom.end]])) for atom in atoms]


def _words(size: int, text: str, start: int, end: int) -> Iterator[Span]:
    """Parts of at most ``size`` characters that end after white space or an ideograph; a longer word stays whole."""
    pattern = re.compile(rf"[\s\S]{{1,{size}}}(?:\Z|(?<=[\s{_UNSPACED}])(?![{_NEVER_FIRST}]))|\s*+\S++\s*+")
    return _cut_at([match.start() + start for match in pattern.finditer(text[start:end])], start, end)


def _characters(size: int, text: str, start: int, end: int) -> Iterator[Span]:
    """Parts of at most ``size`` characters; a letter or emoji stays with what modifies it where that is possible."""
    while start < end:
        cut = min(start + size, end)
        while start + 1 < cut < end and _continues(text, cut):
            cut -= 1
        if cut < end and _continues(text, cut):
            cut = start + size
        yield start, cut
        start = cut


def _continues(text: str, offset: int) -> bool:
    """Whether the character at ``offset`` is drawn as one with the one before it (most of Unicode's UAX #29)."""
    character = text[offset]
    return (
        unicodedata.category(character).startswith("M")
        or "\U0001f3fb" <= character <= "\U0001f3ff"  # skin tones
        or character == "\u200d"
        or text[offset - 1] == "\u200d"
    )


def _cut_after(separator: re.Pattern[str], text: str, start: int, end: int) -> Iterator[Span]:
    return _cut_at([match.end() for match in separator.finditer(text, start, end)], start, end)


def _cut_at(offsets: Iterable[int], start: int, end: int) -> Iterator[Span]:
    """The parts of a span cut at those of the ascending ``offsets`` that lie inside it."""
    for offset in offsets:
        if start < offset < end:
            yield start, offset
            start = offset
    yield start, end
