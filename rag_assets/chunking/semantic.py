"""The ``semantic`` strategy: a document is cut where what stands before and what comes after are least alike.

After Kamradt's "semantic chunking": the sentences on both sides of every gap are embedded, two by two, and the widest gaps of
the document become borders. Segments over the budget are packed as the recursive strategy packs a section; small ones join
the neighbour they are nearer to.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from rag_assets.chunking.atoms import Atom
from rag_assets.chunking.drafting import Drafter
from rag_assets.chunking.packing import Cut, pack
from rag_assets.errors import RagAssetsError
from rag_assets.models import ChunkDraft, DocumentEncoder, ParsedDocument, TokenCounter
from rag_assets.settings import ChunkingSettings

_SMALL_SHARE = 4
"""A segment is small below a quarter of the budget: alone it would be a chunk that says little."""


@dataclass(frozen=True, slots=True)
class _Segment:
    first: int
    stop: int
    """Its atoms are those from ``first`` up to, not including, ``stop``."""
    cost: int
    room: int
    gap: float
    """Cosine distance between it and the one before."""

    @property
    def is_small(self) -> bool:
        return self.cost < self.room // _SMALL_SHARE


def chunk_by_meaning(document: ParsedDocument, settings: ChunkingSettings, counter: TokenCounter) -> list[ChunkDraft]:
    """Cut ``document``; what holds for the result is said at ``chunk_document``.

    Raises:
        RagAssetsError: ``counter`` only counts.
    """
    if not isinstance(counter, DocumentEncoder):
        raise RagAssetsError("chunking.strategy = 'semantic' needs an embedder; something that only counts was given.")
    drafter = Drafter(document, settings, counter)
    atoms = drafter.atoms()
    distances = _distances(drafter, atoms, counter)
    cuts: list[Cut] = []
    for segment in _joined(_segments(atoms, distances, settings.breakpoint_percentile)):
        members = atoms[segment.first : segment.stop]
        if segment.cost <= segment.room:
            cuts.append(Cut(members[0].start, members[0].start, members[-1].end))
        else:
            cuts += pack(members, settings.overlap_tokens)
    return drafter.drafts(cuts)


def _distances(drafter: Drafter, atoms: Sequence[Atom], encoder: DocumentEncoder) -> list[float]:
    """For every gap between two atoms the cosine distance between the two before and the two after it.

    -1 after a heading, which is never cut off from what it heads. Nothing longer than the model reads is embedded: of two
    atoms that are too long together, the one next to the gap stands for both.
    """
    if len(atoms) < 2:
        return []
    gaps = range(1, len(atoms))
    sides = [(max(0, gap - 2), gap, gap - 1) for gap in gaps] + [(gap, min(len(atoms), gap + 2), gap) for gap in gaps]
    text = drafter.layout.text
    pairs = [text[atoms[first].start : atoms[stop - 1].end].strip() for first, stop, _ in sides]
    singles = [text[atoms[near].start : atoms[near].end].strip() for _, _, near in sides]
    unique = [*dict.fromkeys(pairs)]
    # By cost, not tokens: a text is no longer than any chunk, so that tokenizing it stays cheap.
    fits = dict(zip(unique, (cost <= drafter.budget for cost in drafter.meter.costs(unique)), strict=True))
    texts = [pair if fits[pair] else single for pair, single in zip(pairs, singles, strict=True)]
    embedded = [*dict.fromkeys(texts)]
    row = {item: number for number, item in enumerate(embedded)}
    vectors = encoder.embed_documents(embedded)
    before, after = texts[: len(gaps)], texts[len(gaps) :]
    cosines = np.einsum("ij,ij->i", vectors[[row[item] for item in before]], vectors[[row[item] for item in after]])
    return [
        -1.0 if atoms[gap - 1].role == "heading" else max(0.0, 1.0 - float(cosine))
        for gap, cosine in zip(gaps, cosines, strict=True)
    ]


def _segments(atoms: Sequence[Atom], distances: Sequence[float], percentile: float) -> Iterator[_Segment]:
    """The atoms cut at every gap wider than the percentile of the document's gaps."""
    measured = [distance for distance in distances if distance >= 0]
    widest = float(np.percentile(measured, percentile, method="higher")) if measured else 0.0
    borders = [gap for gap, distance in enumerate(distances, start=1) if distance > widest]
    for first, stop in zip([0, *borders], [*borders, len(atoms)], strict=True):
        if first < stop:
            cost = sum(atom.cost for atom in atoms[first:stop])
            yield _Segment(first, stop, cost, atoms[first].room, distances[first - 1] if first else 0.0)


def _joined(found: Iterator[_Segment]) -> list[_Segment]:
    """Small segments joined with the nearer of their neighbours, where both fit one chunk."""
    segments = [*found]
    joined: list[_Segment] = []
    for number, segment in enumerate(segments):
        after = segments[number + 1] if number + 1 < len(segments) else None
        nearer_to_next = after is not None and after.gap < segment.gap and segment.cost + after.cost <= segment.room
        before = joined[-1] if joined else None
        if (
            before is not None
            and before.cost + segment.cost <= before.room
            and (before.is_small or (segment.is_small and not nearer_to_next))
        ):
            joined[-1] = _Segment(before.first, segment.stop, before.cost + segment.cost, before.room, before.gap)
        else:
            joined.append(segment)
    return joined
