"""An index library alone: vectors from memory, no text, no documents, no transactions, no server.

python index_worker.py LIBRARY REQUEST.json      LIBRARY: hnswlib, faiss-cpu, usearch
"""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np

K = 10
WARM_UP = 10
Array = Any


class Index(Protocol):
    """What the libraries are asked for; ids are row numbers."""

    def add(self, ids: Array, vectors: Array) -> None: ...

    def delete(self, ids: Array) -> bool:
        """False: the library can't; what is left has to be built again."""
        ...

    def search(self, vector: Array, ef: int) -> Array:
        """Ids of the K nearest."""
        ...

    def save(self, path: str) -> None: ...


class Hnswlib:
    def __init__(self, dimension: int, capacity: int, asked: dict[str, Any]) -> None:
        import hnswlib

        self.index = hnswlib.Index(space="cosine", dim=dimension)
        self.index.init_index(max_elements=capacity, M=asked["m"], ef_construction=asked["ef_construction"])
        self.index.set_num_threads(asked["threads"])

    def add(self, ids: Array, vectors: Array) -> None:
        self.index.add_items(vectors, ids)

    def delete(self, ids: Array) -> bool:
        for number in ids:
            self.index.mark_deleted(int(number))
        return True

    def search(self, vector: Array, ef: int) -> Array:
        self.index.set_ef(ef)
        return self.index.knn_query(vector[None], k=K, num_threads=1)[0][0]

    def save(self, path: str) -> None:
        self.index.save_index(path)


class Faiss:
    def __init__(self, dimension: int, capacity: int, asked: dict[str, Any]) -> None:
        import faiss

        self.faiss = faiss
        faiss.omp_set_num_threads(asked["threads"])
        graph = faiss.IndexHNSWFlat(dimension, asked["m"], faiss.METRIC_INNER_PRODUCT)
        graph.hnsw.efConstruction = asked["ef_construction"]
        self.graph, self.index = graph, faiss.IndexIDMap(graph)

    def add(self, ids: Array, vectors: Array) -> None:
        self.index.add_with_ids(vectors, ids)

    def delete(self, ids: Array) -> bool:
        return False

    def search(self, vector: Array, ef: int) -> Array:
        self.graph.hnsw.efSearch = ef
        return self.index.search(vector[None], K)[1][0]

    def save(self, path: str) -> None:
        self.faiss.write_index(self.index, path)


class Usearch:
    def __init__(self, dimension: int, capacity: int, asked: dict[str, Any]) -> None:
        from usearch.index import Index

        # m is its connectivity of the upper layers; the base layer has twice that, as in the others.
        self.index = Index(
            ndim=dimension, metric="cos", dtype="f32", connectivity=asked["m"], expansion_add=asked["ef_construction"]
        )
        self.threads = asked["threads"]

    def add(self, ids: Array, vectors: Array) -> None:
        self.index.add(ids.astype(np.uint64), vectors, threads=self.threads)

    def delete(self, ids: Array) -> bool:
        self.index.remove(ids.astype(np.uint64))
        return True

    def search(self, vector: Array, ef: int) -> Array:
        self.index.expansion_search = ef
        return self.index.search(vector, K, threads=1).keys

    def save(self, path: str) -> None:
        self.index.save(path)


LIBRARIES: dict[str, Callable[[int, int, dict[str, Any]], Index]] = {
    "hnswlib": Hnswlib,
    "faiss-cpu": Faiss,
    "usearch": Usearch,
}


def main() -> None:
    library, asked = sys.argv[1], json.loads(Path(sys.argv[2]).read_text(encoding="utf-8"))
    vectors = np.load(asked["rows"]).astype(np.float32)
    queries = np.load(asked["queries"]).astype(np.float32)
    count = len(vectors)
    chance = np.random.default_rng(0)
    ids = np.arange(count, dtype=np.int64)
    changed = chance.choice(ids, max(1, count // 100), replace=False)
    gone = chance.choice(np.setdiff1d(ids, changed), max(1, count // 10), replace=False)

    def made(chosen: Array) -> Index:
        index = LIBRARIES[library](vectors.shape[1], count * 2, asked)
        index.add(chosen, vectors[chosen])
        return index

    seconds: dict[str, float] = {}
    index = timed(seconds, "cold", lambda: made(ids))
    index.save(asked["file"])
    points = sweep(index, queries, asked["efs"])
    # An edit is a deletion and an addition under a fresh id.
    fresh = changed + count
    rebuilt = timed(seconds, "edit", lambda: replaced(index, changed, fresh, vectors[changed], lambda: made(ids)))
    live = np.setdiff1d(ids, gone)
    last = timed(seconds, "delete", lambda: rebuilt if rebuilt.delete(gone) else made(live))
    found = {int(number) for query in queries for number in last.search(query, max(asked["efs"]))}
    result = {
        "seconds": seconds,
        "points": points,
        "bytes": Path(asked["file"]).stat().st_size,
        "deleted_that_answer": len(found & set(gone.tolist())),
    }
    print(json.dumps(result), flush=True)
    os._exit(0)


def replaced(index: Index, old: Array, fresh: Array, vectors: Array, again: Callable[[], Index]) -> Index:
    if not index.delete(old):
        return again()
    index.add(fresh, vectors)
    return index


def timed(seconds: dict[str, float], name: str, work: Callable[[], Any]) -> Any:
    began = time.perf_counter()
    done = work()
    seconds[name] = time.perf_counter() - began
    return done


def sweep(index: Index, queries: Array, efs: list[int]) -> list[dict[str, Any]]:
    points = []
    for ef in efs:
        for query in queries[:WARM_UP]:
            index.search(query, ef)
        times, found = [], []
        for query in queries:
            began = time.perf_counter()
            ids = index.search(query, ef)
            times.append((time.perf_counter() - began) * 1000)
            found.append([str(number) for number in ids])
        points.append({"ef": ef, "milliseconds": times, "found": found})
    return points


if __name__ == "__main__":
    main()
