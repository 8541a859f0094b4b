"""Embedding with MLX on a Mac's own GPU: the BERT-like encoders that mlx-embeddings has, with the pooling of the model's folder.

The libraries are Apple's and run on Linux processors as well (``mlx[cpu]``), slowly: that is how they are tested.
"""

import importlib.util
import os
import threading
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rag_assets.embedding import model_files
from rag_assets.embedding.hardware import texts_at_once
from rag_assets.embedding.local_model import TextKind
from rag_assets.embedding.pipeline import UnsupportedPipeline, pool, read_pipeline
from rag_assets.embedding.rebuilt import RebuiltEmbedder
from rag_assets.errors import ConfigurationError, RagAssetsError
from rag_assets.models import Vectors
from rag_assets.settings import EmbedderSettings

ENCODERS = frozenset({"bert", "xlm-roberta"})
"""``model_type`` of the encoders that mlx-embeddings has and sentence-transformers agrees with."""
_PAD = 8
"""Lengths are padded to a multiple of this: MLX compiles for each shape."""
_SHARE = 0.1
"""Of the memory, for the states of one forward pass; the rest is the system's, which shares it."""
_MOST = 64
"""Texts a pass; more are no faster."""

_MODEL_LOCK = threading.Lock()
_LOADED: dict[tuple[str, str], Any] = {}
"""Models already loaded in this process, by (files hash, dtype): a process never loads the same weights twice."""


class MlxEmbedder(RebuiltEmbedder):
    """An ``Embedder`` over a sentence-transformers model folder, run by MLX. Construction reads no weights.

    Raises (also on construction):
        ConfigurationError: mlx-embeddings is not installed, or has no such model.
    """

    backend = "mlx"

    def __init__(self, settings: EmbedderSettings) -> None:
        if importlib.util.find_spec("mlx_embeddings") is None:
            raise ConfigurationError(
                "embedder.backend = 'mlx': the package mlx-embeddings is not installed. On a Mac with Apple Silicon (or on Linux, "
                "where it is slow) run pip install 'rag-assets[mlx]'; elsewhere set embedder.backend to 'auto'."
            )
        super().__init__(settings)
        reason = unsupported(self._folder)
        if reason:
            raise ConfigurationError(
                f"embedder.backend = 'mlx' can't run the model {self.name!r}: {reason}. "
                "Set embedder.backend to 'sentence-transformers', or use another model."
            )
        self._pipeline = read_pipeline(self._folder)

    @staticmethod
    def _fastest_dtype() -> str:
        return "float32"  # the reference; what half precision gains on which Mac was not measured

    @cached_property
    def batch_size(self) -> int:
        """Texts of a forward pass: as many of the longest as a share of the memory holds."""
        config = model_files.read_json(self._folder / "config.json")
        return self._batch_size or texts_at_once(int(_memory_bytes() * _SHARE), self.max_tokens, config, most=_MOST)

    @property
    def _model(self) -> Any:
        key = (self._files, self._dtype)
        with _MODEL_LOCK:
            if key not in _LOADED:
                try:
                    _LOADED[key] = _load(self._folder, self._dtype)
                except (RuntimeError, ImportError, OSError, ValueError) as error:
                    raise self._failed("load", error) from error
            return _LOADED[key]

    def _encode(self, texts: Sequence[str], kind: TextKind) -> Vectors:
        vectors = np.empty((len(texts), self.dimension), np.float32)
        for rows, states, mask in self._states(texts, kind):
            vectors[rows] = pool(states, mask, self._pipeline.pooling)
        return vectors

    def _encode_tokens(self, texts: Sequence[str], kind: TextKind) -> list[Vectors]:
        found: list[Vectors] = [np.empty((0, self.dimension), np.float32)] * len(texts)
        for rows, states, mask in self._states(texts, kind):
            for position, row in enumerate(rows):
                found[row] = states[position, : int(mask[position].sum())]
        return found

    def _states(
        self, texts: Sequence[str], kind: TextKind
    ) -> Iterator[tuple[list[int], npt.NDArray[np.float32], npt.NDArray[np.int64]]]:
        """(rows, last hidden states, mask) of each forward pass; texts of like length go together."""
        prompt = self._pipeline.query_prompt if kind == "query" else self._pipeline.document_prompt
        encoded = [e.ids for e in self._truncating_tokenizer.encode_batch([prompt + text for text in texts])]
        model = self._model
        for rows in alike([len(ids) for ids in encoded], self.batch_size):
            ids = np.full((len(rows), -(-len(encoded[rows[-1]]) // _PAD) * _PAD), self._padding, np.int64)
            mask = np.zeros_like(ids)
            for position, row in enumerate(rows):
                ids[position, : len(encoded[row])] = encoded[row]
                mask[position, : len(encoded[row])] = 1
            try:
                yield rows, _run(model, ids, mask), mask
            except RuntimeError as error:
                raise self._failed("run", error) from error

    @cached_property
    def _truncating_tokenizer(self) -> Any:
        tokenizer = self._read_tokenizer()
        tokenizer.enable_truncation(self.max_tokens)
        return tokenizer

    @cached_property
    def _padding(self) -> int:
        return int(model_files.read_json(self._folder / "config.json").get("pad_token_id") or 0)

    def _failed(self, step: str, error: Exception) -> RagAssetsError:
        reason = " ".join(str(error).split())[:500] or type(error).__name__
        return RagAssetsError(
            f"MLX can't {step} the model {self.name!r}: {reason}. Set embedder.batch_size lower if memory is short, or "
            'embedder.backend = "sentence-transformers" to run it with PyTorch.'
        )


def alike(lengths: Sequence[int], most: int) -> Iterator[list[int]]:
    """Positions in groups of no more than ``most``, shortest first; in none is one more than twice as long as another."""
    group: list[int] = []
    for row in sorted(range(len(lengths)), key=lambda row: lengths[row]):
        if group and (len(group) == most or lengths[row] > 2 * max(_PAD, lengths[group[0]])):
            yield group
            group = []
        group.append(row)
    if group:
        yield group


def unsupported(folder: Path) -> str | None:
    """Why MLX can't run a model folder; None: it can."""
    try:
        read_pipeline(folder)
    except UnsupportedPipeline as error:
        return str(error)
    kind = model_files.read_json(folder / "config.json").get("model_type")
    if kind not in ENCODERS:
        return f"its encoder is of type {kind!r}, not one of {', '.join(sorted(ENCODERS))}"
    if not any(folder.glob("model*.safetensors")):
        return "it has no weights as model.safetensors"
    return None


def _memory_bytes() -> int:
    """What MLX may use: on a Mac the GPU's recommended working set."""
    import mlx.core as mx

    if mx.metal.is_available():
        return int(mx.device_info()["max_recommended_working_set_size"])
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _load(folder: Path, dtype: str) -> Any:
    import mlx.core as mx
    from mlx_embeddings.utils import load_model

    model = load_model(folder)
    model.set_dtype(getattr(mx, dtype))
    model.eval()
    return model


def _run(model: Any, ids: npt.NDArray[np.int64], mask: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """Last hidden states, (texts, length, dimension)."""
    import mlx.core as mx

    output = model(mx.array(ids), attention_mask=mx.array(mask))
    return np.array(output.last_hidden_state.astype(mx.float32))
