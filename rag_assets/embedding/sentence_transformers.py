"""Embedding with sentence-transformers on the processor or a GPU: runs any model it knows."""

import contextlib
import os
import threading
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from rag_assets.embedding import model_files
from rag_assets.embedding.local_model import LocalModelEmbedder, TextKind
from rag_assets.fingerprint import fingerprint
from rag_assets.models import Vectors

_DEFAULT_BATCH = 32

_MODEL_LOCK = threading.Lock()
_LOADED: dict[tuple[str, str], Any] = {}
"""Models already loaded in this process, by (folder, dtype): a process never loads the same weights twice."""


class SentenceTransformersEmbedder(LocalModelEmbedder):
    """An ``Embedder`` over a sentence-transformers model folder. Construction reads no weights into memory."""

    backend = "sentence-transformers"

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
    def dimension(self) -> int:
        """Length of a vector."""
        return int(self.embed_documents(["dimension"]).shape[1])

    def _encode(self, texts: Sequence[str], kind: TextKind) -> Vectors:
        model = self._model
        encode = model.encode_query if kind == "query" else model.encode_document
        # The model's own normalising is not relied on: in bfloat16 it leaves norms off by 0.2 %.
        raw = encode(
            list(texts),
            batch_size=self._batch_size or _DEFAULT_BATCH,
            convert_to_numpy=True,
            show_progress_bar=False,
        )
        return np.asarray(raw, dtype=np.float32).reshape(len(texts), -1)

    def _encode_tokens(self, texts: Sequence[str], kind: TextKind) -> list[Vectors]:
        model = self._model
        encode = model.encode_query if kind == "query" else model.encode_document
        states = encode(
            list(texts),
            batch_size=self._batch_size or _DEFAULT_BATCH,
            output_value="token_embeddings",
            show_progress_bar=False,
        )
        return [state.float().cpu().numpy() for state in states]

    @property
    def _model(self) -> Any:
        key = (str(self._folder), self._dtype)
        with _MODEL_LOCK:
            if key not in _LOADED:
                _LOADED[key] = _load(self._folder, self._dtype)
            return _LOADED[key]


def _load(folder: Path, dtype: str) -> Any:
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
