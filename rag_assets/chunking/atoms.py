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
_LINE = re.compile(r"\n+")
_UNSPACED = "\u2e80-\u2fdf\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9d"
"""Kana and ideographs: a line may break after each of them."""
_NEVER_FIRST = "、。，．！？：；）］｝」』】》〉”’…!?,.;:)\\]}"
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


def cut_elements(
    layout: Layout, spans: Iterable[tuple[int, int]], header_costs: Sequence[int], meter: CostMeter
) -> list[Atom]:
    """Cut elements into atoms that fit a chunk each.

    Args:
        layout: the document.
        spans: (element, room) of every element to cut, where room is what fits into a chunk there.
        header_costs: per element, what its header row takes of a chunk that opens further down in the table.
        meter: measures the atoms, all of them in one call per round.
    """
    atoms: list[Atom] = []
    block = 0
    for element, room in spans:
        kind = layout.elements[element].kind
        header_end = layout.starts[element] + len(layout.header_row(element))
        for paragraph in _cut_after(_PARAGRAPH, layout.text, layout.starts[element], layout.starts[element + 1]):
            for start, end in _atom_spans(kind, layout.text, paragraph):
                role = _role(kind)
                free = room - (header_costs[element] if start >= header_end else 0)
                atoms.append(Atom(start, end, 0, block, role, free))
            block += 1
    return _within_room(layout.text, atoms, meter)


def cut_in_two(text: str, start: int, end: int) -> list[Span]:
    """Two or more parts of a span of at least two characters, cut between words where there are words."""
    half = (end - start + 1) // 2
    parts = [*_words(half, text, start, end)]
    return parts if len(parts) > 1 else [*_characters(half, text, start, end)]


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
    costs = iter(meter.costs([text[atom.start : atom.end] for atom in atoms if not atom.cost]))
    return [atom if atom.cost else replace(atom, cost=max(1, next(costs))) for atom in atoms]


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
