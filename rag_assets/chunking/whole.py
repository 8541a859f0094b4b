"""The ``whole`` strategy: a document is one chunk; one longer than the model reads is cut into as few as fit."""

from collections.abc import Iterable, Iterator, Sequence

from rag_assets.chunking.atoms import Atom
from rag_assets.chunking.drafting import Drafter
from rag_assets.chunking.layout import common_path
from rag_assets.chunking.packing import Cut
from rag_assets.models import ChunkDraft, ParsedDocument, TokenCounter
from rag_assets.settings import ChunkingSettings


def chunk_whole(document: ParsedDocument, settings: ChunkingSettings, counter: TokenCounter) -> list[ChunkDraft]:
    """Cut ``document``; what holds for the result is said at ``chunk_document``, with what the model reads as budget."""
    drafter = Drafter(document, settings, counter, limit=counter.max_tokens)
    path = common_path(element.headings for element in drafter.layout.elements)
    if sum(drafter.measured.costs) <= drafter.room(path):
        return drafter.drafts([Cut(0, 0, len(drafter.layout.text))])
    return drafter.drafts([*_filled(drafter, drafter.atoms())])


def _filled(drafter: Drafter, atoms: Iterable[Atom]) -> Iterator[Cut]:
    """Each chunk takes as many whole sentences as fit; a heading goes with what it heads."""
    layout, measured = drafter.layout, drafter.measured
    chunk: list[Atom] = []
    cost = header = 0
    path: tuple[str, ...] = ()
    for unit in _units(atoms):
        first, last = layout.element_at(unit[0].start), layout.element_at(unit[-1].start)
        own = common_path(element.headings for element in layout.elements[first : last + 1])
        shared, longer = common_path([path, own]), cost + sum(atom.cost for atom in unit)
        if chunk and longer + header <= drafter.room(shared):
            path, cost = shared, longer
        else:
            if chunk:
                yield _cut(chunk)
            chunk, path, cost = [], own, longer - cost
            header = measured.rooms[first] - unit[0].room
        chunk += unit
    if chunk:
        yield _cut(chunk)


def _units(atoms: Iterable[Atom]) -> Iterator[Sequence[Atom]]:
    """Headings with the atom after them, where both fit a chunk; every other atom alone."""
    headings: list[Atom] = []
    for atom in atoms:
        together = [*headings, atom]
        if sum(part.cost for part in together) > together[0].room:
            yield from ([heading] for heading in headings)
            together = [atom]
        if atom.role == "heading":
            headings = together
            continue
        yield together
        headings = []
    if headings:
        yield headings


def _cut(atoms: Sequence[Atom]) -> Cut:
    return Cut(atoms[0].start, atoms[0].start, atoms[-1].end)
