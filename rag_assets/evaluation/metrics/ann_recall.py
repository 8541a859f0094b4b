"""recall@10 of the approximate index: what it finds of what comparing with every row finds."""

import time
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from rag_assets.database.generations import Generation
from rag_assets.evaluation.latency import AnnRecall
from rag_assets.evaluation.metrics.statistics import percentile
from rag_assets.retrieval.search import similarities
from rag_assets.runtime import Runtime

_TIE = 1e-6
"""Similarities that differ by less are equal: a row that ties with the tenth counts as found."""


def ann_recall(
    runtime: Runtime,
    generation: Generation,
    vectors: Iterable[npt.NDArray[np.float32]],
    *,
    seconds: float | None = None,
    total: int | None = None,
) -> AnnRecall | None:
    """recall@10 over unit vectors, judged by similarity so that ties count as found.

    Args:
        runtime: the parts.
        generation: which index.
        vectors: of the queries.
        seconds: no further query is begun after so much time; None: all are looked up.
        total: how many there are, to show progress; None: none is shown.
    """
    began = time.monotonic()
    recalls: list[float] = []
    for number, vector in enumerate(vectors, start=1):
        exact = similarities(runtime, generation, vector, 10, exact=True)
        found = similarities(runtime, generation, vector, 10)
        if exact:
            floor = min(exact) - _TIE
            recalls.append(sum(similarity >= floor for similarity in found) / len(exact))
        if total is not None:
            runtime.progress("compare with exact search", number, total)
        if seconds is not None and time.monotonic() - began > seconds:
            break
    if not recalls:
        return None
    return AnnRecall(len(recalls), float(np.mean(recalls)), percentile(recalls, 5), min(recalls))
