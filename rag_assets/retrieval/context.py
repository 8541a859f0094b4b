"""From hits to what a generator reads: neighbours joined, packed into a budget, in reading order. Pure functions.

A passage is a stretch of one document, word for word, made of one hit or of several that overlap or touch; what two of them
share is counted and read once. Passages are given whole or left out whole, and what is left out is named.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from rag_assets.errors import RagAssetsError
from rag_assets.models import Hit

MAX_GAP = 8
"""Characters of white space between two neighbours: a blank line is 2, the next line of indented code a few more."""

Gap = tuple[str, int, int]
"""A document's uri, and where in its text white space begins and ends."""


@dataclass(frozen=True, slots=True)
class ContextPassage:
    """A stretch of one document, word for word."""

    document: str
    """The document's uri."""
    text: str
    hits: tuple[Hit, ...]
    """What it is made of, in reading order."""
    start: int | None = None
    """Where in the document's text it begins (characters); None where the hits don't say."""
    end: int | None = None

    @property
    def rank(self) -> int:
        """Rank of the best hit in it."""
        return min(hit.rank for hit in self.hits)

    @property
    def parts(self) -> list[tuple[int, Hit]]:
        """The text from one end to the other as (first character, best hit that holds what begins there)."""
        spans = [(hit, *(_span(hit) or (0, len(self.text)))) for hit in self.hits]
        origin = self.start or 0
        parts: list[tuple[int, Hit]] = []
        for place in sorted({edge for _, start, end in spans for edge in (start, end)}):
            holding = [hit for hit, start, end in spans if start <= place < end]
            best = min(holding, key=lambda hit: hit.rank, default=None)
            if best is not None and (not parts or parts[-1][1] is not best):
                parts.append((place - origin, best))
        return parts

    @property
    def duplicates(self) -> list[str]:
        """Documents that say next to nothing else, and were left out for it."""
        return list(dict.fromkeys(name for hit in self.hits for name in hit.duplicates))

    @property
    def headings(self) -> tuple[str, ...]:
        """The headings it begins under, outermost first."""
        return tuple(self.hits[0].metadata.get("headings") or ())


@dataclass(frozen=True, slots=True)
class Context:
    """What a generator is given, and what not."""

    passages: tuple[ContextPassage, ...] = ()
    """In reading order: documents by their best hit, within a document by position."""
    left_out: tuple[Hit, ...] = ()
    """Hits that should have been in it and did not fit, best first."""
    used: int = 0
    """Size of the passages, in the unit of ``budget``."""
    budget: int = 0

    @property
    def hits(self) -> tuple[Hit, ...]:
        """All hits in it, in reading order."""
        return tuple(hit for passage in self.passages for hit in passage.hits)


Size = Callable[[Sequence[ContextPassage]], Sequence[int]]
"""How much of the budget each passage takes."""


def assemble(
    hits: Sequence[Hit],
    *,
    places: int,
    budget: int,
    size: Size,
    gaps: Mapping[Gap, str] | None = None,
    fill: bool = False,
) -> Context:
    """Pack the first ``places`` hits, and with ``fill`` as many further ones as the budget holds.

    Hits are tried in the order given; one that would overrun the budget is passed over, and a later one may still fit.

    Args:
        hits: best first, each chunk once.
        places: hits that are wanted.
        budget: what all passages may take together.
        size: what each of some passages takes.
        gaps: the white space between neighbours that don't touch (see ``open_gaps``).
        fill: go on to the hits behind ``places`` while there is room.

    Raises:
        RagAssetsError: not even one hit fits; it names both sizes and the settings that cure it.
    """
    chosen: dict[str, list[Hit]] = {}
    joined: dict[str, list[ContextPassage]] = {}
    sizes: dict[str, int] = {}
    left_out: list[Hit] = []
    smallest = 0
    for place, hit in enumerate(hits if fill else hits[:places]):
        members = [*chosen.get(hit.document, ()), hit]
        passages = join(members, gaps or {})
        takes = sum(size(passages))
        if sum(sizes.values()) - sizes.get(hit.document, 0) + takes <= budget:
            chosen[hit.document], joined[hit.document], sizes[hit.document] = members, passages, takes
        elif place < places:
            left_out.append(hit)
            smallest = min(takes, smallest or takes)
    if left_out and not chosen:
        raise RagAssetsError(
            f"No passage fits the prompt: the shortest takes {smallest} tokens with its source line, and "
            f"answers.context_tokens allows {budget}. Raise answers.context_tokens to at least {smallest}, "
            "or lower chunking.max_tokens and sync again."
        )
    in_order = sorted(joined.values(), key=lambda passages: min(passage.rank for passage in passages))
    return Context(
        tuple(passage for passages in in_order for passage in passages), tuple(left_out), sum(sizes.values()), budget
    )


def join(hits: Sequence[Hit], gaps: Mapping[Gap, str]) -> list[ContextPassage]:
    """Passages of one document's hits, in reading order; hits that overlap or touch are one passage.

    Two hits whose offsets and texts contradict each other (the document changed between two looks at it) stay apart.
    """
    placed = sorted((hit for hit in hits if _span(hit) is not None), key=lambda hit: (_span(hit), hit.chunk_id))
    passages: list[ContextPassage] = []
    for hit in placed:
        span = _span(hit)
        assert span is not None
        longer = _extended(passages[-1], hit, span, gaps) if passages else None
        if longer is not None:
            passages[-1] = longer
        else:
            passages.append(ContextPassage(hit.document, hit.text, (hit,), *span))
    return passages + [ContextPassage(hit.document, hit.text, (hit,)) for hit in hits if _span(hit) is None]


def open_gaps(hits: Sequence[Hit]) -> list[Gap]:
    """The white space between hits that follow one another in a document but don't touch: chunks are trimmed.

    Its characters are in no hit. Whoever can look them up makes neighbours of those hits.
    """
    placed = sorted(
        ((hit.document, span, hit) for hit in hits if (span := _span(hit)) is not None), key=lambda item: item[:2]
    )
    return [
        (document, before[1], after[0])
        for (document, before, first), (other, after, second) in pairwise(placed)
        if document == other
        and 0 < after[0] - before[1] <= MAX_GAP
        and second.metadata.get("position") == first.metadata.get("position", -2) + 1
    ]


def _span(hit: Hit) -> tuple[int, int] | None:
    """Where a hit stands in its document, if that is known and can be true."""
    start, end = hit.metadata.get("start"), hit.metadata.get("end")
    if not isinstance(start, int) or not isinstance(end, int) or end - start != len(hit.text):
        return None
    return start, end


def _extended(
    passage: ContextPassage, hit: Hit, span: tuple[int, int], gaps: Mapping[Gap, str]
) -> ContextPassage | None:
    """The passage with a hit that begins inside it, at its end, or behind known white space; else None."""
    assert passage.start is not None
    assert passage.end is not None
    start, end = span
    between = gaps.get((hit.document, passage.end, start), "") if start > passage.end else ""
    if start > passage.end and (len(between) != start - passage.end or not between.isspace()):
        return None
    shared = max(0, passage.end - start)
    offset = start - passage.start
    if shared and passage.text[offset : offset + len(hit.text)] != hit.text[:shared]:
        return None
    text = passage.text + between + hit.text[shared:]
    return ContextPassage(passage.document, text, (*passage.hits, hit), passage.start, max(passage.end, end))
