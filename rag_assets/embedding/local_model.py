"""What every backend that runs a local model folder shares: tokenizer, limits, and the promise of unit vectors."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from rag_assets.embedding import model_files
from rag_assets.embedding.tokenizing import FolderTokenizer
from rag_assets.errors import RagAssetsError
from rag_assets.models import Vectors
from rag_assets.settings import EmbedderSettings

TextKind = Literal["query", "document"]

_DECIDING = {"backend", "model", "batch_size", "dtype"}
"""The settings of a local model; the others are of servers."""
_SMALLEST_NORM = 1e-6
"""Below it a vector has no direction worth normalising."""


class LocalModelEmbedder(FolderTokenizer, ABC):
    """The part of an ``Embedder`` that doesn't depend on how the vectors are computed. Construction reads no weights."""

    backend: str
    """What ``embedder.backend`` calls this backend."""

    def __init__(self, settings: EmbedderSettings) -> None:
        super().__init__(settings.model, model_files.model_folder(settings.model))
        self._batch_size = settings.batch_size
        self._dtype: str = settings.dtype if settings.dtype != "auto" else self._fastest_dtype()
        resolved = settings.model_copy(update={"backend": self.backend, "dtype": self._dtype})
        self.resolved: dict[str, Any] = resolved.model_dump(mode="json", include=_DECIDING)

    @staticmethod
    def _fastest_dtype() -> str:
        """What ``embedder.dtype = "auto"`` means here: the fastest number type that keeps the vectors."""
        return "bfloat16" if model_files.computes_bfloat16() else "float32"

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Hash of everything that decides a vector."""

    @property
    @abstractmethod
    def dimension(self) -> int:
        """Length of a vector."""

    @property
    @abstractmethod
    def _model(self) -> Any:
        """The model in memory."""

    @abstractmethod
    def _encode(self, texts: Sequence[str], kind: TextKind) -> Vectors:
        """Vectors of shape (len(texts), dimension) in order, of any length; ``texts`` is not empty."""

    @abstractmethod
    def _encode_tokens(self, texts: Sequence[str], kind: TextKind) -> list[Vectors]:
        """The last hidden state of every token, special tokens included, of shape (tokens, dimension), per text in order."""

    def warm(self) -> None:
        """Load the model, unless this process has loaded it."""
        _ = self._model

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors of shape (len(texts), dimension), in order.

        Raises:
            RagAssetsError: the model gave a vector that is not finite or has no direction.
        """
        return self._embed(texts, "document")

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """As ``embed_documents``, with the model's query prompt where its configuration has one."""
        return self._embed(texts, "query")

    def embed_document_tokens(self, texts: Sequence[str]) -> list[Vectors]:
        """For each text, one unit vector per token the model reads of it, special tokens left out: (tokens, dimension)."""
        return self._embed_tokens(texts, "document")

    def embed_query_tokens(self, texts: Sequence[str]) -> list[Vectors]:
        """As ``embed_document_tokens``, with the model's query prompt where its configuration has one."""
        return self._embed_tokens(texts, "query")

    def _embed_tokens(self, texts: Sequence[str], kind: TextKind) -> list[Vectors]:
        if not texts:
            return []
        found = []
        for states in self._encode_tokens(texts, kind):
            # A text of special tokens only keeps them: it has to have a vector.
            states = states[1:-1] if len(states) > 2 else states
            norms = np.maximum(np.linalg.norm(states, axis=1, keepdims=True), _SMALLEST_NORM)
            found.append(np.ascontiguousarray(states / norms, dtype=np.float32))
        return found

    def _embed(self, texts: Sequence[str], kind: TextKind) -> Vectors:
        if not texts:
            return np.empty((0, self.dimension), np.float32)
        vectors = self._encode(texts, kind)
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        broken = np.flatnonzero(~np.isfinite(norms[:, 0]) | (norms[:, 0] < _SMALLEST_NORM))
        if broken.size:
            raise RagAssetsError(
                f"The model {self.name!r} gave no usable vector for {texts[int(broken[0])][:80]!r} "
                f"(norm {norms[int(broken[0]), 0]}). Check the model's files."
            )
        return np.ascontiguousarray(vectors / norms)
