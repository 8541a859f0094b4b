"""Questions answered by the server: dense, lexical, rows with their text; only exact search reads PostgreSQL."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from rag_assets.database.generations import Generation
from rag_assets.errors import RagAssetsError
from rag_assets.models import Condition
from rag_assets.settings import LexicalSettings
from rag_assets.stores.analysis import analyzer
from rag_assets.stores.lexical_segments import settings_of
from rag_assets.stores.postgres import PostgresSearcher
from rag_assets.stores.protocol import Connection, Found, HybridQuery, Match, Near, Plan, Row, Sides, Vector
from rag_assets.stores.sides import in_turn
from rag_assets.stores.weaviate.connection import WeaviateConnection
from rag_assets.stores.weaviate.filters import made_of
from rag_assets.stores.weaviate.objects import SHOWN_PROPERTIES, VECTOR, Entry, cosine, entry_of

if TYPE_CHECKING:
    from weaviate.collections import Collection

_SAMPLE = 500
"""Objects by which the languages of the passages are known: always the same ones, for ids are hashes."""
_AT_ONCE = 500
"""Objects asked for by id at once."""


class WeaviateSearcher:
    """Answers one question: whatever a query brings is remembered, so that texts and similarities cost no further one."""

    def __init__(
        self,
        connection: Connection,
        generation: Generation,
        server: WeaviateConnection,
        collection: "Collection[Any, Any]",
        languages: dict[int, Mapping[int, int]],
    ) -> None:
        """``languages`` by generation id is shared by all searchers of a store."""
        self._connection, self._generation = connection, generation
        self._server, self._collection, self._languages = server, collection, languages
        self._entries: dict[str, Entry] = {}

    @property
    def has_words(self) -> bool:
        """Every generation in Weaviate has them."""
        return True

    def nearest(
        self,
        vector: Vector | None,
        k: int,
        *,
        ef_search: int = 100,
        exact: bool = False,
        filters: Sequence[Condition] = (),
    ) -> Near:
        """The ``k`` rows nearest to a unit vector among those that pass; the beam is the index's own."""
        if exact:
            return PostgresSearcher(self._connection, self._generation).nearest(vector, k, exact=True, filters=filters)
        plan = Plan("index", 0) if filters else None
        if vector is None:
            return Near(plan=plan)
        passes, vector = self._passing(filters), rounded(vector)
        if passes is None:
            return Near(plan=plan)
        with self._asking():
            answer = self._collection.query.near_vector(
                vector.tolist(),
                target_vector=VECTOR,
                limit=k,
                filters=_all_of(passes),
                include_vector=[VECTOR],
                return_properties=SHOWN_PROPERTIES,
            )
        found = {entry.chunk_id: cosine(entry.vector, vector) for entry in self._kept(answer.objects)}
        return Near(dict(sorted(found.items(), key=lambda item: (-item[1], item[0]))), plan=plan)

    def words(
        self,
        question: str,
        k: int,
        *,
        settings: LexicalSettings,
        near: Near | None = None,
        filters: Sequence[Condition] = (),
        also: Sequence[str] = (),
    ) -> Found:
        """The ``k`` rows with the highest BM25 score; ``k1`` and ``b`` are the collection's own."""
        from weaviate.classes.query import Filter

        own = settings_of(self._generation)
        assert own is not None
        terms = analyzer(own).analyze_query(question, self._spoken())
        passes = self._passing(filters)
        if not terms:
            return Found((), dict.fromkeys(also, 0.0))
        matches = self._scored(terms, k, passes) if passes is not None else {}
        others = {chunk_id: matches[chunk_id] for chunk_id in also if chunk_id in matches}
        unknown = [chunk_id for chunk_id in also if chunk_id not in matches]
        for start in range(0, len(unknown), _AT_ONCE):
            part = unknown[start : start + _AT_ONCE]
            scored = self._scored(terms, len(part), [Filter.by_property("chunk_id").contains_any(part)])
            others |= {chunk_id: scored.get(chunk_id, 0.0) for chunk_id in part}
        ranked = sorted(matches.items(), key=lambda item: (-item[1], item[0]))
        return Found([Match(chunk_id, score) for chunk_id, score in ranked if score > 0], others)

    def both(self, asked: HybridQuery) -> Sides:
        """One side, then the other."""
        return in_turn(self, asked)

    def similarities(self, chunk_ids: Sequence[str], vector: Vector | None) -> Mapping[str, float]:
        """Cosine similarity of rows to a unit vector."""
        if vector is None:
            return {}
        vector = rounded(vector)
        return {chunk_id: cosine(entry.vector, vector) for chunk_id, entry in self._known(chunk_ids).items()}

    def fetch(self, chunk_ids: Sequence[str], vector: Vector | None = None) -> Mapping[str, Row]:
        """Rows by id, as the server has them."""
        vector = rounded(vector) if vector is not None else None
        return {
            chunk_id: Row(
                chunk_id,
                entry.doc_id,
                entry.text,
                entry.payload,
                cosine(entry.vector, vector) if vector is not None else float("nan"),
            )
            for chunk_id, entry in self._known(chunk_ids).items()
        }

    def _scored(self, terms: Sequence[str], k: int, passes: "Sequence[Any]") -> dict[str, float]:
        from weaviate.classes.query import MetadataQuery

        with self._asking():
            answer = self._collection.query.bm25(
                " ".join(terms),
                query_properties=["words"],
                limit=k,
                filters=_all_of(passes),
                include_vector=[VECTOR],
                return_properties=SHOWN_PROPERTIES,
                return_metadata=MetadataQuery(score=True),
            )
        entries = self._kept(answer.objects)
        scores = [found.metadata.score or 0.0 for found in answer.objects]
        return {entry.chunk_id: score for entry, score in zip(entries, scores, strict=True)}

    def _known(self, chunk_ids: Sequence[str]) -> dict[str, Entry]:
        from weaviate.classes.query import Filter

        missing = [chunk_id for chunk_id in chunk_ids if chunk_id not in self._entries]
        for start in range(0, len(missing), _AT_ONCE):
            part = missing[start : start + _AT_ONCE]
            with self._asking():
                answer = self._collection.query.fetch_objects(
                    filters=Filter.by_property("chunk_id").contains_any(part),
                    limit=len(part),
                    include_vector=[VECTOR],
                    return_properties=SHOWN_PROPERTIES,
                )
            self._kept(answer.objects)
        return {chunk_id: self._entries[chunk_id] for chunk_id in chunk_ids if chunk_id in self._entries}

    def _kept(self, objects: Sequence[Any]) -> list[Entry]:
        entries = [entry_of(found) for found in objects]
        self._entries |= {entry.chunk_id: entry for entry in entries}
        return entries

    def _passing(self, filters: Sequence[Condition]) -> "list[Any] | None":
        return made_of(self._connection, self._generation, filters, self._server.version) if filters else []

    def _spoken(self) -> Mapping[int, int]:
        """Passages by language code, of a sample: what a question of few words is taken to be in."""
        if self._generation.id not in self._languages:
            with self._asking():
                answer = self._collection.query.fetch_objects(limit=_SAMPLE, return_properties=["language"])
            counts: dict[int, int] = {}
            for found in answer.objects:
                code = int(found.properties.get("language") or 0)
                counts[code] = counts.get(code, 0) + 1
            self._languages[self._generation.id] = counts
        return self._languages[self._generation.id]

    def _asking(self) -> Any:
        return _Asking(self._server, self._generation)


class _Asking:
    """A query, whose errors say what to do about them."""

    def __init__(self, server: WeaviateConnection, generation: Generation) -> None:
        self._server, self._generation = server, generation
        self._explained = server.explained(f"answer from {generation.name}")

    def __enter__(self) -> None:
        self._explained.__enter__()

    def __exit__(self, *raised: Any) -> None:
        try:
            self._explained.__exit__(*raised)
        except RagAssetsError as error:
            text = str(error)
            if "could not find class" in text or "class not found" in text or "tenant not found" in text:
                raise RagAssetsError(
                    f"Weaviate at {self._server.settings.url} does not have {self._generation.name}. Run `rag-assets reconcile`: it "
                    "sends everything again, and embeds nothing."
                ) from error
            raise


def rounded(vector: Vector) -> Vector:
    """A question's vector at the precision of the stored ones, as PostgreSQL compares them: both find the same similarity."""
    return vector.astype(np.float16).astype(np.float32)


def _all_of(passes: Sequence[Any]) -> Any:
    from weaviate.classes.query import Filter

    return Filter.all_of(list(passes)) if passes else None
