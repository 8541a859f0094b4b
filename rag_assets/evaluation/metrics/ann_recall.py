"""recall@10 of the approximate index: what it finds of what comparing with every row finds."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from rag_assets.database.generations import Generation
from rag_assets.evaluation.latency import AnnRecall
from rag_assets.evaluation.metrics.statistics import percentile
from rag_assets.models import Vectors
from rag_assets.runtime import Runtime
from rag_assets.stores.exact import best_similarities
from rag_assets.stores.protocol import Connection, Searcher

_K = 10
_TIE = 1e-5
"""Similarities that differ by less are equal: a row that ties with the tenth counts as found, and a sum of a thousand products
of 32-bit numbers comes out differently by some 1e-6 where it is added up in another order."""


@dataclass(frozen=True, slots=True)
class Reference:
    """What comparing a query with every row finds."""

    vector: npt.NDArray[np.float32]
    """Of the query: unit length."""
    least: float
    """Cosine similarity that a row must have to be one of the nearest."""
    rows: int
    """How many those are: ten, if there are so many."""


def reference(searcher: Searcher, vector: npt.NDArray[np.float32]) -> Reference | None:
    """The exact answer to one query; None: there is no row."""
    exact = list(searcher.nearest(vector, _K, exact=True).found.values())
    return Reference(vector, min(exact) - _TIE, len(exact)) if exact else None


def references(connection: Connection, generation: Generation, vectors: Vectors) -> list[Reference]:
    """The exact answers to many queries, in one pass over the rows; none where there is no row."""
    exact = best_similarities(connection, generation, vectors, _K)
    if not exact.shape[1]:
        return []
    least = exact[:, -1] - _TIE
    return [Reference(vector, float(bound), exact.shape[1]) for vector, bound in zip(vectors, least, strict=True)]


def share_found(searcher: Searcher, wanted: Reference, ef_search: int) -> float:
    """Share of the exact answer that the graph finds, judged by similarity so that ties count as found."""
    found = searcher.nearest(wanted.vector, _K, ef_search=ef_search).found.values()
    return sum(similarity >= wanted.least for similarity in found) / wanted.rows


def summarise_recall(
    runtime: Runtime, generation: Generation, recalls: Sequence[float], ef_search: int
) -> AnnRecall | None:
    """Recalls of single queries together, with the beam they were searched with; None: there are none."""
    if not recalls:
        return None
    measured = AnnRecall(len(recalls), float(np.mean(recalls)), percentile(recalls, 5), min(recalls))
    if runtime.store_of(generation).beam_is_fixed:
        return measured
    return replace(measured, ef_search=ef_search, setting=runtime.settings.index.ef_search)


def ann_recall(
    runtime: Runtime, generation: Generation, vectors: Iterable[npt.NDArray[np.float32]], *, seconds: float
) -> AnnRecall | None:
    """recall@10 over unit vectors, with the beam in force.

    Args:
        runtime: the parts.
        generation: which index.
        vectors: of the queries.
        seconds: no further query is begun after so much time.
    """
    began = time.monotonic()
    recalls: list[float] = []
    beam = runtime.beam_of(generation)
    for vector in vectors:
        with runtime.database.transaction(snapshot=True) as connection:
            searcher = runtime.store_of(generation).searcher(connection, generation)
            wanted = reference(searcher, vector)
            if wanted is not None:
                recalls.append(share_found(searcher, wanted, beam))
        if time.monotonic() - began > seconds:
            break
    return summarise_recall(runtime, generation, recalls, beam)
