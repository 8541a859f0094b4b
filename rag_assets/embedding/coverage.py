"""How much of a text a model can read, by its tokenizer alone: whether its vector says anything about the text."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_SPELLED = 1.5
"""Characters a token below which a word counts as spelled: an English model cuts Russian, Arabic and Hindi words into letters (1.0 to
1.4 on XQuAD), and even German ones into pieces of 2.7."""


def coverage(tokenizer: "Tokenizer", text: str) -> float:
    """Share of the words of ``text`` that the vocabulary has, whole or in pieces of more than a letter; 1 for no words at all.

    A word is what the tokenizer takes for one; of scripts without spaces that may be a single character, which is no letter of a
    longer word and counts as read if it is known. Figures and punctuation are no words.
    """
    encoding = tokenizer.encode(text, add_special_tokens=False)
    unknown = tokenizer.token_to_id("[UNK]")
    unknown = tokenizer.token_to_id("<unk>") if unknown is None else unknown
    words: dict[int, list[tuple[int, int]]] = {}
    for token, word, (start, end) in zip(encoding.ids, encoding.word_ids, encoding.offsets, strict=True):
        if word is not None and any(map(str.isalpha, text[start:end])):
            words.setdefault(word, []).append((0 if token == unknown else 1, end - start))
    if not words:
        return 1.0
    return sum(_is_read(tokens) for tokens in words.values()) / len(words)


def _is_read(tokens: list[tuple[int, int]]) -> bool:
    """Of one word: (1 if known else 0, characters) of each token."""
    if not all(known for known, _ in tokens):
        return False
    return len(tokens) == 1 or sum(length for _, length in tokens) / len(tokens) >= _SPELLED
