"""Small hand-written stand-ins. They keep the contract of what they stand for and nothing else."""

import hashlib
import re
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from rag_assets.errors import GateRefused
from rag_assets.evaluation import publishing
from rag_assets.fingerprint import fingerprint
from rag_assets.indexing import chunks, embeddings, hnsw_index, index_entries, raw_documents
from rag_assets.indexing.ahead import taken
from rag_assets.indexing.hnsw_index import existing_target
from rag_assets.models import Vectors
from rag_assets.runtime import Runtime


class FakeEmbedder:
    """A bag of hashed words as a unit vector: equal texts get equal vectors, texts that share words get near ones."""

    def __init__(self, *, version: str = "1", dimension: int = 32, max_tokens: int = 256) -> None:
        self.name = f"fake-{version}"
        self.dimension = dimension
        self.max_tokens = max_tokens
        self.fingerprint = fingerprint(["fake", version, dimension])
        self.tokenizer_fingerprint = "words"
        self.resolved = {"backend": "sentence-transformers", "model": version, "dtype": "float32"}
        self.embedded: list[str] = []
        """Every text embedded as a document, in order: what "nothing is embedded twice" is judged by."""

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return [2 + len(re.findall(r"\w+|[^\w\s]", text)) for text in texts]

    def warm(self) -> None:
        """Nothing to load."""

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        self.embedded += texts
        return self._vectors(texts)

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        return self._vectors(texts)

    def vector(self, text: str) -> Vectors:
        """The vector of one text."""
        total = np.full(self.dimension, 1e-3, dtype=np.float64)
        for word in re.findall(r"\w+", text.lower()):
            seed = int.from_bytes(hashlib.blake2b(f"{self.name}:{word}".encode(), digest_size=8).digest())
            total += np.random.default_rng(seed).standard_normal(self.dimension)
        return (total / np.linalg.norm(total)).astype(np.float32)

    def _vectors(self, texts: Sequence[str]) -> Vectors:
        return np.stack([self.vector(text) for text in texts]) if texts else np.empty((0, self.dimension), np.float32)


class FakeTokenEmbedder(FakeEmbedder):
    """A ``FakeEmbedder`` that also gives the vector of every word, which it remembers."""

    def __init__(self, *, version: str = "1", dimension: int = 32, max_tokens: int = 256) -> None:
        super().__init__(version=version, dimension=dimension, max_tokens=max_tokens)
        self._known: dict[str, Vectors] = {}

    def vector(self, text: str) -> Vectors:
        if text not in self._known:
            self._known[text] = super().vector(text)
        return self._known[text]

    def embed_document_tokens(self, texts: Sequence[str]) -> list[Vectors]:
        return [self._vectors(re.findall(r"\w+", text)) for text in texts]

    def embed_query_tokens(self, texts: Sequence[str]) -> list[Vectors]:
        return self.embed_document_tokens(texts)


class DirectRunner:
    """A ``Runner`` that calls the stages without Dagster."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def update_shard(self, collection: str, shard: int) -> None:
        runtime = self._runtime
        plan = runtime.plans[collection]
        first = partial(raw_documents.materialize, runtime, plan, shard)
        runtime.results.append(taken(runtime, "raw_documents", collection, shard, first))
        for stage in (chunks, embeddings, index_entries):
            name, work = stage.__name__.rpartition(".")[2], partial(stage.materialize, runtime, collection, shard)
            runtime.results.append(taken(runtime, name, collection, shard, work))

    def publish(self, collection: str) -> None:
        self._runtime.results.append(hnsw_index.materialize(self._runtime, collection))
        judged = existing_target(self._runtime, collection)
        for step in (publishing.evaluate_target, publishing.answer_target, publishing.benchmark_target):
            step(self._runtime, collection)
            if existing_target(self._runtime, collection).id != judged.id:
                # A rebuild that was refused is the target no more; in Dagster the blocking check ends the run here.
                raise GateRefused(f"{judged.name} did not pass.")
        publishing.promote_target(self._runtime, collection, who="test")
        publishing.write_live_report(self._runtime, collection)


def index_rows(runtime: Runtime, generation_id: int) -> dict[str, Any]:
    """Every row of a generation by chunk id: (document uri, text, text hash, vector rounded to half precision)."""
    with runtime.database.transaction() as connection:
        rows = connection.execute(
            "SELECT chunk_id, payload ->> 'document', text, text_hash, embedding FROM index_entry WHERE generation_id = %s",
            (generation_id,),
        ).fetchall()
    return {row[0]: (row[1], row[2], row[3], tuple(row[4].to_numpy().tolist())) for row in rows}
