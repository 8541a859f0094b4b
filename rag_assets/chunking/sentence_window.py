"""The ``sentence-window`` strategy: a few sentences are embedded, and shown with their neighbours.

What is searched is small, so that its vector says one thing; what is read is large enough to be understood.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from rag_assets.chunking.atoms import Atom
from rag_assets.chunking.drafting import Drafter
from rag_assets.chunking.packing import Cut
from rag_assets.models import ChunkDraft, ParsedDocument, TokenCounter
from rag_assets.settings import ChunkingSettings


def chunk_by_sentences(document: ParsedDocument, settings: ChunkingSettings, counter: TokenCounter) -> list[ChunkDraft]:
    """Cut ``document``; what holds for the result is said at ``chunk_document``, the windows overlapping each other."""
    drafter = Drafter(document, settings, counter)
    atoms = drafter.atoms()
    pieces = drafter.drafts([*_pieces(drafter, atoms, settings.sentence_tokens)])
    return [*_with_windows(drafter, atoms, pieces)]


def _pieces(drafter: Drafter, atoms: Iterable[Atom], budget: int) -> Iterator[Cut]:
    """Neighbouring sentences under one heading path together up to ``budget``, and what is embedded alone.

    Headings go with what follows. The rows of a table, or lines of code, over a chunk's budget fill a chunk each time.
    """
    piece: list[Atom] = []
    for atom in atoms:
        if piece and not _joins(drafter, piece, atom, budget):
            yield Cut(piece[0].start, piece[0].start, piece[-1].end)
            piece = []
        piece.append(atom)
    if piece:
        yield Cut(piece[0].start, piece[0].start, piece[-1].end)


def _joins(drafter: Drafter, piece: Sequence[Atom], atom: Atom, budget: int) -> bool:
    cost = sum(part.cost for part in piece) + atom.cost
    if cost > piece[0].room:
        return False
    if piece[-1].role == "heading":
        return True
    if atom.role == "heading":
        return False
    layout = drafter.layout
    before, after = layout.element_at(piece[-1].start), layout.element_at(atom.start)
    if piece[-1].role == "line" or atom.role == "line":
        return before == after
    return cost <= budget and layout.elements[before].headings == layout.elements[after].headings


def _with_windows(drafter: Drafter, atoms: Sequence[Atom], pieces: Iterable[ChunkDraft]) -> Iterator[ChunkDraft]:
    starts = [atom.start for atom in atoms]
    text = drafter.layout.text
    for piece in pieces:
        first, stop = bisect_right(starts, piece.start) - 1, bisect_left(starts, piece.end)
        left, right = _widened(atoms, first, stop)
        start, end = drafter.layout.trimmed(atoms[left].start, atoms[right - 1].end)
        start, end = min(start, piece.start), max(end, piece.end)
        span = None if (start, end) == (piece.start, piece.end) else (piece.start, piece.end)
        yield replace(piece, text=text[start:end], start=start, end=end, embedded_span=span)


def _widened(atoms: Sequence[Atom], first: int, stop: int) -> tuple[int, int]:
    """``atoms[first:stop]`` with neighbours on both sides, the shorter side first, while they fit; no heading ends it."""
    left, right = first, stop
    before = after = 0
    free = atoms[first].room - sum(atom.cost for atom in atoms[first:stop])
    while True:
        sides = [(before, "left")] if left > 0 and atoms[left - 1].cost <= free else []
        sides += [(after, "right")] if right < len(atoms) and atoms[right].cost <= free else []
        if not sides:
            break
        if min(sides)[1] == "left":
            left -= 1
            before, free = before + atoms[left].cost, free - atoms[left].cost
        else:
            after, free = after + atoms[right].cost, free - atoms[right].cost
            right += 1
    while right > stop and atoms[right - 1].role == "heading":
        right -= 1
    return left, right
