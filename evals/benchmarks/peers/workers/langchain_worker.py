"""LangChain: the indexing API with SQLRecordManager, full cleanup, and PGVectorStore."""

from protocol import K, STARTED, documents, run  # isort: skip  (the clock starts here)

import time
from collections.abc import Sequence
from typing import Any

TABLE = "chunks"


def address(asked: dict[str, Any]) -> str:
    return "postgresql+psycopg://" + asked["url"].split("://", 1)[1]


def embedder(asked: dict[str, Any]) -> Any:
    from langchain_huggingface import HuggingFaceEmbeddings

    return HuggingFaceEmbeddings(
        model_name=asked["model"],
        model_kwargs={"device": "cpu"},
        encode_kwargs={"normalize_embeddings": True, "batch_size": 32},
    )


def open_store(asked: dict[str, Any], model: Any, ef: int, *, create: bool = False) -> Any:
    from langchain_postgres import Column, PGEngine, PGVectorStore
    from langchain_postgres.v2.indexes import HNSWQueryOptions

    engine = PGEngine.from_connection_string(url=address(asked))
    if create:
        engine.init_vectorstore_table(
            table_name=TABLE, vector_size=asked["dimension"], id_column=Column("langchain_id", "TEXT", nullable=False)
        )
    return PGVectorStore.create_sync(
        engine=engine,
        table_name=TABLE,
        embedding_service=model,
        k=K,
        index_query_options=HNSWQueryOptions(ef_search=ef),
    )


def update(asked: dict[str, Any]) -> dict[str, float]:
    from langchain_classic.indexes import SQLRecordManager
    from langchain_core.documents import Document
    from langchain_core.indexing import index
    from langchain_postgres.v2.indexes import HNSWIndex
    from langchain_text_splitters import RecursiveCharacterTextSplitter

    imported = time.perf_counter()
    model = embedder(asked)
    loaded = time.perf_counter()
    splitter = RecursiveCharacterTextSplitter.from_huggingface_tokenizer(
        model._client.tokenizer, chunk_size=asked["chunk_tokens"] - 2, chunk_overlap=asked["overlap_tokens"]
    )
    vectors = open_store(asked, model, asked["default_ef"], create=asked["first"])
    records = SQLRecordManager("peers/chunks", db_url=address(asked))
    records.create_schema()
    chunks = splitter.split_documents(
        [Document(page_content=text, metadata={"source": name}) for name, text in documents(asked["folder"])]
    )
    index(
        chunks,
        records,
        vectors,
        cleanup="full",
        source_id_key="source",
        key_encoder="blake2b",
        batch_size=1000,
    )
    if asked["first"]:
        vectors.apply_vector_index(
            HNSWIndex(name="chunks_hnsw", m=asked["m"], ef_construction=asked["ef_construction"])
        )
    return {"import": imported - STARTED, "model": loaded - imported, "work": time.perf_counter() - loaded}


class Searcher:
    def __init__(self, asked: dict[str, Any]) -> None:
        self.asked, self.model = asked, embedder(asked)
        self.stores: dict[int, Any] = {}

    def store(self, ef: int) -> Any:
        if ef not in self.stores:
            self.stores[ef] = open_store(self.asked, self.model, ef)
        return self.stores[ef]

    def embed(self, question: str) -> Sequence[float]:
        return self.model.embed_query(question)

    def find(self, vector: Sequence[float], ef: int) -> list[str]:
        return [hit.id for hit in self.store(ef).similarity_search_by_vector(list(vector), k=K)]

    def ask(self, question: str, ef: int) -> list[str]:
        return [hit.metadata["source"] for hit in self.store(ef).similarity_search(question, k=K)]


if __name__ == "__main__":
    run(update, Searcher)
