"""Embedding with sentence-transformers on the processor or a GPU: the default backend."""

import contextlib
import os
import threading
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from rag_assets.embedding import model_files
from rag_assets.errors import RagAssetsError
from rag_assets.fingerprint import fingerprint
from rag_assets.models import Vectors
from rag_assets.settings import EmbedderSettings

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_MODEL_LOCK = threading.Lock()
_LOADED: dict[tuple[str, str], Any] = {}
"""Models already loaded in this process, by (folder, dtype): a process never loads the same weights twice."""


class SentenceTransformersEmbedder:
    """An ``Embedder`` over a sentence-transformers model folder. Construction reads no weights into memory."""

    def __init__(self, settings: EmbedderSettings) -> None:
        self.name = settings.model
        self._settings = settings
        self._folder = model_files.model_folder(settings.model)
        self._dtype = settings.dtype
        if self._dtype == "auto":
            self._dtype = "bfloat16" if model_files.computes_bfloat16() else "float32"

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the backend family, the number type, and every file of the model that decides a vector."""
        return fingerprint(
            {
                "family": "torch",
                "dtype": self._dtype,
                "files": model_files.files_hash(self._folder),
                "normalise": True,
            }
        )

    @cached_property
    def max_tokens(self) -> int:
        """Tokens the model reads before it truncates, special tokens included."""
        own = model_files.read_json(self._folder / "sentence_bert_config.json").get("max_seq_length")
        positions = model_files.read_json(self._folder / "config.json").get("max_position_embeddings")
        limits = [int(limit) for limit in (own, positions) if limit]
        return min(limits) if limits else 512

    @cached_property
    def dimension(self) -> int:
        """Length of a vector."""
        return int(self.embed_documents(["dimension"]).shape[1])

    @cached_property
    def _tokenizer(self) -> "Tokenizer":
        from tokenizers import Tokenizer

        path = self._folder / "tokenizer.json"
        if not path.is_file():
            raise RagAssetsError(
                f"{path} is missing: the model {self.name!r} has no fast tokenizer. Use another model."
            )
        tokenizer = Tokenizer.from_file(str(path))
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return tokenizer

    @cached_property
    def tokenizer_fingerprint(self) -> str:
        """Hash of the tokenizer: chunk borders depend on it, so the chunker's fingerprint contains it."""
        path = self._folder / "tokenizer.json"
        return fingerprint(path.read_text(encoding="utf-8") if path.is_file() else self.name)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text as the model would read it untruncated, special tokens included."""
        return [len(encoding.ids) for encoding in self._tokenizer.encode_batch_fast(list(texts))]

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors of shape (len(texts), dimension), in order.

        Raises:
            RagAssetsError: the model gave a vector that is not finite or has no direction.
        """
        return self._embed(texts, "document")

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """As ``embed_documents``, with the model's query prompt where its configuration has one."""
        return self._embed(texts, "query")

    def _embed(self, texts: Sequence[str], kind: str) -> Vectors:
        model = self._model
        encode = model.encode_query if kind == "query" else model.encode_document
        # bfloat16 leaves ST as float32 with norms off by 0.2 %, so normalising is done here, in float32.
        raw = encode(
            list(texts),
            batch_size=self._settings.batch_size,
            convert_to_numpy=True,
            show_progress_bar=False,
        )
        vectors = np.asarray(raw, dtype=np.float32).reshape(len(texts), -1)
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        broken = np.flatnonzero(~np.isfinite(norms[:, 0]) | (norms[:, 0] < 1e-6))
        if broken.size:
            raise RagAssetsError(
                f"The model {self.name!r} gave no usable vector for {texts[int(broken[0])][:80]!r} "
                f"(norm {norms[int(broken[0]), 0]}). Check the model's files."
            )
        return np.ascontiguousarray(vectors / norms)

    @property
    def _model(self) -> Any:
        key = (str(self._folder), self._dtype)
        with _MODEL_LOCK:
            if key not in _LOADED:
                _LOADED[key] = _load(self._folder, self._dtype)
            return _LOADED[key]


def _load(folder: Any, dtype: str) -> Any:
    # A local folder is all that is needed; without this the library asks the hub about it first.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    import torch
    import transformers.utils.logging as transformers_logging
    from sentence_transformers import SentenceTransformer

    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    device = None if torch.cuda.is_available() or torch.backends.mps.is_available() else "cpu"
    if device == "cpu":
        with contextlib.suppress(RuntimeError, AttributeError):
            torch.set_num_threads(len(os.sched_getaffinity(0)))
    return SentenceTransformer(str(folder), device=device, model_kwargs={"dtype": getattr(torch, dtype)})
