"""From spans of a document to finished chunks: each measured as it will be embedded, none over the budget.

What all strategies share. Everything is measured in bulk: elements once, atoms once, finished chunks once.
"""

from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import pairwise

from rag_assets.chunking.atoms import Atom, Measured, cut_elements, cut_in_two, cut_words
from rag_assets.chunking.context import ContextFitter, heading_line
from rag_assets.chunking.cost import CostMeter
from rag_assets.chunking.layout import Layout, common_path
from rag_assets.chunking.packing import Cut
from rag_assets.errors import ConfigurationError
from rag_assets.models import ChunkDraft, ParsedDocument, TokenCounter
from rag_assets.settings import ChunkingSettings


class Drafter:
    """One document being cut."""

    def __init__(
        self, document: ParsedDocument, settings: ChunkingSettings, counter: TokenCounter, limit: int | None = None
    ) -> None:
        """``limit``: tokens of the longest chunk, special ones included; None: ``settings.max_tokens``."""
        self.layout = Layout(document)
        self.meter = CostMeter(counter, limit or settings.max_tokens)
        self._contextual = settings.contextual
        self._contexts = ContextFitter(self.meter)

    @property
    def budget(self) -> int:
        """What a chunk may cost, context included."""
        return self.meter.limit - self.meter.special

    @cached_property
    def measured(self) -> Measured:
        """What the elements cost. The longest context each can get is left free in its room."""
        elements = range(len(self.layout.elements))
        costs = self.meter.costs([self.layout.owned(index) for index in elements])
        lines = [self._line(element.headings) for element in self.layout.elements]
        self._contexts.prepare(lines)
        rooms = [self.budget - self._contexts.cost(line) for line in lines]
        rows = [
            self.layout.header_row(index) if cost > room else ""
            for index, cost, room in zip(elements, costs, rooms, strict=True)
        ]
        self._contexts.prepare(rows)
        return Measured(costs, rooms, [self._contexts.cost(row) for row in rows])

    def room(self, headings: Sequence[str]) -> int:
        """What fits into a chunk whose elements share this heading path."""
        line = self._line(headings)
        self._contexts.prepare([line])
        return self.budget - self._contexts.cost(line)

    def atoms(self, spans: Iterable[tuple[int, int]] | None = None) -> list[Atom]:
        """Sentences, rows, lines, and tables and code that fit a chunk; of all elements or of some ``(element, room)``."""
        chosen = enumerate(self.measured.rooms) if spans is None else spans
        return cut_elements(self.layout, chosen, self.measured, self.meter)

    def words(self) -> list[Atom]:
        """The words of the document."""
        return cut_words(self.layout, self.measured, self.meter)

    def drafts(self, cuts: Sequence[Cut]) -> list[ChunkDraft]:
        """The finished chunks in document order."""
        return self._without_stale_overlaps(self._drafts(cuts))

    def _line(self, headings: Sequence[str], opening: frozenset[str] = frozenset()) -> str:
        return heading_line(self.layout.title, headings, opening) if self._contextual else ""

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
        trimmed = [(cut, *self.layout.trimmed(cut.start, cut.end)) for cut in cuts]
        # Indentation alone is no chunk, nor is it one with what it repeats of the chunk before.
        spans = [(cut, start, end) for cut, start, end in trimmed if self.layout.text[cut.own : cut.end].strip()]
        if not spans:
            return []
        contexts = self._context_lines([(start, end) for _, start, end in spans])
        texts = [
            f"{context}\n{self.layout.text[start:end]}" if context else self.layout.text[start:end]
            for context, (_, start, end) in zip(contexts, spans, strict=True)
        ]
        drafts: list[tuple[Cut, ChunkDraft]] = []
        shorter: list[Cut] = []
        for (cut, start, end), context, tokens in zip(spans, contexts, self.meter.tokens(texts), strict=True):
            if tokens <= self.meter.limit:
                drafts.append((cut, self._draft(start, end, context, tokens)))
            else:
                shorter += self._shortened(cut, start, end)
        return sorted([*drafts, *self._drafts(shorter)], key=_place)

    def _shortened(self, cut: Cut, start: int, end: int) -> list[Cut]:
        """The chunk without its overlap; one that has none in parts."""
        if cut.start < cut.own:
            return [Cut(cut.own, cut.own, cut.end)]
        if end - start > 1:
            return [Cut(a, a, b) for a, b in cut_in_two(self.layout, start, end)]
        raise ConfigurationError(
            f"chunking.max_tokens = {self.meter.limit} is too small for the single character "
            f"{self.layout.text[start:end]!r} and its context. Raise chunking.max_tokens."
        )

    def _context_lines(self, spans: Sequence[tuple[int, int]]) -> list[str]:
        """For each span the heading line, and the header row where it opens further down in a table."""
        lines, headers = [], []
        for start, end in spans:
            path = common_path(element.headings for element in self.layout.elements_of(start, end))
            lines.append(self._line(path, frozenset(self.layout.opening_titles(start, end))))
            first = self.layout.element_at(start)
            # Rows without their header say little, so it is repeated with or without heading paths.
            header = self.layout.header_row(first)
            headers.append(header if start >= self.layout.starts[first] + len(header) else "")
        self._contexts.prepare([*lines, *headers])
        parts = [
            (self._contexts.line(line), self._contexts.line(header))
            for line, header in zip(lines, headers, strict=True)
        ]
        return ["\n".join(part for part in pair if part) for pair in parts]

    def _draft(self, start: int, end: int, context: str, tokens: int) -> ChunkDraft:
        elements = self.layout.elements_of(start, end)
        return ChunkDraft(
            text=self.layout.text[start:end],
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
