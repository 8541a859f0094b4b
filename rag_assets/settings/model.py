"""Everything the project can be told, in one frozen object."""

import re
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from rag_assets.config_file import CONFIG_FILE
from rag_assets.errors import ConfigurationError
from rag_assets.settings.benchmark import BenchmarkSettings
from rag_assets.settings.capacity import CapacitySettings
from rag_assets.settings.embedder import EmbedderSettings
from rag_assets.settings.sections import (
    AnswerSettings,
    ChunkingSettings,
    EvaluationSettings,
    GateSettings,
    IndexSettings,
    JudgeSettings,
    LexicalSettings,
    ParsingSettings,
    RetrievalSettings,
    Section,
    ServingSettings,
    SyncSettings,
)
from rag_assets.settings.source_urls import OBJECT_STORES, Source, checked_source
from rag_assets.settings.sources import SourceOptions, SourcesSettings
from rag_assets.settings.weaviate import WeaviateSettings

StoreName = Literal["pgvector", "weaviate"]
DEFAULT_COLLECTION = "default"
NAME_PATTERN = r"^[a-z][a-z0-9_-]{0,47}$"
"""Names become partition keys and parts of metric labels: short, lower case, no ``|`` and no quotes."""


class CollectionSettings(Section):
    """A named set of documents."""

    source: Source
    """Where the documents are: a folder (relative paths are relative to the settings file); ``s3://``, ``gs://``, ``az://``
    BUCKET/PREFIX; ``git+https://HOST/REPOSITORY.git@REF#FOLDER``; or a list of http(s) URLs, one a document."""
    options: SourceOptions = SourceOptions()
    """How an object store is reached."""
    questions: Path | None = None
    """Golden questions (JSON Lines) the collection is judged by."""
    baseline: Path | None = None
    """An evaluation every later one is compared with as well (``rag-assets evaluate --save-baseline`` writes it)."""
    exclude: tuple[str, ...] = ()
    """File-name patterns (fnmatch, against the path relative to the source) that are not indexed."""
    chunking: ChunkingSettings | None = None
    """Overrides the top-level ``[chunking]`` for this collection."""
    retrieval: RetrievalSettings | None = None
    """Overrides the top-level ``[retrieval]`` for this collection."""
    store: StoreName | None = None
    """Overrides the top-level ``store`` for this collection."""
    gates: GateSettings | None = None
    """The gates of this collection; see ``thresholds``."""

    @field_validator("source", mode="before")
    @classmethod
    def _source(cls, value: object) -> Source:
        return checked_source(value)

    @model_validator(mode="after")
    def _options_of_a_store(self) -> "CollectionSettings":
        store = isinstance(self.source, str) and self.source.split("://")[0] in OBJECT_STORES
        if self.options != SourceOptions() and not store:
            raise ValueError("`options` are for object stores (s3://, gs://, az://); delete them")
        return self


class Settings(Section):
    """Everything the project can be told."""

    home: Path = Path(".rag")
    """Where state lives: the embedded database, reports, logs."""
    postgres_url: str | None = Field(default=None, repr=False)
    collections: dict[str, CollectionSettings] = Field({})
    sources: SourcesSettings = SourcesSettings()
    store: StoreName = "pgvector"
    """What answers queries: PostgreSQL itself, or a Weaviate server that mirrors it. A change builds a new index, which embeds
    nothing."""
    weaviate: WeaviateSettings = WeaviateSettings()
    parsing: ParsingSettings = ParsingSettings()
    chunking: ChunkingSettings = ChunkingSettings()
    embedder: EmbedderSettings = EmbedderSettings()
    index: IndexSettings = IndexSettings()
    lexical: LexicalSettings = LexicalSettings()
    retrieval: RetrievalSettings = RetrievalSettings()
    answers: AnswerSettings = AnswerSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    judge: JudgeSettings = JudgeSettings()
    gates: GateSettings = GateSettings()
    thresholds: Path | None = None
    """File of floors and budgets by collection; None: ``evals/thresholds.toml`` beside the settings file, if there is one."""
    serving: ServingSettings = ServingSettings()
    benchmark: BenchmarkSettings = BenchmarkSettings()
    capacity: CapacitySettings = CapacitySettings()
    sync: SyncSettings = SyncSettings()

    @field_validator("collections")
    @classmethod
    def _names(cls, value: dict[str, CollectionSettings]) -> dict[str, CollectionSettings]:
        for name in value:
            if not re.fullmatch(NAME_PATTERN, name):
                raise ValueError(f"collection name {name!r} must match {NAME_PATTERN} (it becomes a partition key)")
        return value

    def collection(self, name: str) -> CollectionSettings:
        """The settings of one collection.

        Raises:
            ConfigurationError: there is none of that name.
        """
        if name in self.collections:
            return self.collections[name]
        known = ", ".join(sorted(self.collections)) or "none yet"
        raise ConfigurationError(
            f"There is no collection {name!r} (known: {known}). "
            f"Add [collections.{name}] with a source to {CONFIG_FILE}, or pass --source DIR."
        )

    def chunking_of(self, name: str) -> ChunkingSettings:
        """The chunking settings in force for one collection."""
        return self.collection(name).chunking or self.chunking

    def store_of(self, name: str) -> StoreName:
        """What answers the queries of one collection."""
        found = self.collections.get(name)
        return (found.store if found else None) or self.store

    def retrieval_of(self, name: str) -> RetrievalSettings:
        """The retrieval settings in force for one collection."""
        found = self.collections.get(name)
        return (found.retrieval if found else None) or self.retrieval

    def gates_of(self, name: str) -> GateSettings:
        """The floors and budgets in force for one collection."""
        found = self.collections.get(name)
        return (found.gates if found else None) or self.gates

    def target(self, name: str | None = None) -> str:
        """The collection a command means when it names none: ``default`` if there is one, else the first configured.

        Raises:
            ConfigurationError: no collection is configured, or none of that name.
        """
        if name is not None:
            self.collection(name)
            return name
        if DEFAULT_COLLECTION in self.collections:
            return DEFAULT_COLLECTION
        if self.collections:
            return next(iter(self.collections))
        raise ConfigurationError(
            f"No documents are configured. Pass --source DIR, set RAG_SOURCE, or add [collections.NAME] to {CONFIG_FILE}."
        )
