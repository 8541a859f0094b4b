"""Requests to an embedding server through LiteLLM: paced, given up at a deadline, repeated within bounds."""

import os
import threading
import time
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from rag_assets.errors import ConfigurationError, RagAssetsError
from rag_assets.litellm_client import load_litellm, retry_after
from rag_assets.models import Spent, Vectors
from rag_assets.settings import EmbedderSettings

LONGEST_WAIT = 120.0
"""Seconds. A server that asks for more is not waited for."""
_REFUSED = (400, 413, 422)


class RequestFailed(RagAssetsError):
    """A request failed, after its retries."""

    def __init__(self, message: str, *, divide: bool, again: bool = True, wait: float | None = None) -> None:
        super().__init__(message)
        self.divide = divide
        """Parts of the request may succeed where the whole did not."""
        self.again = again
        """The same request may succeed later."""
        self.wait = wait
        """Seconds the server asks for."""


class Endpoint:
    """One model on one server. Any thread may ask."""

    def __init__(self, settings: EmbedderSettings, sleep: Callable[[float], object] = time.sleep) -> None:
        """
        Raises:
            ConfigurationError: the variable that should hold the key is not set.
        """
        self._settings, self._sleep = settings, sleep
        self._lock = threading.Lock()
        self._next_slot = self._not_before = 0.0
        self.spent = Spent()
        self._key = os.environ.get(settings.api_key_env, "") if settings.api_key_env else None
        if settings.api_key_env and not self._key:
            raise ConfigurationError(
                f"embedder.api_key_env = {settings.api_key_env!r}: that environment variable is not set. Set it to the key."
            )
        if self._key is None and settings.api_base:
            # The key of a provider is nothing for whoever runs this server.
            self._key = "none"

    @property
    def place(self) -> str:
        """The server, as messages name it: without user and password."""
        if not self._settings.api_base:
            return f"the provider of {self._settings.model!r}"
        parts = urlsplit(self._settings.api_base)
        return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()

    def usd_per_token(self) -> float | None:
        """The price; None: unknown."""
        if self._settings.usd_per_million_tokens is not None:
            return self._settings.usd_per_million_tokens / 1e6
        try:
            price = load_litellm().get_model_info(self._settings.model)["input_cost_per_token"]
        except Exception:  # LiteLLM has a bare Exception for a model it does not know
            return None
        return float(price) if price else None

    def vectors(self, texts: Sequence[str], tokens: int, retries: int) -> Vectors:
        """What the server returns for the texts, in their order: (len(texts), its dimension), of any length.

        Args:
            texts: One request.
            tokens: Their tokens, which the rate limit goes by.
            retries: Further attempts.

        Raises:
            ConfigurationError: key, path or model are refused.
            RequestFailed: it failed each time.
            RagAssetsError: the reply is not what was asked for.
        """
        for attempt in range(retries + 1):
            self._admit(tokens)
            try:
                return self._parsed(self._reply(texts, tokens), len(texts))
            except RequestFailed as failed:
                wait = 2.0**attempt if failed.wait is None else failed.wait
                if not failed.again or attempt == retries or wait > LONGEST_WAIT:
                    raise
                if failed.wait is None:
                    self._sleep(wait)
                else:  # nobody else need ask before that, either
                    with self._lock:
                        self._not_before = max(self._not_before, time.monotonic() + wait)
        raise AssertionError("a request is tried at least once")

    def _admit(self, tokens: int) -> None:
        """Wait for the request's turn."""
        per_request = 60 / self._settings.requests_per_minute if self._settings.requests_per_minute else 0.0
        per_tokens = 60 * tokens / self._settings.tokens_per_minute if self._settings.tokens_per_minute else 0.0
        with self._lock:
            now = time.monotonic()
            turn = max(now, self._not_before, self._next_slot)
            self._next_slot = turn + max(per_request, per_tokens)
        if turn > now:
            self._sleep(turn - now)

    def _reply(self, texts: Sequence[str], tokens: int) -> Any:
        answered: SimpleQueue[Any] = SimpleQueue()
        # The client's own timeout is of each read: a server that drips would never meet it.
        threading.Thread(target=self._request, args=(list(texts), answered), daemon=True).start()
        self._account(0, None, requests=1)
        try:
            reply = answered.get(timeout=self._settings.timeout_seconds)
        except Empty:
            raise self._failed(f"no reply within {self._settings.timeout_seconds:g} s", divide=True) from None
        if isinstance(reply, Exception):
            raise self._explained(reply) from None
        used = getattr(reply.usage, "prompt_tokens", None) or tokens
        self._account(used, (getattr(reply, "_hidden_params", None) or {}).get("response_cost") or None)
        return reply

    def _request(self, texts: list[str], answered: "SimpleQueue[Any]") -> None:
        try:
            litellm = load_litellm()
            litellm.DEFAULT_MAX_RETRIES = 0  # LiteLLM takes max_retries = 0 for "not given"
            answered.put(
                litellm.embedding(
                    model=self._settings.model,
                    input=texts,
                    api_base=self._settings.api_base,
                    api_key=self._key,
                    timeout=self._settings.timeout_seconds,
                )
            )
        except Exception as error:  # LiteLLM raises its providers' own errors
            answered.put(error)

    def _account(self, tokens: int, cost: float | None, requests: int = 0) -> None:
        price = self._settings.usd_per_million_tokens
        with self._lock:
            before = self.spent
            added = tokens * price / 1e6 if price is not None else cost if tokens else 0.0
            total = None if added is None or before.cost_usd is None else before.cost_usd + added
            self.spent = Spent(before.requests + requests, before.tokens + tokens, total)

    def _failed(self, reason: str, *, divide: bool, again: bool = True, wait: float | None = None) -> RequestFailed:
        model = self._settings.model
        return RequestFailed(
            f"{self.place} did not embed with {model!r}: {reason}.", divide=divide, again=again, wait=wait
        )

    def _explained(self, error: Exception) -> RagAssetsError:
        """What failed. LiteLLM tells some kinds apart by their text alone."""
        kind, status = type(error).__name__, getattr(error, "status_code", None)
        text = " ".join(str(error).split())
        text = (text.replace(self._key, "…") if self._key and self._key != "none" else text)[:300]
        if kind == "Timeout":
            return self._failed(f"no reply within {self._settings.timeout_seconds:g} s", divide=True)
        if kind == "APIConnectionError" or "Connection error" in text:
            return self._failed(
                f"it can't be reached (tried for up to {self._settings.timeout_seconds:g} s): {text}. Check embedder.api_base "
                "and that the server runs",
                divide=False,
            )
        if status in (401, 403):
            cure = (
                f"the variable {self._settings.api_key_env}" if self._settings.api_key_env else "embedder.api_key_env"
            )
            return ConfigurationError(f"{self.place} refused the key (HTTP {status}): {text} Check {cure}.")
        if status == 404 or (status == 400 and "LLM Provider NOT provided" in text):
            return ConfigurationError(
                f"{self.place} does not know the model {self._settings.model!r}, or the address is wrong (HTTP {status}): "
                f"{text} Check embedder.model (PROVIDER/NAME, openai/NAME for a server of your own) and embedder.api_base."
            )
        if status in _REFUSED:
            return self._failed(f"it refused the request (HTTP {status}): {text}", divide=True, again=False)
        wait = retry_after(getattr(error, "litellm_response_headers", None))
        return self._failed(f"HTTP {status}: {text}", divide=status != 429, wait=wait)

    def _parsed(self, reply: Any, count: int) -> Vectors:
        """The reply's vectors by its own numbering, where it has one."""
        rows = list(reply.data or [])
        if len(rows) != count:
            raise RagAssetsError(
                f"{self.place} returned {len(rows)} vectors for {count} texts. Nothing of them was stored."
            )
        numbers = [row.get("index") for row in rows]
        if any(number is not None for number in numbers):
            if sorted(number if isinstance(number, int) else -1 for number in numbers) != list(range(count)):
                raise RagAssetsError(
                    f"{self.place} numbered {count} vectors {numbers[:8]}: which is of which text can't be told."
                )
            rows = [row for _, row in sorted(zip(numbers, rows, strict=True), key=lambda pair: pair[0])]
        try:
            with np.errstate(over="ignore"):
                vectors = np.asarray([row["embedding"] for row in rows], dtype=np.float32)
        except (TypeError, ValueError):
            vectors = np.empty(0, np.float32)
        if vectors.ndim != 2 or not vectors.shape[1]:
            raise RagAssetsError(f"{self.place} returned something else than {count} equally long lists of numbers.")
        return vectors
