"""The ``recursive`` strategy: sections, then paragraphs, sentences, words and characters, down to a token budget.

Elements under one heading form a section; small neighbouring sections are merged; one over the budget is cut where it
hurts least.
"""

from collections.abc import Sequence

from rag_assets.chunking.drafting import Drafter
from rag_assets.chunking.packing import Cut, pack
from rag_assets.chunking.sections import Section, merge_small, sections_of
from rag_assets.models import ChunkDraft, ParsedDocument, TokenCounter
from rag_assets.settings import ChunkingSettings


def chunk_recursively(document: ParsedDocument, settings: ChunkingSettings, counter: TokenCounter) -> list[ChunkDraft]:
    """Cut ``document``; what holds for the result is said at ``chunk_document``."""
    drafter = Drafter(document, settings, counter)
    measured = drafter.measured
    sections = merge_small(sections_of(drafter.layout.elements, measured.costs, measured.rooms))
    return drafter.drafts(_cuts(drafter, sections, settings.overlap_tokens))


def _cuts(drafter: Drafter, sections: Sequence[Section], overlap: int) -> list[Cut]:
    """One cut for a section that fits, several for one that doesn't."""
    starts = drafter.layout.starts
    cuts = [Cut(starts[s.first], starts[s.first], starts[s.stop]) for s in sections if s.cost <= s.room]
    long = [section for section in sections if section.cost > section.room]
    atoms = drafter.atoms((index, section.room) for section in long for index in range(section.first, section.stop))
    at = 0
    for section in long:
        begin = at
        while at < len(atoms) and atoms[at].start < starts[section.stop]:
            at += 1
        cuts += pack(atoms[begin:at], overlap)
    return cuts
