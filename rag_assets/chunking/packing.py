"""Packing atoms into chunks, greedily and in order."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter

from rag_assets.chunking.atoms import Atom

_TINY_SHARE = 4
"""A chunk is tiny below a quarter of the budget: it says little and ranks by chance."""


@dataclass(frozen=True, slots=True)
class Cut:
    """The span of one chunk."""

    start: int
    """Where it starts, the sentences repeated from the chunk before included."""
    own: int
    """Where its own text starts."""
    end: int


def pack(atoms: Iterable[Atom], overlap: int) -> list[Cut]:
    """Fill chunks with whole paragraphs; one is divided if it is over the budget or would leave a tiny chunk.

    Args:
        atoms: of one section, in document order, contiguous, none over its room.
        overlap: cost up to which the last whole sentences of a chunk are repeated in the next one. It
            gives way to a paragraph that needs the room, and never takes more than half a chunk.
    """
    packer = _Packer(overlap)
    for _, group in groupby(atoms, key=attrgetter("block")):
        block = [*group]
        if packer.divides(block):
            for atom in block:
                packer.add([atom])
        else:
            packer.add(block)
    return packer.finish()


class _Packer:
    """The chunks so far, the last of which is being filled."""

    def __init__(self, overlap: int) -> None:
        self._overlap = overlap
        self._starts: list[int] = []
        self._chunks: list[list[Atom]] = []
        self._free = 0
        """What still fits into the last chunk."""

    def divides(self, block: Sequence[Atom]) -> bool:
        """Whether ``block`` is placed atom by atom."""
        cost = _cost(block)
        if not self._chunks:
            return cost > block[0].room
        if cost <= self._free:
            return False
        last = self._chunks[-1]
        tiny = block[0].role == "sentence" and _cost(last) < last[0].room // _TINY_SHARE
        return cost > block[0].room or tiny or all(atom.role == "heading" for atom in last)

    def add(self, piece: Sequence[Atom]) -> None:
        """Append ``piece`` to the last chunk, or open the next one with it."""
        cost = _cost(piece)
        if not self._chunks or cost > self._free:
            piece = [*self._headings_before(piece, cost), *piece]
            cost = _cost(piece)
            start, repeated = self._overlap_before(piece[0], cost)
            self._free = piece[0].room - repeated
            self._starts.append(start)
            self._chunks.append([])
        self._chunks[-1] += piece
        self._free -= cost

    def _headings_before(self, piece: Sequence[Atom], cost: int) -> list[Atom]:
        """Take from the end of the last chunk the headings of what opens the next one, where there is room for them."""
        last = self._chunks[-1] if self._chunks else []
        keep = len(last)
        while keep and last[keep - 1].role == "heading":
            keep -= 1
        headings = last[keep:]
        if not keep or not headings or _cost(headings) + cost > headings[0].room:
            return []
        del last[keep:]
        return headings

    def finish(self) -> list[Cut]:
        """The cuts, after a tiny last chunk has been filled up from the one before."""
        if len(self._chunks) > 1:
            self._fill_last()
        pairs = zip(self._starts, self._chunks, strict=True)
        return [Cut(start, atoms[0].start, atoms[-1].end) for start, atoms in pairs]

    def _fill_last(self) -> None:
        last = self._chunks.pop()
        self._starts.pop()
        before, cost = self._chunks[-1], _cost(last)
        while cost < last[0].room // _TINY_SHARE and len(before) > 1 and before[-1].role != "heading":
            if cost + before[-1].cost > min(_cost(before) - before[-1].cost, before[-1].room):
                break
            last.insert(0, before.pop())
            cost += last[0].cost
        self._starts.append(self._overlap_before(last[0], cost)[0])
        self._chunks.append(last)

    def _overlap_before(self, first: Atom, cost: int) -> tuple[int, int]:
        """Where a chunk that opens with ``first`` and pieces of ``cost`` starts, and the cost of what it repeats."""
        start, repeated = first.start, 0
        if not self._chunks or first.role in ("heading", "line"):
            return start, repeated
        allowed = min(self._overlap, first.room // 2, first.room - cost)
        # Never the whole of the chunk before, which would then say nothing that this one doesn't.
        for atom in reversed(self._chunks[-1][1:]):
            if atom.role != "sentence" or repeated + atom.cost > allowed:
                break
            start, repeated = atom.start, repeated + atom.cost
        return start, repeated


def _cost(atoms: Iterable[Atom]) -> int:
    return sum(atom.cost for atom in atoms)
