"""Embedding with OpenVINO: the default backend on a processor, about twice as fast as PyTorch on the same cores.

The model is converted once (``openvino_cache``); after that neither PyTorch nor sentence-transformers is imported.
"""

import threading
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from rag_assets.embedding.local_model import TextKind
from rag_assets.embedding.openvino_cache import converted_model
from rag_assets.embedding.openvino_runtime import Batch, HiddenStates
from rag_assets.embedding.pipeline import UnsupportedPipeline, pool, read_pipeline
from rag_assets.embedding.rebuilt import RebuiltEmbedder
from rag_assets.errors import ConfigurationError, RagAssetsError
from rag_assets.models import Vectors
from rag_assets.settings import EmbedderSettings

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_MODEL_LOCK = threading.Lock()
_LOADED: dict[tuple[str, str], HiddenStates] = {}
"""Models already loaded in this process, by (files hash, dtype): a process never loads the same weights twice."""


class OpenVinoEmbedder(RebuiltEmbedder):
    """An ``Embedder`` over a sentence-transformers model folder, run by OpenVINO. Construction reads no weights.

    Raises (also on construction):
        ConfigurationError: the model is none that can be converted.
    """

    backend = "openvino"

    def __init__(self, settings: EmbedderSettings) -> None:
        super().__init__(settings)
        try:
            self._pipeline = read_pipeline(self._folder)
        except UnsupportedPipeline as error:
            raise ConfigurationError(
                f"embedder.backend = 'openvino' can't run the model {self.name!r}: {error}. "
                "Set embedder.backend to 'auto' or 'sentence-transformers', or use another model."
            ) from None

    @cached_property
    def _truncating_tokenizer(self) -> "Tokenizer":
        tokenizer = self._read_tokenizer()
        tokenizer.enable_truncation(self.max_tokens)
        return tokenizer

    @property
    def _model(self) -> HiddenStates:
        key = (self._files, self._dtype)
        with _MODEL_LOCK:
            if key not in _LOADED:
                xml = converted_model(self._folder, self._files, self.name)
                try:
                    _LOADED[key] = HiddenStates(xml, self._dtype)
                except (RuntimeError, ImportError, OSError) as error:
                    raise self._failed("load", error) from error
            return _LOADED[key]

    def _encode(self, texts: Sequence[str], kind: TextKind) -> Vectors:
        model = self._model
        try:
            return self.encode_with(model, texts, kind)
        except RuntimeError as error:
            raise self._failed("run", error) from error

    def encode_with(self, model: HiddenStates, texts: Sequence[str], kind: TextKind) -> Vectors:
        """Pooled vectors by another copy of the same model, of any length, (len(texts), dimension), in order.

        Raises:
            RuntimeError: inference failed.
        """
        prompt = self._pipeline.query_prompt if kind == "query" else self._pipeline.document_prompt
        vectors = np.empty((len(texts), self.dimension), np.float32)

        def keep(batch: Batch, states: npt.NDArray[np.float32]) -> None:
            vectors[batch.rows] = pool(states, batch.mask, self._pipeline.pooling)

        prompted = [prompt + text for text in texts] if prompt else texts
        model.run(prompted, self._truncating_tokenizer, keep, self._batch_size)
        return vectors

    def _encode_tokens(self, texts: Sequence[str], kind: TextKind) -> list[Vectors]:
        prompt = self._pipeline.query_prompt if kind == "query" else self._pipeline.document_prompt
        found: list[Vectors] = [np.empty((0, self.dimension), np.float32)] * len(texts)

        def keep(batch: Batch, states: npt.NDArray[np.float32]) -> None:
            for position, row in enumerate(batch.rows):
                found[row] = states[position, : int(batch.mask[position].sum())].astype(np.float32)

        prompted = [prompt + text for text in texts] if prompt else texts
        try:
            self._model.run(prompted, self._truncating_tokenizer, keep, self._batch_size)
        except RuntimeError as error:
            raise self._failed("run", error) from error
        return found

    def _failed(self, step: str, error: Exception) -> RagAssetsError:
        reason = " ".join(str(error).split())[:500] or type(error).__name__
        return RagAssetsError(
            f"OpenVINO can't {step} the model {self.name!r}: {reason}. "
            'Set embedder.backend = "sentence-transformers" to run it with PyTorch.'
        )
