"""What a piece of text costs of a chunk's budget."""

from collections.abc import Iterable, Sequence
from itertools import islice

from rag_assets.models import TokenCounter

CHARACTERS_PER_TOKEN = 8
"""A chunk has at most this many characters per token of its budget. English has 4 to 5; WordPiece turns a word of more
than 100 characters into one unknown token, so that a count of tokens alone would not bound a text."""

_BATCH_CHARACTERS = 1_000_000
"""Texts are counted in batches of about this size: an encoding takes ~100 bytes a token until its batch is counted."""


class CostMeter:
    """Measures texts against a budget of ``limit`` tokens.

    The cost of a text is its tokens without the special ones, or an eighth of its characters where that is more. The
    cost of a whole is at most the sum of its parts' for tokenizers that split at white space first, and close to it
    for others.
    """

    def __init__(self, counter: TokenCounter, limit: int) -> None:
        """``limit``: tokens of a whole chunk, special tokens included."""
        self._counter = counter
        self.limit = limit
        self.special = counter.count_tokens([""])[0]
        """Special tokens the model adds to each text."""

    def costs(self, texts: Sequence[str]) -> list[int]:
        """The cost of each text. A text too long for any chunk by its characters is not tokenized at all."""
        by_length = [-(-len(text) // CHARACTERS_PER_TOKEN) for text in texts]
        counted = iter(self.tokens(text for text, cost in zip(texts, by_length, strict=True) if cost <= self.limit))
        return [max(cost, next(counted) - self.special) if cost <= self.limit else cost for cost in by_length]

    def tokens(self, texts: Iterable[str]) -> list[int]:
        """Tokens of each text, special tokens included."""
        source, counts = iter(texts), list[int]()
        longest = max(1, CHARACTERS_PER_TOKEN * self.limit)
        while batch := list(islice(source, max(1, _BATCH_CHARACTERS // longest))):
            counts += self._counter.count_tokens(batch)
        return counts
