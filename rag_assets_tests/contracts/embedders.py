"""The embedding backends that the contract is held against: each with the bundled model, and a fake."""

import importlib.util
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import pytest

from rag_assets.embedding import build_embedder
from rag_assets.models import Embedder
from rag_assets.settings import EmbedderSettings
from rag_assets_tests.embedding_server import embedding_server

SLOW = {"mlx": pytest.mark.slow}
"""Off a Mac MLX has no fast matrix product; unit/embedding/test_mlx.py runs a small model in the default suite."""
REFERENCE = EmbedderSettings(backend="sentence-transformers", dtype="float32")
"""What the others' vectors are compared with."""


def local(backend: str, **values: str) -> Callable[[], AbstractContextManager[Embedder]]:
    def build() -> AbstractContextManager[Embedder]:
        if backend == "mlx" and importlib.util.find_spec("mlx_embeddings") is None:
            pytest.skip("mlx-embeddings is not installed here (extra `mlx`: Apple Silicon, and Linux on x86-64)")
        return nullcontext(build_embedder(EmbedderSettings.model_validate({"backend": backend, **values})))

    return build


@contextmanager
def served() -> Iterator[Embedder]:
    """The bundled model behind HTTP. It truncates nothing itself: a text that is too long reaches it cut."""
    model = build_embedder(EmbedderSettings(backend="openvino"))
    with embedding_server(model.embed_documents) as server:
        settings = EmbedderSettings(backend="litellm", model="openai/all-MiniLM-L6-v2", api_base=server.url)
        yield build_embedder(settings)


BACKENDS: dict[str, Callable[[], AbstractContextManager[Embedder]]] = {
    "openvino": local("openvino"),
    "sentence-transformers": local("sentence-transformers"),
    "mlx": local("mlx"),
    "litellm": served,
}
