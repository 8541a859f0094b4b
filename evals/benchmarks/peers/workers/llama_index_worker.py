"""LlamaIndex: IngestionPipeline with docstore, upserts and deletes, cache, and PGVectorStore."""

from protocol import K, STARTED, documents, run  # isort: skip  (the clock starts here)

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

TABLE = "chunks"


def embedder(asked: dict[str, Any]) -> Any:
    from llama_index.embeddings.huggingface import HuggingFaceEmbedding

    return HuggingFaceEmbedding(model_name=asked["model"], embed_batch_size=32, device="cpu")


def store(asked: dict[str, Any]) -> Any:
    from llama_index.vector_stores.postgres import PGVectorStore

    url = asked["url"].split("://", 1)[1]
    return PGVectorStore.from_params(
        connection_string=f"postgresql+psycopg2://{url}",
        async_connection_string=f"postgresql+asyncpg://{url}",
        table_name=TABLE,
        embed_dim=asked["dimension"],
        hnsw_kwargs={
            "hnsw_m": asked["m"],
            "hnsw_ef_construction": asked["ef_construction"],
            "hnsw_ef_search": asked["default_ef"],
            "hnsw_dist_method": "vector_cosine_ops",
        },
    )


def update(asked: dict[str, Any]) -> dict[str, float]:
    from llama_index.core import Document
    from llama_index.core.ingestion import DocstoreStrategy, IngestionCache, IngestionPipeline
    from llama_index.core.node_parser import SentenceSplitter
    from llama_index.core.storage.docstore import SimpleDocumentStore

    imported = time.perf_counter()
    model = embedder(asked)
    loaded = time.perf_counter()
    tokenizer = model._model.tokenizer
    pipeline = IngestionPipeline(
        transformations=[
            SentenceSplitter(
                chunk_size=asked["chunk_tokens"],
                chunk_overlap=asked["overlap_tokens"],
                tokenizer=lambda text: tokenizer.tokenize(text),
            ),
            model,
        ],
        vector_store=store(asked),
        docstore=SimpleDocumentStore(),
        docstore_strategy=DocstoreStrategy.UPSERTS_AND_DELETE,
        cache=IngestionCache(),
    )
    state = Path(asked["state"]) / "pipeline"
    if state.is_dir():
        pipeline.load(str(state))
    # Metadata would be put before the text that is embedded, and eat from its budget.
    pipeline.run(
        documents=[
            Document(
                text=text,
                id_=name,
                metadata={"document": name},
                excluded_embed_metadata_keys=["document"],
                excluded_llm_metadata_keys=["document"],
            )
            for name, text in documents(asked["folder"])
        ]
    )
    pipeline.persist(str(state))
    return {"import": imported - STARTED, "model": loaded - imported, "work": time.perf_counter() - loaded}


class Searcher:
    def __init__(self, asked: dict[str, Any]) -> None:
        from llama_index.core import VectorStoreIndex
        from llama_index.core.vector_stores.types import VectorStoreQuery

        self.model, self.store, self.query = embedder(asked), store(asked), VectorStoreQuery
        self.index = VectorStoreIndex.from_vector_store(self.store, embed_model=self.model)
        self.retrievers: dict[int, Any] = {}

    def embed(self, question: str) -> Sequence[float]:
        return self.model.get_query_embedding(question)

    def find(self, vector: Sequence[float], ef: int) -> list[str]:
        found = self.store.query(self.query(query_embedding=list(vector), similarity_top_k=K), hnsw_ef_search=ef)
        return list(found.ids)

    def ask(self, question: str, ef: int) -> list[str]:
        if ef not in self.retrievers:
            self.retrievers[ef] = self.index.as_retriever(
                similarity_top_k=K, vector_store_kwargs={"hnsw_ef_search": ef}
            )
        return [hit.node.metadata["document"] for hit in self.retrievers[ef].retrieve(question)]


if __name__ == "__main__":
    run(update, Searcher)
