"""Cutting parsed documents into chunks: exact spans of the text, never longer than the embedding model reads."""

from collections.abc import Callable, Mapping

from rag_assets.chunking.identity import Chunk, identify
from rag_assets.chunking.recursive import chunk_recursively
from rag_assets.chunking.semantic import chunk_by_meaning
from rag_assets.chunking.sentence_window import chunk_by_sentences
from rag_assets.chunking.sliding import chunk_by_sliding
from rag_assets.chunking.whole import chunk_whole
from rag_assets.errors import ConfigurationError
from rag_assets.fingerprint import fingerprint
from rag_assets.models import ChunkDraft, Embedder, ParsedDocument, TokenCounter
from rag_assets.settings import ChunkingSettings

__all__ = ["CHUNKER_VERSION", "STRATEGIES", "Chunk", "chunk_document", "chunker_fingerprint", "identify"]

CHUNKER_VERSION = 2
"""Raised whenever the same document and settings would give other chunks: every collection is then cut again."""

Strategy = Callable[[ParsedDocument, ChunkingSettings, TokenCounter], list[ChunkDraft]]

STRATEGIES: Mapping[str, Strategy] = {
    "recursive": chunk_recursively,
    "sliding": chunk_by_sliding,
    "sentence-window": chunk_by_sentences,
    "semantic": chunk_by_meaning,
    "whole": chunk_whole,
}
"""One function for each value of ``chunking.strategy``."""

_ONLY_OF = {"sentence_tokens": "sentence-window", "breakpoint_percentile": "semantic"}
"""Settings that one strategy alone looks at: for the others they change nothing, so nothing is cut again."""


def chunk_document(document: ParsedDocument, settings: ChunkingSettings, counter: TokenCounter) -> list[ChunkDraft]:
    """Cut ``document`` into chunks in document order; a document without text gives none.

    For every chunk ``text == document.text[start:end]`` and ``tokens == counter.count_tokens([embedded_text])[0]``,
    which never exceeds ``settings.max_tokens`` (``whole``: what the model reads). Every non-space character of the document
    is in the embedded part of some chunk. A table or a piece of code that fits into a chunk is in one chunk
    (not ``sliding``); a larger one is cut between rows or lines, and its header row is repeated in ``context``. The result
    depends on nothing but the arguments, of which ``semantic`` also takes vectors.

    Raises:
        ConfigurationError: ``settings.max_tokens`` is more than the embedding model reads, or too small for a single
            character.
    """
    if settings.max_tokens > counter.max_tokens:
        raise ConfigurationError(
            f"chunking.max_tokens = {settings.max_tokens} is more than the embedding model reads "
            f"({counter.max_tokens} tokens), so the end of long chunks would never be embedded. "
            f"Set chunking.max_tokens to {counter.max_tokens} or less, or choose a model with a longer input."
        )
    return STRATEGIES[settings.strategy](document, settings, counter)


def chunker_fingerprint(settings: ChunkingSettings, embedder: Embedder) -> str:
    """The digest of everything besides the document that decides its chunks.

    The tokenizer always does, the model's vectors only with ``semantic`` and its longest input only with ``whole``.
    """
    others = {name for name, strategy in _ONLY_OF.items() if strategy != settings.strategy}
    parts = [CHUNKER_VERSION, settings.model_dump(mode="json", exclude=others), embedder.tokenizer_fingerprint]
    if settings.strategy == "semantic":
        parts.append(embedder.fingerprint)
    if settings.strategy == "whole":
        parts.append(embedder.max_tokens)
    return fingerprint(parts)
