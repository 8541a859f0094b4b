"""Reranking: the first hits are scored again by something that looks at question and passage together.

``late-interaction`` needs no further weights: the mean over the question's tokens of the best cosine to a token of the passage
(MaxSim, Khattab and Zaharia, "ColBERT", SIGIR 2020), with the embedder's own token vectors. ``cross-encoder:NAME`` is a
sentence-transformers CrossEncoder; ``litellm:NAME`` a rerank endpoint (Cohere, Jina, TEI, infinity …) through LiteLLM.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from rag_assets.embedding.quantised import mean_best
from rag_assets.errors import ConfigurationError, RagAssetsError
from rag_assets.models import Embedder, TokenEmbedder

LATE_INTERACTION = "late-interaction"
CROSS_ENCODER = "cross-encoder:"
LITELLM = "litellm:"
BATCH = 16
"""Passages scored between two looks at the clock."""


class Reranker(Protocol):
    """Scores passages against a question; higher is better, and scores of one call can be compared."""

    def score(self, question: str, passages: Sequence[str]) -> Iterator[Sequence[float]]:
        """Scores of the passages in order, a batch at a time, so that the caller can stop."""
        ...


@dataclass(frozen=True, slots=True)
class Reranked:
    """Scores of the passages, or None where the time was spent before all had one."""

    scores: tuple[float, ...] | None
    seconds: float


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
            ConfigurationError: it can't be found; says where it was looked for.
        """
        from sentence_transformers import CrossEncoder

        try:
            self._model = CrossEncoder(model)
        except (OSError, ValueError) as error:
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


class LiteLLMReranker:
    """A rerank endpoint behind LiteLLM; keys and base addresses come from the environment, as LiteLLM reads them."""

    def __init__(self, model: str, *, timeout_seconds: float = 10.0) -> None:
        self._model, self._timeout = model, timeout_seconds

    def score(self, question: str, passages: Sequence[str]) -> Iterator[Sequence[float]]:
        """The endpoint's relevance scores, all passages in one call.

        Raises:
            RagAssetsError: the endpoint failed or scored something else than what it was sent.
        """
        import litellm

        try:
            reply: Any = litellm.rerank(
                model=self._model, query=question, documents=list(passages), timeout=self._timeout, max_retries=1
            )
            scores = {int(row["index"]): float(row["relevance_score"]) for row in reply.results}
        except Exception as error:  # LiteLLM raises its providers' own errors
            reason = " ".join(str(error).split())[:300]
            raise RagAssetsError(
                f"The reranker {self._model!r} failed: {reason}. Check its address and key."
            ) from error
        if scores.keys() != set(range(len(passages))):
            raise RagAssetsError(f"The reranker {self._model!r} scored {len(scores)} of {len(passages)} passages.")
        yield [scores[position] for position in range(len(passages))]


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
        return CrossEncoderReranker(name.removeprefix(CROSS_ENCODER))
    if name.startswith(LITELLM) and name != LITELLM:
        return LiteLLMReranker(name.removeprefix(LITELLM))
    raise ConfigurationError(
        f"There is no reranker {name!r}. Known: '{LATE_INTERACTION}', '{CROSS_ENCODER}NAME', '{LITELLM}NAME', 'none'."
    )
