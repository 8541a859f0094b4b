"""Evidence recall at a fixed context: the only fair comparison between chunks of different sizes.

Ten large chunks hold more of a document than ten small ones, whatever they were chosen by. So what counts is how many of the gold
quote's characters are among the first so many characters that the ranking brings.
"""

import re
import unicodedata
from collections.abc import Mapping, Sequence

from rag_assets.evaluation.questions import Label
from rag_assets.models import Hit

CONTEXT_CHARACTERS = 4000
"""About 900 tokens of English."""

Span = tuple[int, int]

_WORD = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]"
    "|[^\\W_\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]+"
)
"""A word; a character of a script without spaces."""


def quote_spans(quote: str, text: str) -> list[Span]:
    """Where a quote stands in a document: as it is, else by its words alone, whatever stands between them and in any case."""
    if quote.strip() and quote in text:
        return [(match.start(), match.end()) for match in re.finditer(re.escape(quote), text)]
    wanted = [_folded(match.group()) for match in _WORD.finditer(quote)]
    found = [(_folded(match.group()), match.start(), match.end()) for match in _WORD.finditer(text)]
    if not wanted:
        return []
    return [
        (found[at][1], found[at + len(wanted) - 1][2])
        for at in range(len(found) - len(wanted) + 1)
        if found[at][0] == wanted[0] and [word for word, _, _ in found[at : at + len(wanted)]] == wanted
    ]


def evidence_in_context(
    labels: Sequence[Label], texts: Mapping[str, str], hits: Sequence[Hit], characters: int = CONTEXT_CHARACTERS
) -> float | None:
    """Share of the quotes' characters in a context of that many characters, filled by rank.

    A character that an earlier hit brought is not paid for again, as it is not given to a model twice; the last hit is cut
    where the context is full. Of a quote that stands in its document several times, the place seen best counts.

    Args:
        labels: of one question; those without a quote, or of no grade, are left out.
        texts: the text of every labelled document.
        hits: chunks, best first by ``rank``, whose metadata say where in the document they ``start`` and ``end``.
        characters: size of the context.

    Returns:
        None if no label has a quote that is found in its document's text.
    """
    seen = _context(hits, characters)
    total = covered = 0
    for document, quote in {(label.document, label.quote) for label in labels if label.quote and label.grade > 0}:
        places = quote_spans(quote, texts.get(document, ""))
        if places:
            spans = seen.get(document, [])
            _, best, length = max((_overlap(place, spans) / (place[1] - place[0]), _overlap(place, spans), place[1] - place[0])
                                  for place in places)  # fmt: skip
            covered, total = covered + best, total + length
    return covered / total if total else None


def _context(hits: Sequence[Hit], characters: int) -> dict[str, list[Span]]:
    """Disjoint spans by document that fill the context."""
    seen: dict[str, list[Span]] = {}
    for hit in sorted(hits, key=lambda hit: hit.rank):
        spans = seen.setdefault(hit.document, [])
        for start, end in _without((int(hit.metadata["start"]), int(hit.metadata["end"])), spans):
            taken = min(end - start, characters)
            if taken:
                spans.append((start, start + taken))
                characters -= taken
        if not characters:
            break
    return seen


def _without(span: Span, spans: Sequence[Span]) -> list[Span]:
    """What is left of a span without others, in order."""
    start, end = span
    left = []
    for other_start, other_end in sorted(spans):
        if start < other_start < end:
            left.append((start, other_start))
        if other_start < end and start < other_end:
            start = max(start, other_end)
    return [*left, (start, end)] if start < end else left


def _overlap(span: Span, spans: Sequence[Span]) -> int:
    """Characters of ``span`` in disjoint ``spans``."""
    return sum(max(0, min(span[1], end) - max(span[0], start)) for start, end in spans)


def _folded(word: str) -> str:
    return unicodedata.normalize("NFKC", word).casefold()
