"""The ``sliding`` strategy: windows of a fixed number of tokens over the words of a document, each overlapping the last.

The baseline other strategies are measured against: it looks at no heading, paragraph, table or code.
"""

from collections.abc import Sequence

from rag_assets.chunking.atoms import Atom
from rag_assets.chunking.drafting import Drafter
from rag_assets.chunking.packing import Cut
from rag_assets.models import ChunkDraft, ParsedDocument, TokenCounter
from rag_assets.settings import ChunkingSettings


def chunk_by_sliding(document: ParsedDocument, settings: ChunkingSettings, counter: TokenCounter) -> list[ChunkDraft]:
    """Cut ``document``; what holds for the result is said at ``chunk_document``."""
    drafter = Drafter(document, settings, counter)
    return drafter.drafts(_windows(drafter.words(), settings.overlap_tokens))


def _windows(words: Sequence[Atom], overlap: int) -> list[Cut]:
    """Windows that are as long as they can be; the words repeated take at most half of one."""
    cuts: list[Cut] = []
    first = own = 0
    while own < len(words):
        cost, stop = 0, first
        while stop < len(words) and cost + words[stop].cost <= words[first].room:
            cost += words[stop].cost
            stop += 1
        cuts.append(Cut(words[first].start, words[own].start, words[stop - 1].end))
        first, own = _next_start(words, first, stop, overlap), stop
    return cuts


def _next_start(words: Sequence[Atom], first: int, stop: int, overlap: int) -> int:
    """Where the window after ``words[first:stop]`` begins: it repeats at most ``overlap``, and holds the next word."""
    if stop == len(words):
        return stop
    start, repeated = stop, 0
    while start - 1 > first:
        cost, room = repeated + words[start - 1].cost, words[start - 1].room
        if cost > min(overlap, room // 2) or cost + words[stop].cost > room:
            break
        start, repeated = start - 1, cost
    return start
