"""What a GPU decides, and what becomes of a batch that its memory does not hold. No GPU is needed: memory is a number here."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rag_assets.embedding.gpu import Gpu, fastest_dtype, parsed, shrinking
from rag_assets.embedding.sentence_transformers import SentenceTransformersEmbedder
from rag_assets.errors import RagAssetsError
from rag_assets.settings import EmbedderSettings
from rag_assets_tests.unit.embedding.models import make_model

TEXTS = [f"text {number}" for number in range(20)]


class OutOfMemoryError(RuntimeError):
    """Stands for ``torch.OutOfMemoryError``."""


class Memory:
    """Holds so many texts of a forward pass."""

    def __init__(
        self, holds: int, error: type[Exception] = OutOfMemoryError, text: str = "Tried to allocate 2 GiB"
    ) -> None:
        self.holds, self.error, self.text = holds, error, text
        self.tried: list[int] = []
        self.freed = 0

    def encode(self, texts: Sequence[str], batch: int) -> list[str]:
        self.tried.append(batch)
        if min(batch, len(texts)) > self.holds:
            raise self.error(self.text)
        return [text.upper() for text in texts]

    def free(self) -> None:
        self.freed += 1


@pytest.mark.parametrize(("holds", "tried"), [(20, [64]), (19, [64, 10]), (9, [64, 10, 5]), (1, [64, 10, 5, 2, 1])])
def test_a_batch_that_does_not_fit_is_halved_until_it_does(holds: int, tried: list[int]) -> None:
    memory = Memory(holds)
    rows, batch = shrinking(TEXTS, 64, memory.encode, memory.free, "m")
    assert rows == [text.upper() for text in TEXTS]
    assert (memory.tried, batch, memory.freed) == (tried, tried[-1], len(tried) - 1)


def test_a_single_text_that_does_not_fit_is_an_error_with_the_cure() -> None:
    memory = Memory(0)
    with pytest.raises(
        RagAssetsError, match=r"'m' runs out of memory on a single text: Tried to allocate 2 GiB.*embedder\."
    ):
        shrinking(TEXTS, 4, memory.encode, memory.free, "m")
    assert memory.tried == [4, 2, 1]


@pytest.mark.parametrize("text", ["CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate",
                                  "MPS backend out of memory (MPS allocated: 9 GB)"])  # fmt: skip
def test_other_names_of_exhausted_memory_are_known(text: str) -> None:
    memory = Memory(5, RuntimeError, text)
    assert shrinking(TEXTS, 20, memory.encode, memory.free, "m")[1] == 5


def test_other_errors_are_not_taken_for_it() -> None:
    memory = Memory(5, RuntimeError, "shape mismatch")
    with pytest.raises(RuntimeError, match="shape mismatch"):
        shrinking(TEXTS, 20, memory.encode, memory.free, "m")
    assert memory.tried == [20]


class CrampedModel:
    """A sentence-transformers model on a GPU that holds so many texts of a pass."""

    def __init__(self, model: Any, holds: int) -> None:
        self._model, self._holds = model, holds
        self.batches: list[int] = []

    def encode_document(self, texts: list[str], *, batch_size: int, **options: Any) -> Any:
        self.batches.append(batch_size)
        if min(batch_size, len(texts)) > self._holds:
            raise OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return self._model.encode_document(texts, batch_size=batch_size, **options)


@pytest.mark.slow
def test_the_backend_gives_the_same_vectors_with_the_batch_that_fits_and_keeps_to_it(tmp_path: Path) -> None:
    settings = EmbedderSettings(
        backend="sentence-transformers", model=str(make_model(tmp_path / "model")), dtype="float32"
    )
    whole = SentenceTransformersEmbedder(settings)

    class Cramped(SentenceTransformersEmbedder):
        model = CrampedModel(whole._model, 3)

        @property
        def _model(self) -> Any:
            return self.model

    cramped = Cramped(settings.model_copy(update={"batch_size": 16}))
    assert np.abs(cramped.embed_documents(TEXTS) - whole.embed_documents(TEXTS)).max() < 1e-6
    assert Cramped.model.batches == [16, 8, 4, 2]
    assert [len(tokens) for tokens in cramped.embed_document_tokens(TEXTS[:3])] == [2, 2, 2]
    cramped.embed_documents(TEXTS)
    assert Cramped.model.batches[4:] == [2, 2]


def test_the_number_type_is_what_the_gpu_computes() -> None:
    assert parsed("9.0, 81079\n7.5, 15109\n") == Gpu((9, 0), 81079 * 2**20)
    assert (parsed(""), parsed("No devices were found\n")) == (None, None)
    types = [fastest_dtype(Gpu(capability, 0)) for capability in ((6, 1), (7, 0), (7, 5), (8, 0), (8, 6), (10, 0))]
    assert types == ["float32", "float16", "float16", "bfloat16", "bfloat16", "bfloat16"]
