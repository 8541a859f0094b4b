"""Reranking: the first hits are scored again by something that looks at question and passage together.

``late-interaction`` needs no further weights: the mean over the question's tokens of the best cosine to a token of the passage
(MaxSim, Khattab and Zaharia, "ColBERT", SIGIR 2020), with the embedder's own token vectors. ``cross-encoder:NAME`` is a
sentence-transformers CrossEncoder; ``litellm:NAME`` a rerank endpoint (Cohere, Jina, TEI, infinity …) through LiteLLM.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, Protocol

import numpy as np

from rag_assets.embedding.quantised import mean_best
from rag_assets.errors import ConfigurationError, RagAssetsError
from rag_assets.litellm_client import load_litellm
from rag_assets.models import Embedder, TokenEmbedder
from rag_assets.retrieval.fusion import convex_combination, ranked
from rag_assets.settings import RetrievalSettings
from rag_assets.stores.protocol import Row

LATE_INTERACTION = "late-interaction"
CROSS_ENCODER = "cross-encoder:"
LITELLM = "litellm:"
BATCH = 16
"""Passages scored between two looks at the clock."""
AT_ONCE = 32
"""Passages of a request to an endpoint: what text-embeddings-inference takes by default."""
HUB_SECONDS = 10.0
"""How long the hub may take to say whether it has a model."""
LOOK_SECONDS = 0.02
"""Between two looks at the clock while an endpoint is waited for."""


class Reranker(Protocol):
    """Scores passages against a question; higher is better, and scores of one call can be compared."""

    def score(self, question: str, passages: Sequence[str]) -> Iterator[Sequence[float]]:
        """Scores of the passages in order, a batch (maybe an empty one) at a time, so that the caller can stop."""
        ...


@dataclass(frozen=True, slots=True)
class Reranked:
    """Scores of the passages, or None where the time was spent before all had one."""

    scores: tuple[float, ...] | None
    seconds: float


def passage_text(row: Row) -> str:
    """What a reranker reads: the headings a passage stands under, and its text."""
    headings = " › ".join(row.payload.get("headings") or ())
    return f"{headings}\n{row.text}" if headings else row.text


def blended(
    order: Sequence[str], before: Mapping[str, float], scores: Mapping[str, float], settings: RetrievalSettings
) -> list[str]:
    """The new order: those that were reranked by their weighted scores, both normalised over them, and the rest as it was.

    Args:
        order: chunk ids, best first.
        before: what they were ordered by.
        scores: the reranker's, of the first ``rerank_depth`` of them.
        settings: depth and weight.
    """
    first = order[: settings.rerank_depth]
    sides = [
        (settings.rerank_weight, {item: scores[item] for item in first}),
        (1 - settings.rerank_weight, {item: before[item] for item in first}),
    ]
    return [*ranked(convex_combination(sides)), *order[len(first) :]]


def rerank(reranker: Reranker, question: str, passages: Sequence[str], *, budget_seconds: float) -> Reranked:
    """Score every passage within a time budget, or none: half a reranking would rank the lucky half first."""
    started = time.perf_counter()
    scores: list[float] = []
    batches = reranker.score(question, passages)
    while len(scores) < len(passages):
        if time.perf_counter() - started > budget_seconds:
            return Reranked(None, time.perf_counter() - started)
        scores += next(batches)
    spent = time.perf_counter() - started
    return Reranked(tuple(scores) if spent <= budget_seconds else None, spent)


class LateInteraction:
    """MaxSim over the embedder's token vectors: those that are kept, and the rest computed when asked."""

    def __init__(self, embedder: TokenEmbedder, kept: Mapping[str, bytes] | None = None) -> None:
        """``kept``: passage -> its quantised token vectors."""
        self._embedder, self._kept = embedder, kept or {}

    def score(self, question: str, passages: Sequence[str]) -> Iterator[Sequence[float]]:
        """Mean over the question's tokens of the best cosine to a token of the passage: −1 … 1."""
        (asked,) = self._embedder.embed_query_tokens([question])
        for start in range(0, len(passages), BATCH):
            batch = passages[start : start + BATCH]
            other = [passage for passage in batch if passage not in self._kept]
            kept = [passage for passage in batch if passage in self._kept]
            computed = self._embedder.embed_document_tokens(other) if other else []
            scores = [float((asked @ tokens.T).max(axis=1).mean()) for tokens in computed]
            scores += mean_best(asked, [self._kept[passage] for passage in kept]) if kept else []
            found = dict(zip([*other, *kept], scores, strict=True))
            yield [found[passage] for passage in batch]


class CrossEncoderReranker:
    """A sentence-transformers CrossEncoder, from a local folder or its name where a hub can be reached."""

    def __init__(self, model: str) -> None:
        """Load the model.

        Raises:
            ConfigurationError: it can't be found, or gives no single score; says where it was looked for.
        """
        try:
            self._model = _load_cross_encoder(model)
        except (OSError, ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:300]
            raise ConfigurationError(
                f"The cross-encoder {model!r} can't be loaded: {reason}. Name a local folder that holds it "
                f"(rerank = '{CROSS_ENCODER}/path/to/folder'), or use '{LATE_INTERACTION}', which needs no further weights."
            ) from None

    def score(self, question: str, passages: Sequence[str]) -> Iterator[Sequence[float]]:
        """The model's own scores (logits or probabilities)."""
        for start in range(0, len(passages), BATCH):
            pairs = [(question, passage) for passage in passages[start : start + BATCH]]
            yield [
                float(score) for score in np.asarray(self._model.predict(pairs, show_progress_bar=False)).reshape(-1)
            ]


def _load_cross_encoder(model: str) -> Any:
    from sentence_transformers import CrossEncoder

    try:
        found = CrossEncoder(model, local_files_only=True)
    except (OSError, ValueError, RuntimeError):
        if Path(model).exists():
            raise
        # One request says whether there is a hub; loading would ask for every file, again and again, for more than a minute.
        from huggingface_hub import HfApi

        try:
            HfApi().model_info(model, timeout=HUB_SECONDS)
        except Exception as error:  # the HTTP library's own errors
            raise OSError(f"it is no local folder, and the hub does not give it: {error}") from None
        found = CrossEncoder(model)
    classes = found.model.config.num_labels
    if classes != 1:
        raise ValueError(f"it sorts into {classes} classes instead of giving one score")
    return found


@lru_cache(maxsize=2)
def _cross_encoder(model: str) -> CrossEncoderReranker:
    """Loading takes seconds, and a reranker is asked for with every question."""
    return CrossEncoderReranker(model)


class LiteLLMReranker:
    """A rerank endpoint behind LiteLLM; keys and base addresses come from the environment, as LiteLLM reads them."""

    def __init__(self, model: str, *, timeout_seconds: float = 10.0) -> None:
        """``timeout_seconds``: how long the endpoint may be silent. Loads LiteLLM, which takes seconds the first time."""
        self._litellm = load_litellm()
        self._model, self._timeout = model, timeout_seconds

    def score(self, question: str, passages: Sequence[str]) -> Iterator[Sequence[float]]:
        """The endpoint's relevance scores, a request for each :data:`AT_ONCE` passages; empty batches while one is waited for.

        Raises:
            RagAssetsError: the endpoint failed or scored something else than what it was sent.
        """
        for start in range(0, len(passages), AT_ONCE):
            part = list(passages[start : start + AT_ONCE])
            answered: SimpleQueue[Any] = SimpleQueue()
            # A reply may come a byte at a time, for ever, without any read timing out. A daemon, so that a process does not
            # wait for it to end.
            Thread(target=self._request, args=(question, part, answered), daemon=True).start()
            while True:
                try:
                    reply = answered.get(timeout=LOOK_SECONDS)
                    break
                except Empty:
                    yield ()
            yield self._scores(reply, len(part))

    def _request(self, question: str, passages: list[str], answered: "SimpleQueue[Any]") -> None:
        try:
            answered.put(
                self._litellm.rerank(
                    model=self._model,
                    query=question,
                    documents=passages,
                    return_documents=False,
                    timeout=self._timeout,
                )
            )
        except Exception as error:  # LiteLLM raises its providers' own errors
            answered.put(error)

    def _scores(self, reply: Any, count: int) -> Sequence[float]:
        try:
            if isinstance(reply, Exception):
                raise reply
            found = [(int(row["index"]), float(row["relevance_score"])) for row in reply.results]
        except Exception as error:
            reason = " ".join(str(error).split())[:300]
            raise RagAssetsError(
                f"The reranker {self._model!r} failed: {reason}. Check its address and key."
            ) from error
        scores = dict(found)
        if len(found) != count or scores.keys() != set(range(count)):
            raise RagAssetsError(f"The reranker {self._model!r} scored {len(found)} of {count} passages, or one twice.")
        if not np.isfinite(list(scores.values())).all():
            raise RagAssetsError(f"The reranker {self._model!r} failed: a score is no finite number.")
        return [scores[position] for position in range(count)]


def build_reranker(name: str, embedder: Embedder, kept: Mapping[str, bytes] | None = None) -> Reranker:
    """The reranker a setting names; ``kept``: passage -> its quantised token vectors, where there are any.

    Raises:
        ConfigurationError: there is none of that name, or it can't be had here.
    """
    if name == LATE_INTERACTION:
        if not isinstance(embedder, TokenEmbedder):
            raise ConfigurationError(
                f"The embedder {embedder.name!r} gives no token vectors, which {LATE_INTERACTION!r} compares. "
                f"Use '{CROSS_ENCODER}NAME' or '{LITELLM}NAME'."
            )
        return LateInteraction(embedder, kept)
    if name.startswith(CROSS_ENCODER) and name != CROSS_ENCODER:
        return _cross_encoder(name.removeprefix(CROSS_ENCODER))
    if name.startswith(LITELLM) and name != LITELLM:
        return LiteLLMReranker(name.removeprefix(LITELLM))
    raise ConfigurationError(
        f"There is no reranker {name!r}. Known: '{LATE_INTERACTION}', '{CROSS_ENCODER}NAME', '{LITELLM}NAME', 'none'."
    )
