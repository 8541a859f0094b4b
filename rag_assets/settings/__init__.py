"""Settings: one frozen object, read from ``rag_assets.toml`` and the environment.

Precedence, highest first: command-line flags (passed as ``overrides``), environment variables, ``rag_assets.toml``,
the defaults below. Every mistake is reported with the field, the value and what is allowed.

Environment: ``RAG_CONFIG`` (settings file), ``RAG_HOME`` (where state lives), ``RAG_SOURCE`` (a folder or URL to index as the
collection named by ``RAG_COLLECTION``), ``RAG_POSTGRES_URL`` (a PostgreSQL server to use instead of the embedded one).
"""

from rag_assets.config_file import CONFIG_FILE, find_config
from rag_assets.settings.benchmark import LATENCY_CLASSES, BenchmarkSettings, LatencyLimits
from rag_assets.settings.capacity import CapacitySettings
from rag_assets.settings.embedder import EmbedderSettings
from rag_assets.settings.loading import load_settings
from rag_assets.settings.model import DEFAULT_COLLECTION, NAME_PATTERN, CollectionSettings, Settings
from rag_assets.settings.sections import (
    LATENCY_STAGES,
    AnswerSettings,
    ChunkingSettings,
    EvaluationSettings,
    GateSettings,
    IndexSettings,
    JudgeSettings,
    Language,
    LexicalSettings,
    ParsingSettings,
    RetrievalSettings,
    SyncSettings,
)
from rag_assets.settings.source_urls import Source
from rag_assets.settings.sources import SourceOptions, SourcesSettings
from rag_assets.settings.weaviate import WeaviateSettings

__all__ = [
    "CONFIG_FILE",
    "DEFAULT_COLLECTION",
    "LATENCY_CLASSES",
    "LATENCY_STAGES",
    "NAME_PATTERN",
    "AnswerSettings",
    "BenchmarkSettings",
    "CapacitySettings",
    "ChunkingSettings",
    "CollectionSettings",
    "EmbedderSettings",
    "EvaluationSettings",
    "GateSettings",
    "IndexSettings",
    "JudgeSettings",
    "Language",
    "LatencyLimits",
    "LexicalSettings",
    "ParsingSettings",
    "RetrievalSettings",
    "Settings",
    "Source",
    "SourceOptions",
    "SourcesSettings",
    "SyncSettings",
    "WeaviateSettings",
    "find_config",
    "load_settings",
]
