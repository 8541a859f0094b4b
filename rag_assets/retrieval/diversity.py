"""Diversity of a ranking: one passage of those that say the same, and no document that fills every place. Pure functions.

Nothing is lost silently: a hit that stands for others names their documents, and hits beyond a document's share go behind the
others instead of away.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from rag_assets.models import Hit

POOL = 50
"""Hits looked at where fewer are wanted: deep enough that other documents, or other texts, are among them."""
FEW_DOCUMENTS = 5
"""With fewer documents among the hits a document's share is not limited."""
SHINGLE_WORDS = 5
"""Words of a shingle (Broder 1997, "On the resemblance and containment of documents"): long enough that texts about the same
thing in other words share hardly any."""
_WORD = re.compile(
    r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]|[^\W_]+"
)
"""A word; of Thai, Lao, Burmese, Khmer, Japanese and Chinese, which are written without spaces, a character."""

Shingles = frozenset[tuple[str, ...]]


def shingles(text: str) -> Shingles:
    """The runs of five words of a text, case apart; of a shorter text, all its words as one run."""
    words = _WORD.findall(text.casefold())
    if len(words) <= SHINGLE_WORDS:
        return frozenset([tuple(words)])
    return frozenset(tuple(words[start : start + SHINGLE_WORDS]) for start in range(len(words) - SHINGLE_WORDS + 1))


def without_near_duplicates(hits: Sequence[Hit], share: float) -> list[Hit]:
    """The hits without those that add next to nothing to a better one, which names their documents in ``duplicates``.

    A hit adds next to nothing if at least ``share`` of its shingles stand in one better ranked hit, and every word of it that
    holds a digit, too: this year's price list differs from last year's in little else.

    Args:
        hits: best first.
        share: 0 … 1; about 0.9 lets one word in fifty differ.
    """
    kept: list[Hit] = []
    seen: list[tuple[Shingles, frozenset[str]]] = []
    for hit in hits:
        own = shingles(hit.text)
        figures = frozenset(word for run in own for word in run if any(map(str.isdigit, word)))
        for place, (other, known) in enumerate(seen):
            if figures <= known and len(own & other) >= share * len(own):
                named = dict.fromkeys([*kept[place].duplicates, hit.document, *hit.duplicates])
                kept[place] = replace(kept[place], duplicates=tuple(named))
                break
        else:
            kept.append(hit)
            seen.append((own, figures))
    return kept


def spread(hits: Sequence[Hit], limit: int, places: int) -> list[Hit]:
    """The hits in another order: behind the first ``limit`` of every document come those beyond it.

    So the first ``places`` hold at most ``limit`` hits of one document where others can fill them, and a document that is
    alone still fills them all. Where the hits are of fewer documents than there are places, or of fewer than five, the order
    stays: the places would go to whatever the few others hold (three long books, say), however far it is from the question.

    Args:
        hits: best first.
        limit: hits of one document; 0: any number.
        places: how many of the hits will be used.
    """
    if not limit or len({hit.document for hit in hits}) < max(places, FEW_DOCUMENTS):
        return list(hits)
    taken: Counter[str] = Counter()
    within: list[Hit] = []
    beyond: list[Hit] = []
    for hit in hits:
        taken[hit.document] += 1
        (within if taken[hit.document] <= limit else beyond).append(hit)
    return within + beyond


def diversify(hits: Sequence[Hit], places: int, *, near_duplicate: float, max_per_document: int) -> list[Hit]:
    """Both at once; the order is the result, ``rank`` stays what the search gave."""
    return spread(without_near_duplicates(hits, near_duplicate), max_per_document, places)
