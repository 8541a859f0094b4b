"""Ours, searched: the product's own search in this process. It is brought up to date by the command ``rag-assets sync``."""

from protocol import K, STARTED, run  # isort: skip  (the clock starts here)

from collections.abc import Sequence
from typing import Any

import numpy as np

from rag_assets.embedding import build_embedder
from rag_assets.retrieval.search import search
from rag_assets.runtime import Runtime
from rag_assets.settings import load_settings

_ = STARTED


class Given:
    """The configured embedder; a question that is a vector already gets that vector."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.vector: Any = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def embed_queries(self, texts: Sequence[str]) -> Any:
        return self.inner.embed_queries(texts) if self.vector is None else self.vector


class Searcher:
    def __init__(self, asked: dict[str, Any]) -> None:
        settings = load_settings()
        # The same words stand for every vector, and every ef is asked the same questions.
        settings = settings.model_copy(update={"serving": settings.serving.model_copy(update={"query_cache": 0})})
        self.given = Given(build_embedder(settings.embedder))
        self.runtime = Runtime(settings, embedder=self.given)
        self.retrieval = settings.retrieval.model_copy(update={"mode": asked["mode"]})

    def embed(self, question: str) -> Sequence[float]:
        return self.given.inner.embed_queries([question])[0]

    def hits(self, question: str, ef: int) -> Any:
        settings = self.runtime.settings
        if settings.index.ef_search != ef:
            self.runtime.settings = settings.model_copy(
                update={"index": settings.index.model_copy(update={"ef_search": ef})}
            )
        return search(self.runtime, question, collection="default", k=K, retrieval=self.retrieval).hits

    def find(self, vector: Sequence[float], ef: int) -> list[str]:
        self.given.vector = np.asarray([vector], np.float32)
        return [hit.chunk_id for hit in self.hits("given as a vector", ef)]

    def ask(self, question: str, ef: int) -> list[str]:
        self.given.vector = None
        return [hit.document for hit in self.hits(question, ef)]


if __name__ == "__main__":
    run(lambda _: {}, Searcher)
