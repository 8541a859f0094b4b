"""Counting the tokens of texts word by word: the words of a corpus repeat, so that nearly every count is a look into a dict.

Cutting a document counts its text several times over, which took as long as a tenth of embedding it.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_SEPARATORS = re.compile("[ \t\r\n]+")
"""No other white space: BERT's normaliser removes some of the other characters, which joins the words beside them."""
_KEPT_CHARACTERS = 40
"""Longer words are rare, or whole sentences in scripts without spaces."""
_KEPT_WORDS = 100_000
"""Words that are remembered at once: about 15 MB."""


def counts_by_word(tokenizer_json: Path) -> bool:
    """Whether the tokens of a text are those of its words one after the other, whatever stands beside them.

    So it is for BERT's own kind of tokenizer, which changes and parts a text without looking beyond white space.
    """
    found: dict[str, Any] = json.loads(tokenizer_json.read_text(encoding="utf-8"))
    kinds = [(found.get(part) or {}).get("type") for part in ("normalizer", "pre_tokenizer", "model")]
    added = [str(token.get("content", "")) for token in found.get("added_tokens") or ()]
    return kinds == ["BertNormalizer", "BertPreTokenizer", "WordPiece"] and not any(
        _SEPARATORS.search(content) for content in added
    )


class WordCounts:
    """The counts of one tokenizer for which :func:`counts_by_word` holds. Thread-safe."""

    def __init__(self, tokenizer: "Tokenizer") -> None:
        self._tokenizer = tokenizer
        self._special = tokenizer.num_special_tokens_to_add(False)
        self._known: dict[str, int] = {}

    def count(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, special tokens included."""
        split = [_SEPARATORS.split(text) for text in texts]
        known = self._known
        try:
            return [self._special + sum(map(known.__getitem__, words)) for words in split]
        except KeyError:
            return self._count(split, known)

    def _count(self, split: Sequence[list[str]], known: dict[str, int]) -> list[int]:
        """The same where some words are not known yet, which are known after it."""
        counts = {word: known.get(word, -1) for word in set().union(*split)}
        new = [word for word, count in counts.items() if count < 0]
        if new:
            found = self._tokenizer.encode_batch_fast(new, add_special_tokens=False)
            counts.update(zip(new, (len(encoding.ids) for encoding in found), strict=True))
            if len(known) + len(new) > _KEPT_WORDS:
                # Another dict, for another thread may be reading this one.
                known = self._known = {}
            known.update((word, counts[word]) for word in new[:_KEPT_WORDS] if len(word) <= _KEPT_CHARACTERS)
        return [self._special + sum(map(counts.__getitem__, words)) for words in split]
