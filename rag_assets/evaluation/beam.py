"""How wide a graph must be searched: its recall is measured before anything else, and the narrowest beam that meets the floors is kept.

``index.ef_search`` is where it begins; what suffices depends on how the vectors lie, and on what was written and deleted since
the graph was built, so that no setting is right for every collection and every month.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from rag_assets.database import generations
from rag_assets.database.generations import Generation
from rag_assets.evaluation.latency import AnnRecall
from rag_assets.evaluation.metrics.ann_recall import references, share_found, summarise_recall
from rag_assets.models import Vectors
from rag_assets.runtime import Runtime
from rag_assets.stores import pgvector
from rag_assets.stores.filtered import WIDEST_BEAM

QUERIES = 200
"""Queries by which the index is compared with exact search: golden questions first, then chunks' own vectors."""


def beams(narrowest: int) -> list[int]:
    """Beams to try: each twice the last, up to the widest that pgvector has."""
    found = [narrowest]
    while found[-1] < WIDEST_BEAM:
        found.append(min(WIDEST_BEAM, 2 * found[-1]))
    return found


def settle_beam(
    runtime: Runtime, generation: Generation, questions: Sequence[str], *, keep: bool = True, narrow: bool = True
) -> tuple[Generation, AnnRecall | None]:
    """Measure a graph against exact search, and keep with its generation the narrowest beam that meets the collection's floors.

    Where none does, the beam in force stays, and the gates refuse. A store whose beam is part of its index is only measured.

    Args:
        runtime: the parts.
        generation: as it was read before.
        questions: asked of it.
        keep: False: it is measured with the beam in force, and nothing is written.
        narrow: False: nothing narrower than the beam in force is tried.

    Returns:
        The generation as it is searched from here on, and its recall; None where it holds no row.

    Raises:
        RagAssetsError: the generation was dropped meanwhile.
    """
    # Before the transaction: no snapshot is held while a model is waited for.
    vectors = _queries(runtime, generation, questions)
    present = runtime.beam_of(generation)
    tried = [present]
    if keep and not runtime.store_of(generation).beam_is_fixed:
        tried = beams(runtime.settings.index.ef_search if narrow else present)
    recall, met = _measure(runtime, generation, vectors, tried, present)
    if not keep or recall is None or met is None:
        return generation, recall
    needed = met if met > runtime.settings.index.ef_search else None
    if needed is None and generation.beam is None:
        return generation, recall
    with runtime.database.transaction(brief=True) as connection:
        kept = generations.keep_beam(connection, generation, needed)
    return replace(generation, beam=kept), recall


def _measure(
    runtime: Runtime, generation: Generation, vectors: Vectors, tried: Sequence[int], present: int
) -> tuple[AnnRecall | None, int | None]:
    """(recall with the first beam that meets the floors, that beam), or (recall with the present one, None).

    One snapshot for all: a row that is deleted between the exact answer and the graph's would count as not found.
    """
    gate = runtime.settings.gates_of(generation.collection)
    found: dict[int, AnnRecall] = {}
    with runtime.database.transaction(snapshot=True) as connection:
        searcher = runtime.store_of(generation).searcher(connection, generation)
        wanted = references(connection, generation, vectors)

        def recall_with(beam: int) -> AnnRecall | None:
            recalls = []
            for number, one in enumerate(wanted, start=1):
                recalls.append(share_found(searcher, one, beam))
                runtime.progress(f"recall with ef_search {beam}", number, len(wanted))
            return summarise_recall(runtime, generation, recalls, beam)

        for beam in tried:
            recall = recall_with(beam)
            if recall is None:
                return None, None
            if recall.mean >= gate.ann_recall_mean and recall.p05 >= gate.ann_recall_p05:
                return recall, beam
            found[beam] = recall
        recall = found.get(present) or recall_with(present)
    if recall is not None and tried[-1] == WIDEST_BEAM:
        recall = replace(recall, widest_tried=tried[-1])
    return recall, None


def _queries(runtime: Runtime, generation: Generation, questions: Sequence[str]) -> Vectors:
    asked = list(questions[:QUERIES])
    embedder = runtime.embedder_of(generation)
    parts: list[npt.NDArray[np.float32]] = [embedder.embed_queries(asked)] if asked else []
    missing = QUERIES - len(asked)
    if missing:
        with runtime.database.transaction(snapshot=True) as connection:
            sample = pgvector.sample_vectors(connection, generation, missing)
        if len(sample):
            parts.append(sample)
    return np.concatenate(parts) if parts else np.empty((0, generation.dimension), dtype=np.float32)
