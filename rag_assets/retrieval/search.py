"""Search: embed the question with the served model, look it up in the served generation, in one snapshot."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rag_assets.database import generations
from rag_assets.database.generations import Generation
from rag_assets.errors import ConfigurationError, RagAssetsError
from rag_assets.models import Hit
from rag_assets.runtime import Runtime
from rag_assets.stores import pgvector

MAX_K = 1000
_ATTEMPTS = 5
MAX_QUESTION_CHARACTERS = 20_000


@dataclass(frozen=True, slots=True)
class SearchResult:
    """Hits, where they come from, and how long it took."""

    hits: tuple[Hit, ...]
    generation: Generation
    milliseconds: Mapping[str, float]
    """``embedding`` (the question), ``retrieval`` (the database), ``search`` (everything)."""


def search(
    runtime: Runtime,
    question: str,
    *,
    collection: str | None = None,
    k: int = 10,
    filters: Mapping[str, str] | None = None,
    generation: Generation | None = None,
    exact: bool = False,
) -> SearchResult:
    """The ``k`` chunks nearest to a question.

    Args:
        runtime: the parts.
        question: in plain words.
        collection: its name; None: the one ``Settings.target`` names.
        k: number of hits, 1 … 1000.
        filters: equalities on metadata fields.
        generation: search this one instead of the live one (evaluation does).
        exact: compare with every row instead of using the index.

    Raises:
        ConfigurationError: the question is empty or too long, or k is out of range.
        RagAssetsError: nothing is live yet.
    """
    started = time.perf_counter()
    question = checked_question(question)
    if not 1 <= k <= MAX_K:
        raise ConfigurationError(f"k = {k} is out of range; 1 to {MAX_K} are allowed.")
    asked = generation or live_generation(runtime, runtime.settings.target(collection))
    for _ in range(_ATTEMPTS):
        vector = runtime.embedder_of(asked).embed_queries([question])[0]
        embedded = time.perf_counter()
        hits, searched = _in_one_snapshot(
            runtime, asked, vector, k, follow=generation is None, filters=filters, exact=exact
        )
        if hits is not None:
            break
        asked = searched
    else:
        raise RagAssetsError(
            f"The live index of {asked.collection!r} was replaced {_ATTEMPTS} times meanwhile. Ask again."
        )
    done = time.perf_counter()
    return SearchResult(
        hits=hits,
        generation=searched,
        milliseconds={
            "embedding": (embedded - started) * 1000,
            "retrieval": (done - embedded) * 1000,
            "search": (done - started) * 1000,
        },
    )


def _in_one_snapshot(
    runtime: Runtime,
    asked: Generation,
    vector: npt.NDArray[np.float32],
    k: int,
    *,
    follow: bool,
    filters: Mapping[str, str] | None,
    exact: bool,
) -> tuple[tuple[Hit, ...] | None, Generation]:
    """(hits, generation they are from); with ``follow``, from the one that is live in the very snapshot that is searched.

    No hits but another generation: that one is live now, and its questions are embedded otherwise.
    """
    with runtime.database.transaction(snapshot=True) as connection:
        live = generations.live(connection, asked.collection) if follow else None
        if live is not None and live.key.embedder_fp != asked.key.embedder_fp:
            return None, live
        chosen = live or asked
        return _search(connection, runtime, chosen, vector, k, filters=filters, exact=exact), chosen


def search_vector(
    runtime: Runtime,
    generation: Generation,
    vector: npt.NDArray[np.float32],
    k: int,
    *,
    filters: Mapping[str, str] | None = None,
    exact: bool = False,
) -> tuple[Hit, ...]:
    """As :func:`search` of one generation, for a question that is already a unit vector."""
    with runtime.database.transaction(snapshot=True) as connection:
        return _search(connection, runtime, generation, vector, k, filters=filters, exact=exact)


def _search(
    connection: pgvector.Connection,
    runtime: Runtime,
    generation: Generation,
    vector: npt.NDArray[np.float32],
    k: int,
    *,
    filters: Mapping[str, str] | None,
    exact: bool,
) -> tuple[Hit, ...]:
    rows = pgvector.search(
        connection, generation, vector, k, ef_search=runtime.settings.index.ef_search, exact=exact, filters=filters
    )
    return tuple(_hit(rank, row) for rank, row in enumerate(rows, start=1))


def live_generation(runtime: Runtime, collection: str) -> Generation:
    """The generation queries are answered from.

    Raises:
        RagAssetsError: there is none yet; says what to run.
    """
    with runtime.database.transaction() as connection:
        live = generations.live(connection, collection)
    if live is None:
        raise RagAssetsError(f"Collection {collection!r} has no live index yet. Run `rag-assets sync` first.")
    return live


def checked_question(question: str) -> str:
    """The question without what no database or model can take.

    Raises:
        ConfigurationError: it is empty or too long.
    """
    cleaned = question.replace("\x00", " ").encode("utf-8", "replace").decode("utf-8").strip()
    if not cleaned:
        raise ConfigurationError("The question is empty. Ask something in plain words.")
    if len(cleaned) > MAX_QUESTION_CHARACTERS:
        raise ConfigurationError(
            f"The question has {len(cleaned):,} characters; {MAX_QUESTION_CHARACTERS:,} are allowed. Shorten it."
        )
    return cleaned


def parse_filters(pairs: Sequence[str]) -> dict[str, str]:
    """``["type=pdf"]`` as a mapping.

    Raises:
        ConfigurationError: a pair has no ``=`` or no key.
    """
    filters = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise ConfigurationError(f"--filter {pair!r} must look like KEY=VALUE.")
        filters[key] = value
    return filters


def _hit(rank: int, row: pgvector.Row) -> Hit:
    metadata = dict(row.payload)
    return Hit(
        rank=rank,
        document=str(metadata.pop("document", "")),
        chunk_id=row.chunk_id,
        text=row.text,
        scores={"dense": round(row.dense, 6), "bm25": None, "fused": None, "rerank": None},
        metadata=metadata,
    )
