"""Passages for a question: its vector by the model of the generation that is searched, and what one snapshot of that one holds."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import psycopg

from rag_assets.database import generations
from rag_assets.database.generations import Generation
from rag_assets.errors import RagAssetsError
from rag_assets.models import Condition
from rag_assets.retrieval.candidates import Asked, Candidates, by_vector, find
from rag_assets.retrieval.reading import as_read
from rag_assets.retrieval.rerank import LATE_INTERACTION
from rag_assets.runtime import Runtime
from rag_assets.settings import RetrievalSettings
from rag_assets.stores import token_vectors
from rag_assets.stores.protocol import Connection, Row

_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class Query:
    """A question, and how it is to be searched."""

    question: str
    k: int
    settings: RetrievalSettings
    filters: Sequence[Condition] = ()
    exact: bool = False


@dataclass(frozen=True, slots=True)
class Passages:
    """What one snapshot holds for a question."""

    generation: Generation
    found: Candidates
    rows: Mapping[str, Row]
    """Of every candidate, by chunk id."""
    tokens: Mapping[str, bytes]
    """Chunk id -> quantised token vectors, where the reranker compares them and they are kept."""
    settings: RetrievalSettings
    """As they apply to this question."""
    embedding: float
    """Seconds until the question had its vector."""


class _Replaced(Exception):
    """Another generation is live in the snapshot, and its questions are embedded otherwise."""

    def __init__(self, live: Generation) -> None:
        self.live = live


def passages_of(runtime: Runtime, generation: Generation, query: Query) -> Passages:
    """Search one generation, live or not; the model is asked for the vector every time.

    Raises:
        RagAssetsError: its model or its lexical index can't be had.
    """
    return _searched(runtime, generation, query)


def live_passages(runtime: Runtime, collection: str, query: Query) -> Passages:
    """Search the generation that is live in the very snapshot that is searched.

    What the last search of this process saw live is expected to be live still, so that nothing has to be asked before the
    question can be embedded; where it is not, the search begins again, for another model at most once each.

    Raises:
        RagAssetsError: nothing is live, or its model or lexical index can't be had.
    """
    expected = expected_live(runtime, collection)
    vectors: dict[str, npt.NDArray[np.float32]] = {}
    for _ in range(_ATTEMPTS):
        try:
            passages = _searched(runtime, expected, query, vectors)
        except _Replaced as replaced:
            expected = replaced.live
        except (psycopg.Error, RagAssetsError):
            # Of one that was replaced, what it needs may be gone: its table, its model.
            runtime.seen_live.pop(collection, None)
            live = live_generation(runtime, collection)
            if live.id == expected.id:
                raise
            expected = live
        else:
            runtime.seen_live[collection] = passages.generation
            return passages
    raise RagAssetsError(f"The live index of {collection!r} was replaced {_ATTEMPTS} times meanwhile. Ask again.")


def expected_live(runtime: Runtime, collection: str) -> Generation:
    """What the last search of this process saw live, else what is.

    Raises:
        RagAssetsError: there is none yet.
    """
    return runtime.seen_live.get(collection) or live_generation(runtime, collection)


def live_generation(runtime: Runtime, collection: str) -> Generation:
    """The generation queries are answered from.

    Raises:
        RagAssetsError: there is none yet; says what to run.
    """
    with runtime.database.transaction() as connection:
        return _that_is_live(generations.live(connection, collection), collection)


def _that_is_live(live: Generation | None, collection: str) -> Generation:
    if live is None:
        raise RagAssetsError(f"Collection {collection!r} has no live index yet. Run `rag-assets sync` first.")
    return live


def _searched(
    runtime: Runtime, generation: Generation, query: Query, followed: dict[str, npt.NDArray[np.float32]] | None = None
) -> Passages:
    """Search a generation, or with ``followed`` the live one, if the question's vector by its model is known.

    ``followed``: the question's vectors so far, by the fingerprint of the model; this one's is added.
    """
    began = time.perf_counter()
    vector, settings = None, query.settings
    if settings.mode != "lexical":
        vector = _embedded(runtime, generation, query.question, cached=followed is not None)
        settings = as_read(settings, runtime.embedder_of(generation), query.question)
        if followed is not None:
            followed[generation.key.embedder_fp] = vector
    embedding = time.perf_counter() - began
    if followed is not None and vector is not None and _is_by_vector_alone(query, settings):
        alone = _found_in_one_step(runtime, generation, vector, query.k, settings)
        if alone is not None:
            return replace(alone, embedding=embedding)
    asked = Asked(query.question, vector, query.filters, query.exact)
    # An exact search, by which recall is measured, takes the time it takes.
    with runtime.database.transaction(snapshot=True, pipelined=not query.exact) as connection:
        # Not waited for: what is expected to be live is searched meanwhile.
        lookup = generations.look_up_live(connection, generation.collection) if followed is not None else None
        passages = _found(runtime, connection, generation, asked, query.k, settings)
        if lookup is not None and followed is not None:
            live = _that_is_live(generations.looked_up(lookup), generation.collection)
            if vector is not None and live.key.embedder_fp != generation.key.embedder_fp:
                if live.key.embedder_fp not in followed:
                    raise _Replaced(live)
                # Two that take turns faster than a question is embedded must not keep it from being answered.
                asked = replace(asked, vector=followed[live.key.embedder_fp])
                settings = as_read(query.settings, runtime.embedder_of(live), query.question)
            if live.id != generation.id:
                passages = _found(runtime, connection, live, asked, query.k, settings)
            passages = replace(passages, generation=live)
    return replace(passages, embedding=embedding)


def _is_by_vector_alone(query: Query, settings: RetrievalSettings) -> bool:
    return settings.mode == "dense" and settings.rerank == "none" and not query.filters and not query.exact


def _found_in_one_step(
    runtime: Runtime, generation: Generation, vector: npt.NDArray[np.float32], k: int, settings: RetrievalSettings
) -> Passages | None:
    """The passages nearest to a vector in the generation, if it is live still; None: it is not, or its store can't say so."""
    began = time.perf_counter()
    store, beam = runtime.store_of(generation), runtime.beam_of(generation)
    rows = store.nearest_if_live(runtime.database, generation, vector, k, ef_search=beam)
    if not rows:
        return None
    found = by_vector({row.chunk_id: row.dense for row in rows}, k, time.perf_counter() - began)
    return Passages(generation, found, {row.chunk_id: row for row in rows}, {}, settings, 0.0)


def _embedded(runtime: Runtime, generation: Generation, question: str, *, cached: bool) -> npt.NDArray[np.float32]:
    """The question's vector; what is measured, and names its generation for that, pays the model every time."""
    embedder = runtime.embedder_of(generation)

    def embed(text: str) -> npt.NDArray[np.float32]:
        return np.asarray(embedder.embed_queries([text])[0])

    return runtime.query_cache.get(embedder.fingerprint, question, embed) if cached else embed(question)


def _found(
    runtime: Runtime,
    connection: Connection,
    generation: Generation,
    asked: Asked,
    k: int,
    settings: RetrievalSettings,
) -> Passages:
    count = max(k, settings.rerank_depth) if settings.rerank != "none" else k
    searcher = runtime.store_of(generation).searcher(connection, generation)
    found = find(searcher, asked, count, settings, runtime.settings.lexical, runtime.beam_of(generation))
    tokens: Mapping[str, bytes] = {}
    if settings.rerank == LATE_INTERACTION and token_vectors.are_kept(generation):
        tokens = token_vectors.read(connection, generation, found.order[: settings.rerank_depth])
    return Passages(generation, found, searcher.fetch(found.order, asked.vector), tokens, settings, 0.0)
