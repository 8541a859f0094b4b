"""Embedding with sentence-transformers on the processor or a GPU: runs any model it knows."""

import contextlib
import gc
import os
import threading
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from rag_assets.embedding import model_files
from rag_assets.embedding.gpu import fastest_dtype, nvidia_gpu, shrinking
from rag_assets.embedding.hardware import texts_at_once
from rag_assets.embedding.local_model import LocalModelEmbedder, TextKind
from rag_assets.fingerprint import fingerprint
from rag_assets.models import Vectors

_DEFAULT_BATCH = 32
_SHARE = 0.5
"""Of a GPU's free memory, for the states of one forward pass: the allocator fragments, and others may use the GPU."""
_MOST = 256
"""Texts a pass; more are no faster for models of this kind."""

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

    @staticmethod
    def _fastest_dtype() -> str:
        gpu = nvidia_gpu()
        return fastest_dtype(gpu) if gpu else LocalModelEmbedder._fastest_dtype()

    @cached_property
    def batch_size(self) -> int:
        """Texts of a forward pass: on an NVIDIA GPU as many of the longest as its memory holds, until that proves too many."""
        gpu = nvidia_gpu()
        if self._batch_size or gpu is None:
            return self._batch_size or _DEFAULT_BATCH
        config = model_files.read_json(self._folder / "config.json")
        return texts_at_once(int(gpu.free_bytes * _SHARE), self.max_tokens, config, most=_MOST)

    def _encode(self, texts: Sequence[str], kind: TextKind) -> Vectors:
        # The model's own normalising is not relied on: in bfloat16 it leaves norms off by 0.2 %.
        raw = self._encoded(texts, kind, convert_to_numpy=True)
        return np.asarray(raw, dtype=np.float32).reshape(len(texts), -1)

    def _encode_tokens(self, texts: Sequence[str], kind: TextKind) -> list[Vectors]:
        states = self._encoded(texts, kind, output_value="token_embeddings")
        return [state.float().cpu().numpy() for state in states]

    def _encoded(self, texts: Sequence[str], kind: TextKind, **options: Any) -> Any:
        model = self._model
        function = model.encode_query if kind == "query" else model.encode_document

        def encode(part: Sequence[str], batch: int) -> Any:
            return function(list(part), batch_size=batch, show_progress_bar=False, **options)

        found, self.batch_size = shrinking(texts, self.batch_size, encode, _free_memory, self.name)
        return found

    @property
    def _model(self) -> Any:
        key = (str(self._folder), self._dtype)
        with _MODEL_LOCK:
            if key not in _LOADED:
                _LOADED[key] = _load(self._folder, self._dtype)
            return _LOADED[key]


def _free_memory() -> None:
    """Give what PyTorch keeps of a GPU's memory back."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


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
