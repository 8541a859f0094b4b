"""Cutting parsed documents into chunks: exact spans of the text, never longer than the embedding model reads."""

from collections.abc import Callable, Mapping

from rag_assets.chunking.identity import Chunk, identify
from rag_assets.chunking.recursive import chunk_recursively
from rag_assets.errors import ConfigurationError
from rag_assets.fingerprint import fingerprint
from rag_assets.models import ChunkDraft, ParsedDocument, TokenCounter
from rag_assets.settings import ChunkingSettings

__all__ = ["CHUNKER_VERSION", "STRATEGIES", "Chunk", "chunk_document", "chunker_fingerprint", "identify"]

CHUNKER_VERSION = 1
"""Raised whenever the same document and settings would give other chunks: every collection is then cut again."""

Strategy = Callable[[ParsedDocument, ChunkingSettings, TokenCounter], list[ChunkDraft]]

STRATEGIES: Mapping[str, Strategy] = {"recursive": chunk_recursively}
"""One function for each value of ``chunking.strategy``."""


def chunk_document(document: ParsedDocument, settings: ChunkingSettings, counter: TokenCounter) -> list[ChunkDraft]:
    """Cut ``document`` into chunks in document order; a document without text gives none.

    For every chunk ``text == document.text[start:end]`` and ``tokens == counter.count_tokens([embedded_text])[0]``,
    which never exceeds ``settings.max_tokens``. Every non-space character of the document is in some chunk. The result
    depends on nothing but the arguments.

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


def chunker_fingerprint(settings: ChunkingSettings, tokenizer_fingerprint: str) -> str:
    """The digest of everything besides the document that decides its chunks."""
    return fingerprint([CHUNKER_VERSION, settings.model_dump(mode="json"), tokenizer_fingerprint])
