"""The parts a piece of work needs, made from settings when first asked for.

One ``Runtime`` serves a whole process: the model loads once, the parsers stay warm, the pool is shared. Dagster's assets
and the command line receive the same object.
"""

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from threading import Thread
from typing import Any

from rag_assets import fingerprint
from rag_assets.chunking import chunker_fingerprint
from rag_assets.database import generations
from rag_assets.database.generations import Generation, GenerationKey
from rag_assets.database.pool import Database, open_database
from rag_assets.database.references import StoredReferences
from rag_assets.documents.parsing import ParserPool, attempt_fingerprint, parser_fingerprint
from rag_assets.documents.sources import DocumentSource, open_source
from rag_assets.embedding import build_embedder
from rag_assets.embedding.query_cache import QueryCache
from rag_assets.errors import RagAssetsError
from rag_assets.indexing.results import StageResult
from rag_assets.models import Embedder, Progress, ServedEmbedder, silent
from rag_assets.plan import Plan
from rag_assets.settings import ChunkingSettings, EmbedderSettings, IndexSettings, LexicalSettings, Settings
from rag_assets.stores.analysis import analyzer_fingerprint
from rag_assets.stores.choosing import build_store
from rag_assets.stores.protocol import Store


@dataclass(frozen=True, slots=True)
class Recipe:
    """How an index is made: what its key is the fingerprint of."""

    key: GenerationKey
    chunking: ChunkingSettings
    embedder: Embedder


class Runtime:
    """Settings and the parts made from them. Close it, or use it as a context manager."""

    def __init__(
        self,
        settings: Settings,
        *,
        embedder: Embedder | None = None,
        progress: Progress = silent,
        report: Callable[[str], None] | None = None,
    ) -> None:
        self.settings = settings
        self.progress = progress
        self.plans: dict[str, Plan] = {}
        """Plans made by ``sync`` for the runs it is about to start in this process."""
        self.ahead: dict[tuple[str, str, int], Future[StageResult]] = {}
        """(stage, collection, shard) -> what such a sync does ahead of its runs; see :mod:`rag_assets.indexing.ahead`."""
        self.resting: set[str] = set()
        """Collections whose live index ``sync`` leaves alone in this process, for what it builds beside it takes its place."""
        self.seen_live: dict[str, Generation] = {}
        """Collection -> the generation its last search saw live. The next one looks again, in the snapshot it searches."""
        self.results: list[StageResult] = []
        """What the stages run in this process reported, oldest first."""
        self._report = report
        self._given_embedder = embedder
        self._embedders: dict[EmbedderSettings, Embedder] = {}
        self._lost: dict[int, RagAssetsError | None] = {}
        self._sources: dict[str, DocumentSource] = {}
        self._stores: dict[str, Store] = {}

    def __enter__(self) -> "Runtime":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop the parsers, close the stores and the pool, if they were ever made."""
        while self._stores:
            self._stores.popitem()[1].close()
        for name in ("parsers", "database"):
            part = self.__dict__.pop(name, None)
            if part is not None:
                part.close()

    @cached_property
    def database(self) -> Database:
        """The pool; starts the embedded server and migrates when first used."""
        return open_database(self.settings, self._report)

    @cached_property
    def parsers(self) -> ParserPool:
        """Warm parsing processes."""
        return ParserPool(self.settings.parsing)

    def source(self, collection: str) -> DocumentSource:
        """Where a collection's documents are.

        Raises:
            ConfigurationError: there is no such collection, or an optional package for its source is missing.
        """
        if collection not in self._sources:
            settings = self.settings
            self._sources[collection] = open_source(
                settings.collection(collection), settings.sources, settings.home / "repositories"
            )
        return self._sources[collection]

    @cached_property
    def query_cache(self) -> QueryCache:
        """Vectors of the questions asked last in this process."""
        return QueryCache(self.settings.serving.query_cache)

    @cached_property
    def parser_fp(self) -> str:
        """Fingerprint of the parser: of what a document is parsed to."""
        return parser_fingerprint(self.settings.parsing)

    @cached_property
    def attempt_fp(self) -> str:
        """Fingerprint of the parser and every limit: a quarantined file is tried again when it changes."""
        return attempt_fingerprint(self.settings.parsing)

    def prepare(self, part: Callable[[], object]) -> None:
        """Begin in another thread what will be asked for soon; whoever asks waits for it, and meets its error."""

        def attempt() -> None:
            with suppress(Exception):
                part()

        Thread(target=attempt, name="prepare").start()

    @property
    def embedder(self) -> Embedder:
        """The configured embedder: what new generations are made with."""
        return self._given_embedder or self._embedder(self.settings.embedder)

    def embedder_of(self, generation: Generation) -> Embedder:
        """The embedder a generation was made with: what its queries must be embedded with.

        Raises:
            RagAssetsError: its model is not what it was, so that its vectors and new ones can't be compared.
        """
        if generation.key.embedder_fp == self.embedder.fingerprint:
            return self.embedder
        embedder = self._embedder(EmbedderSettings(**generation.config["embedder"]))
        if embedder.fingerprint != generation.key.embedder_fp:
            raise RagAssetsError(
                f"{generation.name} was made with another version of the model {embedder.name!r} than the one that is "
                "installed. Install that one again, or run `rag-assets sync` to build an index with this one."
            )
        return embedder

    def _embedder(self, settings: EmbedderSettings) -> Embedder:
        if settings not in self._embedders:
            self._embedders[settings] = build_embedder(settings, StoredReferences(lambda: self.database))
        return self._embedders[settings]

    def chunking(self, collection: str) -> ChunkingSettings:
        """The chunking settings of a collection."""
        return self.settings.chunking_of(collection)

    def chunker_fp(self, collection: str) -> str:
        """Fingerprint of how a collection is cut."""
        return chunker_fingerprint(self.chunking(collection), self.embedder)

    def key(self, collection: str) -> GenerationKey:
        """The index the configuration asks for."""
        return GenerationKey(
            self.chunker_fp(collection),
            self.embedder.fingerprint,
            index_fingerprint(self.settings.index, self.settings.lexical, store_config(self.settings, collection)),
        )

    def recipe(self, collection: str) -> Recipe:
        """How the configuration wants the index made."""
        return Recipe(self.key(collection), self.chunking(collection), self.embedder)

    def recipe_of(self, generation: Generation) -> Recipe:
        """How an existing generation was made, so that it can follow its documents.

        Raises:
            RagAssetsError: its model is not what it was.
        """
        chunking = ChunkingSettings(**generation.config["chunking"])
        embedder = self.embedder_of(generation)
        if embedder is not self.embedder and isinstance(embedder, ServedEmbedder):
            self._refuse_lost(embedder)
        return Recipe(generation.key, chunking, embedder)

    def _refuse_lost(self, embedder: ServedEmbedder) -> None:
        """A server that could not be proved stays out of this process's work: half a run with it would be no run."""
        if id(embedder) not in self._lost:
            try:
                embedder.prove()
                self._lost[id(embedder)] = None
            except RagAssetsError as error:
                self._lost[id(embedder)] = error
        lost = self._lost[id(embedder)]
        if lost is not None:
            raise lost

    def recipes(self, collection: str) -> list[Recipe]:
        """What a shard's run keeps up to date: the index the configuration asks for, then the live one if it differs.

        A live index whose model is gone can't follow its documents; it is left as it is.
        """
        wanted, live = self.recipe(collection), self.live(collection)
        if live is None or live.key == wanted.key:
            return [wanted]
        try:
            return [wanted, self.recipe_of(live)]
        except RagAssetsError:
            return [wanted]

    def prove(self, collection: str) -> None:
        """Have each server that embeds for a collection compared with its model's reference vectors, once a process.

        Raises:
            RagAssetsError: it can't be reached, or has another model.
        """
        for recipe in self.recipes(collection):
            if isinstance(recipe.embedder, ServedEmbedder):
                recipe.embedder.prove()

    def config(self, collection: str) -> dict[str, Any]:
        """The settings behind :meth:`key`, as stored with a generation."""
        return {
            "chunking": self.chunking(collection).model_dump(mode="json"),
            "embedder": dict(self.embedder.resolved),
            "index": {
                "m": self.settings.index.m,
                "ef_construction": self.settings.index.ef_construction,
                "token_vectors": self.settings.index.token_vectors,
            },
            # k1 and b are chosen per query, as ef_search is.
            "lexical": self.settings.lexical.model_dump(mode="json", include={"language", "stop_words"}),
            **({"store": store} if (store := store_config(self.settings, collection)) else {}),
        }

    def store_of(self, generation: Generation) -> Store:
        """The store that holds a generation."""
        return self._store(generation.config.get("store", {}).get("kind", "pgvector"))

    def store(self, collection: str) -> Store:
        """The store the configuration asks for."""
        return self._store(self.settings.store_of(collection))

    def _store(self, kind: str) -> Store:
        if kind not in self._stores:
            self._stores[kind] = build_store(kind, self.settings)
        return self._stores[kind]

    def beam_of(self, generation: Generation) -> int:
        """``ef_search`` in force for a generation: the setting, or what its recall was measured to need, if that is wider."""
        return max(self.settings.index.ef_search, generation.beam or 0)

    def followed(self, collection: str) -> list[Generation]:
        """The live generation, where a shard's run must keep it up to date beside the one the configuration asks for."""
        live, target = self.live(collection), self.target(collection)
        if live is None or collection in self.resting or (target is not None and target.id == live.id):
            return []
        return [live] if any(recipe.key == live.key for recipe in self.recipes(collection)) else []

    def target(self, collection: str) -> Generation | None:
        """The generation work goes into, if it has been begun."""
        with self.database.transaction() as connection:
            return generations.find(connection, collection, self.key(collection))

    def live(self, collection: str) -> Generation | None:
        """The generation queries are answered from."""
        with self.database.transaction() as connection:
            return generations.live(connection, collection)


def store_config(settings: Settings, collection: str) -> Mapping[str, Any]:
    """What of the store belongs to a generation; nothing for PostgreSQL. Its address does not: a server may move."""
    if settings.store_of(collection) == "pgvector":
        return {}
    weaviate = settings.weaviate.model_dump(include={"multi_tenancy", "replication_factor"})
    return {"kind": "weaviate", **weaviate}


def index_fingerprint(settings: IndexSettings, lexical: LexicalSettings, store: Mapping[str, Any] | None = None) -> str:
    """Fingerprint of what decides an HNSW graph and a lexical index; ``ef_search``, ``k1`` and ``b`` are chosen per query."""
    return fingerprint.fingerprint(
        {
            "kind": "hnsw-halfvec-cosine",
            "m": settings.m,
            "ef": settings.ef_construction,
            "lexical": analyzer_fingerprint(lexical),
            **({"token_vectors": "int4"} if settings.token_vectors else {}),
            **({"store": dict(store)} if store else {}),
        }
    )
