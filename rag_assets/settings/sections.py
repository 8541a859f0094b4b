"""The sections of the settings file, each field documented; none knows of the others."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator


class Section(BaseModel):
    """Part of the settings: frozen, and it knows every field it may have."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ChunkingSettings(Section):
    """How documents are cut."""

    strategy: Literal["recursive", "sliding", "sentence-window", "semantic", "whole"] = "recursive"
    """``recursive``: by headings, then paragraphs, sentences and words, to a token budget. ``sliding``: windows of that many
    tokens, whatever they cut. ``sentence-window``: a few sentences are embedded, and shown with their neighbours. ``semantic``:
    where neighbouring sentences are least alike by their vectors; every two neighbours are embedded once more for that. ``whole``: a
    document is one chunk; one longer than the model reads is cut into as few as fit. All but ``sliding`` leave a table or a
    piece of code that fits into a chunk whole."""
    max_tokens: int = Field(256, ge=16, le=8192)
    """Longest chunk, in the embedder's own tokens, context and special tokens included; more than the model reads is an
    error. ``whole`` always takes what the model reads."""
    overlap_tokens: int = Field(32, ge=0, le=2048)
    """``recursive`` and ``semantic``: whole sentences repeated from the previous chunk of the same section, up to this many
    tokens; ``sliding``: words of the previous window. The others repeat nothing."""
    contextual: bool = True
    """Put the document title and the heading path before the text that is embedded."""
    sentence_tokens: int = Field(64, ge=1, le=8192)
    """``sentence-window`` only: neighbouring sentences are embedded together up to this many tokens; one longer sentence, or
    a table, is embedded alone. ``max_tokens`` is the budget of the window that is shown."""
    breakpoint_percentile: float = Field(90, ge=0, le=100)
    """``semantic`` only: a chunk ends where the distance between what stands before and after is over this percentile of the
    document's own distances. 90 cuts after every tenth sentence or so; ten sentences are about 250 tokens."""


class ParsingSettings(Section):
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


class IndexSettings(Section):
    """HNSW parameters (Malkov and Yashunin 2016, arXiv 1603.09320) as pgvector names them."""

    m: int = Field(16, ge=2, le=100)
    ef_construction: int = Field(64, ge=4, le=1000)
    ef_search: int = Field(100, ge=1, le=1000)
    """The narrowest beam. An evaluation that finds too little with it measures wider ones, up to 1000, and keeps the first that
    meets the floors of recall with the generation. (In Weaviate it is a property of the index, and the only one.)"""
    token_vectors: bool = False
    """Keep the vectors of each chunk's tokens (4 bits a number, some 25 kB a chunk), so that ``late-interaction`` need not compute them
    for every question. A change builds a new index; texts are not embedded again, but their tokens are."""

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


class LexicalSettings(Section):
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


class RetrievalSettings(Section):
    """How passages are found. All of it is decided per query; nothing has to be indexed again."""

    mode: Literal["dense", "lexical", "hybrid"] = "hybrid"
    """``dense``: by vectors; ``lexical``: by words (BM25); ``hybrid``: by both."""
    fusion: Literal["convex", "rrf"] = "convex"
    """``convex``: weighted sum of min-max-normalised scores; ``rrf``: reciprocal rank fusion."""
    dense_weight: float = Field(0.5, ge=0, le=1)
    """Weight of the dense side in the convex combination; the lexical side has the rest."""
    candidates: int = Field(50, ge=1, le=1000)
    """Passages each side contributes."""
    rerank: str = "none"
    """``late-interaction`` (needs no further weights), ``cross-encoder:NAME``, ``litellm:NAME``, or ``none``."""
    rerank_depth: int = Field(30, ge=1, le=500)
    """Passages that are reranked."""
    rerank_weight: float = Field(0.4, ge=0, le=1)
    """Weight of the reranker's score against the one before it, both normalised over those passages."""
    rerank_seconds: float = Field(2.0, gt=0)
    """Time the reranker may take; when it is spent, the order before it stands, and the result says so."""
    filter_fields: tuple[str, ...] | None = None
    """Metadata fields that may be filtered by. None: every field that a document of the collection has."""
    diversity: bool = False
    """Let ``near_duplicate`` and ``max_per_document`` hold for ``search``, too; answers are always given from diverse passages."""
    near_duplicate: float = Field(0.9, gt=0, le=1)
    """A passage is left out when at least this share of its runs of five words, and every figure in it, stands in a better one."""
    max_per_document: int = Field(2, ge=0, le=1000)
    """Passages of one document, as long as others can fill the places; 0: any number. It does not hold where what was found
    comes from fewer documents than there are places, or than five, so that a single document, or three books, still answer. 2 keeps one
    poisoned document from filling a context; against 0 it cost 0.01 of citation correctness and no answer that held the gold one
    (sample corpus and a set of software documentation)."""


LEAST_CONTEXT_TOKENS = 100
"""Less holds no passage."""


class AnswerSettings(Section):
    """Which model answers, and from how much."""

    models: Path | None = None
    """A LiteLLM model-list YAML. None: only the offline answerer."""
    model: str = "offline-extractive"
    """A ``model_name`` of that list. The offline answerer is always registered under this default name."""
    top_k: int = Field(4, ge=1, le=20)
    """Chunks given to the model, best first, neighbours joined."""
    fill_context: bool = False
    """Go on to the next best chunks while ``context_tokens`` has room."""
    context_tokens: int = Field(4000, ge=LEAST_CONTEXT_TOKENS)
    """Budget for those chunks, in tokens of the answering model."""
    window_tokens: int = Field(8192, ge=500)
    """What the model reads and writes at most: rules, question, chunks, answer and reserve. More than that is an error."""
    answer_tokens: int = Field(512, ge=1)
    """Kept free in that window for the answer …"""
    reserve_tokens: int = Field(500, ge=0)
    """… and for what the model's own chat format adds, or an estimate of tokens misses."""
    timeout_seconds: float = Field(30, gt=0)

    def wanted(self, found: int) -> int:
        """How many of so many hits may be given to the model."""
        return found if self.fill_context else min(found, self.top_k)


class EvaluationSettings(Section):
    """How much of the golden set is asked."""

    answer_questions: int = Field(60, ge=1)
    """Questions that are answered, not only searched: a fixed sample. With a paid model this is what costs money."""
    similarity: bool = True
    """Compare answers with the golden ones by BLEU, ROUGE-L, chrF, edit distance and embeddings as well, and the documents given
    to the model with the labelled ones (ragas; its import takes some seconds per evaluation)."""


JudgeMetric = Literal[
    "faithfulness", "answer_relevancy", "context_precision", "context_recall", "factual_correctness"
]  # fmt: skip


class JudgeSettings(Section):
    """The model that judges answers, through ragas. Its limits are its own; ``[answers]`` has those of the model that answers.
    They hold for ``rag-assets questions draft`` as well, which asks ``answers.model`` and replays nothing but what it asked before."""

    model: str | None = None
    """A ``model_name`` of ``answers.models``. None: no model judges, and nothing is asked of any."""
    metrics: tuple[JudgeMetric, ...] = (
        "faithfulness", "answer_relevancy", "context_precision", "context_recall", "factual_correctness",
    )  # fmt: skip
    """What is judged. Calls per question: faithfulness 2, answer relevancy 3, context precision one per passage, context recall 1,
    factual correctness 4."""
    repeats: int = Field(1, ge=1, le=15)
    """Judgements of each metric on each question. The median counts; how far they lie apart is reported."""
    concurrency: int = Field(4, ge=1, le=64)
    """Calls at a time."""
    requests_per_minute: int | None = Field(None, ge=1)
    """None: as many as the server takes."""
    timeout_seconds: float = Field(60, gt=0)
    """Wall-clock limit of one call, from request to last byte."""
    retries: int = Field(3, ge=0, le=10)
    """Further attempts at a call that failed: after the time the server asks for (Retry-After), else after 1, 2, 4 … seconds."""
    max_calls: int | None = Field(5000, ge=1)
    """Requests one evaluation may send, repeated ones included. What is left when a budget is spent stays unmeasured, and the
    next evaluation goes on from there: replies are kept. Kept replies cost nothing and don't count."""
    max_tokens: int | None = Field(None, ge=1)
    """Tokens one evaluation may use, read and written."""
    max_cost_usd: float | None = Field(None, gt=0)
    """Money one evaluation may cost. It needs a price: LiteLLM's own, or ``input_cost_per_token`` in the model list."""
    replay_only: bool = False
    """Make evaluations from kept replies alone and call nobody; what is not kept is unmeasured."""


LATENCY_STAGES = (
    "embedding", "dense", "lexical", "fuse", "retrieval", "rerank", "search", "first_token", "generation", "total",
)  # fmt: skip
"""What has a latency, in the order people read it; see :mod:`rag_assets.evaluation.latency`."""


class GateSettings(Section):
    """Floors and budgets a generation must meet before it goes live.

    Written in ``evals/thresholds.toml``: what stands at its top holds for every collection, what stands under ``[collections.NAME]``
    for that one. ``[gates]`` in the settings file is read first.
    """

    ann_recall_mean: float = Field(0.95, ge=0, le=1)
    """recall@10 of the HNSW index against exact search: floor of the mean …"""
    ann_recall_p05: float = Field(0.80, ge=0, le=1)
    """… and of the 5th percentile over queries."""
    ndcg_drop: float = Field(0.02, ge=0, le=1)
    """A generation may score this much less nDCG@10 than the live one; more than this, beyond noise, is refused."""
    max_drop: dict[str, Annotated[float, Field(ge=0, le=1)]] = {}
    """The same for other metrics, by their names in ``scores.json``: ``answer_contained = 0.05``."""
    floors: dict[str, Annotated[float, Field(ge=0, le=1)]] = {}
    """Least score by metric: ``"ndcg@10" = 0.8``, ``faithfulness = 0.9``. A score below its floor is refused; where its 95 % interval
    reaches the floor, the verdict is inconclusive, and the generation does not go live by itself either."""
    search_p95_seconds: float = Field(1.0, gt=0)
    """Budget of the 95th percentile of search time, embedding of the question included."""
    p95_seconds: dict[str, Annotated[float, Field(gt=0)]] = {}
    """The same for other stages, as the latency benchmark names them: ``generation = 5``. It holds where the stage is measured."""

    @field_validator("p95_seconds")
    @classmethod
    def _known_stages(cls, value: dict[str, float]) -> dict[str, float]:
        for stage in value:
            if stage not in LATENCY_STAGES:
                raise ValueError(f"{stage!r} is no stage; known: {', '.join(LATENCY_STAGES)}")
        return value


class ServingSettings(Section):
    """How questions are answered, and what ``rag-assets up`` serves beside the Dagster UI."""

    query_cache: int = Field(1000, ge=0, le=1_000_000)
    """Questions whose vectors a process remembers (about 2 kB each), so that a repeated one is not embedded again."""

    port: int = Field(3030, ge=0, le=65535)
    """Port of the reports, on this machine only; 0: any that is free."""


class SyncSettings(Section):
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
    rebuild_change_share: float = Field(0.5, gt=0)
    """A sync that would write or delete more than this share of a collection's rows builds a new index beside the live one instead of
    changing that in place: it costs less, and is judged before it goes live. An edit deletes and writes, so that it counts twice, and
    the default is passed when more than a quarter of the documents are edited. 2 or more: edits alone never do."""
    rebuild_change_rows: int = Field(5000, ge=0)
    """Fewer are written and deleted in place, whatever their share: judging a new index has a price of its own."""
    keep_retired: int = Field(2, ge=1)
    """Retired generations kept for rollback."""
