"""The ``recursive`` strategy: sections, then paragraphs, sentences, words and characters, down to a token budget.

Elements under one heading form a section; small neighbouring sections are merged; one over the budget is cut where it
hurts least. Everything is measured in bulk: elements once, the atoms of long sections once, finished chunks once.
"""

from collections.abc import Sequence
from itertools import pairwise

from rag_assets.chunking.atoms import cut_elements, cut_in_two
from rag_assets.chunking.context import ContextFitter, heading_line
from rag_assets.chunking.cost import CostMeter
from rag_assets.chunking.layout import Layout, common_path
from rag_assets.chunking.packing import Cut, pack
from rag_assets.chunking.sections import Section, merge_small, sections_of
from rag_assets.errors import ConfigurationError
from rag_assets.models import ChunkDraft, ParsedDocument, TokenCounter
from rag_assets.settings import ChunkingSettings


def chunk_recursively(document: ParsedDocument, settings: ChunkingSettings, counter: TokenCounter) -> list[ChunkDraft]:
    """Cut ``document``; what holds for the result is said at ``chunk_document``."""
    return _Chunker(document, settings, CostMeter(counter, settings.max_tokens)).chunks()


class _Chunker:
    """One document being cut."""

    def __init__(self, document: ParsedDocument, settings: ChunkingSettings, meter: CostMeter) -> None:
        self._layout = Layout(document)
        self._settings = settings
        self._meter = meter
        self._contexts = ContextFitter(meter)

    def chunks(self) -> list[ChunkDraft]:
        """The finished chunks in document order."""
        elements = range(len(self._layout.elements))
        costs = self._meter.costs([self._layout.owned(index) for index in elements])
        sections = merge_small(sections_of(self._layout.elements, costs, self._rooms()))
        return self._without_stale_overlaps(self._drafts(self._cuts(sections)))

    def _rooms(self) -> list[int]:
        """What fits into a chunk under each element's heading path: the longest context it can get is left free."""
        lines = [self._line(element.headings) for element in self._layout.elements]
        self._contexts.prepare(lines)
        budget = self._meter.limit - self._meter.special
        return [budget - self._contexts.cost(line) for line in lines]

    def _line(self, headings: Sequence[str], opening: frozenset[str] = frozenset()) -> str:
        return heading_line(self._layout.title, headings, opening) if self._settings.contextual else ""

    def _cuts(self, sections: Sequence[Section]) -> list[Cut]:
        """One cut for a section that fits, several for one that doesn't."""
        starts = self._layout.starts
        cuts = [Cut(starts[s.first], starts[s.first], starts[s.stop]) for s in sections if s.cost <= s.room]
        long = [section for section in sections if section.cost > section.room]
        spans = [(index, section.room) for section in long for index in range(section.first, section.stop)]
        atoms = cut_elements(self._layout, spans, self._header_costs(spans), self._meter)
        at = 0
        for section in long:
            begin = at
            while at < len(atoms) and atoms[at].start < starts[section.stop]:
                at += 1
            cuts += pack(atoms[begin:at], self._settings.overlap_tokens)
        return cuts

    def _header_costs(self, spans: Sequence[tuple[int, int]]) -> list[int]:
        costs = [0] * len(self._layout.elements)
        if self._settings.contextual:
            rows = {index: self._layout.header_row(index) for index, _ in spans}
            self._contexts.prepare(rows.values())
            for index, row in rows.items():
                costs[index] = self._contexts.cost(row)
        return costs

    def _without_stale_overlaps(self, drafts: list[tuple[Cut, ChunkDraft]]) -> list[ChunkDraft]:
        """Drop overlaps that hold a whole chunk: it was cut from a longer one when that was measured."""
        while True:
            nested = [False, *(after[1].start <= before[1].start for before, after in pairwise(drafts))]
            if not any(nested):
                return [draft for _, draft in drafts]
            stale = [Cut(cut.own, cut.own, cut.end) for (cut, _), inside in zip(drafts, nested, strict=False) if inside]
            kept = [pair for pair, inside in zip(drafts, nested, strict=False) if not inside]
            drafts = sorted([*kept, *self._drafts(stale)], key=_place)

    def _drafts(self, cuts: Sequence[Cut]) -> list[tuple[Cut, ChunkDraft]]:
        """Measure the chunks as they will be embedded.

        Costs add up exactly for WordPiece but not for every tokenizer, so one that turns out too long is made shorter
        and measured again.
        """
        trimmed = [(cut, *self._layout.trimmed(cut.start, cut.end)) for cut in cuts]
        spans = [(cut, start, end) for cut, start, end in trimmed if start < end]
        if not spans:
            return []
        contexts = self._context_lines([(start, end) for _, start, end in spans])
        texts = [
            f"{context}\n{self._layout.text[start:end]}" if context else self._layout.text[start:end]
            for context, (_, start, end) in zip(contexts, spans, strict=True)
        ]
        drafts: list[tuple[Cut, ChunkDraft]] = []
        shorter: list[Cut] = []
        for (cut, start, end), context, tokens in zip(spans, contexts, self._meter.tokens(texts), strict=True):
            if tokens <= self._meter.limit:
                drafts.append((cut, self._draft(start, end, context, tokens)))
            else:
                shorter += self._shortened(cut, start, end)
        return sorted([*drafts, *self._drafts(shorter)], key=_place)

    def _shortened(self, cut: Cut, start: int, end: int) -> list[Cut]:
        """The chunk without its overlap; one that has none in parts."""
        if cut.start < cut.own:
            return [Cut(cut.own, cut.own, cut.end)]
        if end - start > 1:
            return [Cut(a, a, b) for a, b in cut_in_two(self._layout.text, start, end)]
        raise ConfigurationError(
            f"chunking.max_tokens = {self._settings.max_tokens} is too small for the single character "
            f"{self._layout.text[start:end]!r} and its context. Raise chunking.max_tokens."
        )

    def _context_lines(self, spans: Sequence[tuple[int, int]]) -> list[str]:
        """For each span the heading line, and the header row where it opens further down in a table."""
        lines, headers = [], []
        for start, end in spans:
            path = common_path(element.headings for element in self._layout.elements_of(start, end))
            lines.append(self._line(path, frozenset(self._layout.opening_titles(start, end))))
            first = self._layout.element_at(start)
            header = self._layout.header_row(first) if self._settings.contextual else ""
            headers.append(header if start >= self._layout.starts[first] + len(header) else "")
        self._contexts.prepare([*lines, *headers])
        parts = [
            (self._contexts.line(line), self._contexts.line(header))
            for line, header in zip(lines, headers, strict=True)
        ]
        return ["\n".join(part for part in pair if part) for pair in parts]

    def _draft(self, start: int, end: int, context: str, tokens: int) -> ChunkDraft:
        elements = self._layout.elements_of(start, end)
        return ChunkDraft(
            text=self._layout.text[start:end],
            start=start,
            end=end,
            headings=common_path(element.headings for element in elements),
            page=elements[0].page,
            kinds=tuple(dict.fromkeys(element.kind for element in elements)),
            context=context,
            tokens=tokens,
        )


def _place(pair: tuple[Cut, ChunkDraft]) -> int:
    return pair[1].end
