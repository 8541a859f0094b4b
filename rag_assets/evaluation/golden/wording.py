"""Words that questions share with documents, quotes and answers, compared as quotes are."""

from collections.abc import Sequence

from rag_assets.evaluation.golden.questions import is_unspaced, normalise_quote

COPIED_WORDS = 8
"""A run of so many words is not hit upon by chance: it was copied."""
LEAST_WORDS = 4
"""Fewer stand in many documents: they are a name or a search term, and no leak."""


def words_of(text: str) -> list[str]:
    """The words of a text as quotes are compared: casefolded, without signs."""
    return normalise_quote(text).split()


def length(words: Sequence[str]) -> float:
    """Number of words. In scripts written without spaces every character is one, and counts half."""
    return sum(0.5 if is_unspaced(word) else 1.0 for word in words)


def longest_shared_run(words: Sequence[str], normalised: str) -> list[str]:
    """The longest run of ``words`` that stands in a text that ``normalise_quote`` made; the first of several."""
    best: Sequence[str] = ()
    start = 0
    for end in range(1, len(words) + 1):
        while start < end and f" {' '.join(words[start:end])} " not in normalised:
            start += 1
        if length(words[start:end]) > length(best):
            best = words[start:end]
    return list(best)


def copied_run(question: str, text: str) -> str | None:
    """The longest run of words that a question has in common with a text, if it is long enough to have been copied."""
    run = longest_shared_run(words_of(question), normalise_quote(text))
    return " ".join(run) if length(run) >= COPIED_WORDS else None


def stands_in(part: str, whole: str) -> bool:
    """Whether the words of one text stand in another, in one run."""
    words = normalise_quote(part)
    return bool(words.strip()) and words in normalise_quote(whole)
