"""Embedding by a server: OpenAI, text-embeddings-inference, vLLM or any other that LiteLLM can talk to.

What vouches for the vectors. A server's weights can't be hashed, so the fingerprint names the model (name, revision, tokenizer,
length, prompts) and **reference vectors** say what that name means: those of a dozen fixed texts, kept in the database when the
model is first used – computed by a local copy where there is one, so that the server is shown to run the model it is named
after, else by the server itself. Before the first text of every process the server embeds them again: each must have a
cosine of at least 0.999 with its reference, and the clear orders of neighbours must be the same. After that every request
carries one of them at a place that varies, which a server that sorts, shifts or reverses a reply, or changes its model, does
not put back. Two vectors that are swapped in a reply without numbers, and nothing else, would be missed; a reply's numbers
(``index``) are obeyed.

With ``embedder.parity`` naming a local model the fingerprint *is* that model's: its vectors and the server's are one space.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any

import numpy as np

from rag_assets.embedding.canaries import LEAST_COSINE, Reference, place_of
from rag_assets.embedding.endpoint import Endpoint, RequestFailed
from rag_assets.embedding.local_copy import find_copy, find_tokenizer
from rag_assets.embedding.local_model import TextKind
from rag_assets.embedding.proving import References, prove
from rag_assets.errors import ConfigurationError, RagAssetsError
from rag_assets.fingerprint import fingerprint, hash_parts
from rag_assets.models import Embedder, Spent, Vectors
from rag_assets.settings import EmbedderSettings

_TEXTS = 32
"""Texts of a request, the reference text included: what text-embeddings-inference takes by default."""
_QUERY_RETRIES = 1
"""A person waits for it."""


class ServerEmbedder:
    """An ``Embedder`` over a server. Construction asks it nothing."""

    backend = "litellm"

    def __init__(
        self,
        settings: EmbedderSettings,
        build_local: Callable[[EmbedderSettings], Embedder],
        references: References | None = None,
        endpoint: Endpoint | None = None,
    ) -> None:
        """``references``: None compares with a local copy of the model at most.

        Raises:
            ConfigurationError: no provider, tokenizer, key or local model of that name; says what to set.
        """
        provider, _, served = settings.model.partition("/")
        if not provider or not served:
            raise ConfigurationError(
                f"embedder.model = {settings.model!r}: embedder.backend = 'litellm' wants PROVIDER/NAME; 'openai/NAME' for any "
                "server that speaks OpenAI's protocol (text-embeddings-inference, vLLM …), with embedder.api_base."
            )
        self.name = settings.model
        self._settings, self._references = settings, references
        self._twin = find_copy(settings, served, build_local)
        self._equal = settings.parity not in ("auto", "none")
        self._tokenizer = find_tokenizer(settings, served)
        self._prompts = dict(zip(("query", "document"), self._tokenizer.prompts, strict=True))
        self._endpoint = endpoint or Endpoint(settings)
        self._lock = threading.Lock()
        self._proved: Reference | None = None
        self.max_tokens = settings.max_tokens or self._tokenizer.max_tokens
        self.tokenizer_fingerprint = self._tokenizer.tokenizer_fingerprint
        self.resolved: dict[str, Any] = settings.model_dump(mode="json")
        if self._equal and self._twin is not None:
            twin = self._twin.resolved
            self.resolved |= {"parity": f"{twin['backend']}:{twin['model']}", "dtype": twin["dtype"]}

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the model's name and what the texts go through here; of the local model where the server must equal it."""
        if self._equal and self._twin is not None:
            return self._twin.fingerprint
        return fingerprint(
            {
                "family": "litellm",
                "model": self.name,
                "revision": self._settings.revision,
                "tokenizer": self.tokenizer_fingerprint,
                "max_tokens": self.max_tokens,
                "prompts": self._prompts,
                "normalise": True,
            }
        )

    @property
    def dimension(self) -> int:
        """Length of a vector. Asks the server, the first time."""
        return int(self._reference().vectors.shape[1])

    @property
    def spent(self) -> Spent:
        """What the server was asked for, reference texts included."""
        return self._endpoint.spent

    def usd_per_token(self) -> float | None:
        """Its price; None: unknown."""
        return self._endpoint.usd_per_token()

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text as the model would read it untruncated, special tokens included."""
        return self._tokenizer.count_tokens(texts)

    def coverage(self, text: str) -> float:
        """Share of the text's words that the model's vocabulary has in more than single letters."""
        return self._tokenizer.coverage(text)

    def warm(self) -> None:
        """Import LiteLLM and prove the server."""
        self.prove()

    def prove(self) -> None:
        """Compare the server with the reference vectors, once a process.

        Raises:
            RagAssetsError: it can't be reached, or gives other vectors; with the figures.
        """
        self._reference()

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors of shape (len(texts), dimension), in order. A text is cut to what the model reads; chunks are no longer.

        Raises:
            RagAssetsError: the server failed, or gave other vectors than it should; names the text where it is one.
        """
        return self._embed(texts, "document")

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """As ``embed_documents``, with the model's query prompt where its folder has one, and hardly any retries."""
        return self._embed(texts, "query")

    def _embed(self, texts: Sequence[str], kind: TextKind) -> Vectors:
        if not texts:
            return np.empty((0, self.dimension), np.float32)
        self._reference()
        prompted = self._as_read(texts, kind)
        retries = self._settings.retries if kind == "document" else min(_QUERY_RETRIES, self._settings.retries)
        batches = [prompted[part] for part in self._batches(prompted)]
        if len(batches) == 1:
            return self._divided(batches[0], retries)
        with ThreadPoolExecutor(min(self._settings.concurrency, len(batches))) as pool:
            tasks = [pool.submit(self._divided, batch, retries) for batch in batches]
            try:
                return np.concatenate([task.result() for task in tasks])
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def _as_read(self, texts: Sequence[str], kind: TextKind) -> list[str]:
        prompted = [self._prompts[kind] + text for text in texts]
        counts = self.count_tokens(prompted)
        return [
            text if count <= self.max_tokens else self._tokenizer.cut(text, self.max_tokens)
            for text, count in zip(prompted, counts, strict=True)
        ]

    def _batches(self, texts: Sequence[str]) -> Iterator[slice]:
        """Neighbours that fit into one request together with a reference text."""
        most = max(1, (self._settings.batch_size or _TEXTS) - 1)
        start = tokens = 0
        for position, count in enumerate(self.count_tokens(texts)):
            if position > start and (position - start == most or tokens + count > self._settings.batch_tokens):
                yield slice(start, position)
                start, tokens = position, 0
            tokens += count
        yield slice(start, len(texts))

    def _divided(self, texts: list[str], retries: int) -> Vectors:
        """One request; where the server answers others but not this one, its halves, down to the text that is to blame."""
        try:
            return self._watched(texts, retries)
        except RequestFailed as failed:
            if not failed.divide:
                raise
            if failed.again:
                # A server that is down fails at anything, and need not be asked for every half.
                self._ask([self._prompts["document"] + self._reference().texts[0]], 0)
            if len(texts) == 1:
                raise RagAssetsError(
                    f"{failed} It does so for this text alone: {texts[0][:80]!r}. Leave its document out (exclude), or see the "
                    "server's log."
                ) from None
        middle = len(texts) // 2
        return np.concatenate([self._divided(half, min(1, retries)) for half in (texts[:middle], texts[middle:])])

    def _watched(self, texts: list[str], retries: int) -> Vectors:
        """One request that carries a reference text."""
        reference = self._reference()
        salt = int(hash_parts(texts)[:8], 16)
        place, number = place_of(texts, salt), salt % len(reference.texts[:-1])
        canary = self._as_read([reference.texts[number]], "document")
        vectors = self._ask([*texts[:place], *canary, *texts[place:]], retries)
        if vectors.shape[1] != reference.vectors.shape[1]:
            raise RagAssetsError(
                f"{self.place} returned vectors of dimension {vectors.shape[1]}; the model {self.name!r} has "
                f"{reference.vectors.shape[1]}. Nothing of them was stored."
            )
        cosine = float(vectors[place] @ reference.vectors[number])
        if cosine < LEAST_COSINE:
            raise RagAssetsError(
                f"{self.place} mixed up a reply, or changed the model {self.name!r}: a reference text in it has the cosine "
                f"{cosine:.4f} with its own vector ({LEAST_COSINE} is needed). Nothing of the reply was stored."
            )
        return np.ascontiguousarray(np.delete(vectors, place, axis=0))

    def _ask(self, texts: list[str], retries: int) -> Vectors:
        """One request: unit vectors, in order."""
        vectors = self._endpoint.vectors(texts, sum(self.count_tokens(texts)), retries)
        with np.errstate(over="ignore", invalid="ignore"):
            norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        broken = np.flatnonzero(~np.isfinite(norms[:, 0]) | (norms[:, 0] < 1e-6))
        if broken.size:
            first = int(broken[0])
            raise RagAssetsError(
                f"{self.place} gave no usable vector for {texts[first][:80]!r} (length {norms[first, 0]:g}; a vector must "
                "be finite and have a direction). Nothing of the reply was stored."
            )
        return np.asarray(vectors / norms, dtype=np.float32)

    def _reference(self) -> Reference:
        with self._lock:
            if self._proved is None:
                self._proved = prove(self, self._references, self._twin, self._tokenizer)
            return self._proved

    def make(self, texts: Sequence[str]) -> Vectors:
        """What the server makes of reference texts: unit vectors, and nothing watches over them."""
        read = self._as_read(texts, "document")
        return np.concatenate([self._ask(read[part], self._settings.retries) for part in self._batches(read)])

    @property
    def place(self) -> str:
        """The server, as messages name it."""
        return self._endpoint.place
