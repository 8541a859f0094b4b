"""Evidence recall at a fixed context: the only fair comparison between chunks of different sizes.

Ten large chunks hold more of a document than ten small ones, whatever they were chosen by. So what counts is how many of the gold
quote's characters are among the first so many characters that the ranking brings.
"""

import re
from collections.abc import Mapping, Sequence

from rag_assets.evaluation.golden.questions import Label, is_unspaced
from rag_assets.models import Hit

CONTEXT_CHARACTERS = 4000
"""About 900 tokens of English."""

CONTEXT_EVIDENCE = "context_evidence_recall"
"""The name of this metric among the scores."""

Span = tuple[int, int]


def evidence_in_context(
    labels: Sequence[Label], texts: Mapping[str, str], hits: Sequence[Hit], characters: int = CONTEXT_CHARACTERS
) -> float | None:
    """:func:`context_evidence_recall` of the context of a fixed size that hits give, best first."""
    return context_evidence_recall(labels, first_characters(hits, characters), texts)


def first_characters(hits: Sequence[Hit], characters: int) -> dict[str, list[Span]]:
    """The context of a fixed size that hits give, best first: spans of the text by document.

    Characters that several chunks share count once; the last chunk is cut, so that no chunk size is at an advantage. Hits that
    don't say where they stand in their document are passed over.
    """
    spans: dict[str, list[Span]] = {}
    left = characters
    for hit in sorted(hits, key=lambda hit: hit.rank):
        start, end = hit.metadata.get("start"), hit.metadata.get("end")
        if start is None or end is None:
            continue
        known = spans.setdefault(hit.document, [])
        for gap_start, gap_end in _uncovered((start, end), known):
            taken = min(left, gap_end - gap_start)
            left -= taken
            if taken:
                known.append((gap_start, gap_start + taken))
    return spans


def _uncovered(place: Span, spans: Sequence[Span]) -> list[Span]:
    """The parts of a place that lie in none of the spans."""
    parts, reached = [], place[0]
    for start, end in sorted(spans):
        if reached < min(start, place[1]):
            parts.append((reached, min(start, place[1])))
        reached = max(reached, end)
    if reached < place[1]:
        parts.append((reached, place[1]))
    return parts


def locate_quote(quote: str, text: str) -> list[Span]:
    """Every place (start, end) where ``quote`` stands in ``text``, its words whole: character by character, else its words
    with anything but words between them, case apart."""
    words = re.findall(r"[^\W_]+", quote)
    before = r"(?<![^\W_])" if quote[:1].isalnum() and not is_unspaced(quote[0]) else ""
    after = r"(?![^\W_])" if quote[-1:].isalnum() and not is_unspaced(quote[-1]) else ""
    for pattern in (re.escape(quote), r"[\W_]+".join(map(re.escape, words))):
        found = re.finditer(before + pattern + after, text, re.IGNORECASE) if pattern else ()
        if places := [(match.start(), match.end()) for match in found]:
            return places
    return []


def context_evidence_recall(
    labels: Sequence[Label], context: Mapping[str, Sequence[Span]], texts: Mapping[str, str]
) -> float | None:
    """Share of the labels' quoted characters that a context holds; of a quote that stands in several places, in the best one.

    As the recall of Smith and Troynikov, "Evaluating Chunking Strategies for Retrieval" (Chroma 2024), for a context of fixed
    size: it is what an answer can rest on, however the documents are cut.

    Args:
        labels: quotes are looked for in the document's text; one that is not there counts for nothing.
        context: by document, the spans of its text that are given to a generator.
        texts: by document, its text.

    Returns:
        0 … 1; None if no relevant label has a quote that its document holds.
    """
    wanted = held = 0
    for document, quote in {(label.document, label.quote) for label in labels if label.quote and label.grade > 0}:
        places = locate_quote(quote or "", texts.get(document, ""))
        if places:
            best = max(places, key=lambda place: _held(place, context.get(document, ())) / (place[1] - place[0]))
            wanted += best[1] - best[0]
            held += _held(best, context.get(document, ()))
    return held / wanted if wanted else None


def _held(place: Span, spans: Sequence[Span]) -> int:
    """Characters of a place that lie in one of the spans."""
    return place[1] - place[0] - sum(end - start for start, end in _uncovered(place, spans))
