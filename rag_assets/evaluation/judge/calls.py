"""Calls to a model that judges answers, or drafts questions: kept and replayed, paced, repeated when they fail, and within a budget.

``Judge.acompletion`` stands where a LiteLLM router's would. A call is known by the hash of everything that decides its
reply: the model's parameters, the whole prompt, and which of several equal askings it is. The metric is no part of it.
"""

import asyncio
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Protocol

from rag_assets.database.judgements import StoredReply
from rag_assets.errors import RagAssetsError
from rag_assets.fingerprint import fingerprint
from rag_assets.litellm_client import retry_after
from rag_assets.settings import JudgeSettings

LONGEST_WAIT = 120.0
"""Seconds. A server that asks for more is not waited for."""
GIVE_UP_AFTER = 10
"""Calls that failed in a row, each after all its retries: the judge is down, and waiting for each of the others is in vain."""

_NOT_DECIDING = re.compile(
    r"(^|_)(key|secret|password|credentials?)(_|$)|_token$|_cost_|timeout|retries|^(rpm|tpm|weight|order|max_parallel_requests)$"
)
"""Parameters of a deployment that don't change what it replies: keys, prices, limits."""


class NotJudged(RagAssetsError):
    """A judgement could not be made. The text is the reason, in a few words and without anything of the reply."""


class Replies(Protocol):
    """Where replies are kept."""

    def find(self, key: str) -> StoredReply | None:
        """The reply kept under a key."""
        ...

    def keep(self, key: str, reply: StoredReply, documents: Sequence[str]) -> None:
        """Keep a reply that may quote these documents."""
        ...


@dataclass(slots=True)
class Judgement:
    """One judgement of one metric on one question; it may take several calls."""

    documents: tuple[str, ...]
    """What its prompts quote."""
    repeat: int = 0
    asked: Counter[str] = field(default_factory=Counter)
    """How often it has asked each prompt: ragas asks one prompt several times and wants several replies."""


CURRENT: ContextVar[Judgement] = ContextVar("judgement")
"""The judgement the running task makes."""


@dataclass(slots=True)
class Spent:
    """What one evaluation paid for."""

    calls: int = 0
    """Requests sent, failed ones included."""
    tokens: int = 0
    cost_usd: float = 0.0


@dataclass(frozen=True, slots=True)
class _Failure:
    reason: str
    wait: float | None = None
    """Seconds the server asks for."""
    again: bool = True
    everyone: bool = False
    """No other call can succeed either."""


class Judge:
    """Stands between ragas and LiteLLM's router. Used by tasks of one event loop."""

    def __init__(
        self,
        router: Any,
        settings: JudgeSettings,
        replies: Replies,
        *,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self.settings = settings
        self.spent = Spent()
        self.used: dict[str, StoredReply] = {}
        """Every reply that was used, kept or new."""
        self.broken: RagAssetsError | None = None
        """The place where replies are kept failed: this is no judgement that failed."""
        self._router, self._replies, self._sleep = router, replies, sleep
        self._deciding = [
            _deciding(entry["litellm_params"]) for entry in router.get_model_list(model_name=settings.model) or []
        ]
        self._locks: dict[str, asyncio.Lock] = {}
        self._first = asyncio.Lock()
        self._given_up: str | None = None
        self._failed_in_a_row = 0
        self._in_flight = 0
        self._most_tokens, self._most_cost = 0, 0.0
        self._price_unknown = False
        self._next_slot = self._not_before = 0.0

    async def acompletion(self, *, messages: Sequence[Mapping[str, Any]], **options: Any) -> Any:
        """A ``litellm.ModelResponse``: the reply kept for this call, else a new one, which is kept.

        Raises:
            NotJudged: there is none; the reason says why.
        """
        judgement = CURRENT.get()
        deciding = {name: value for name, value in options.items() if name != "model"}
        prompt = fingerprint([self.settings.model, self._deciding, deciding, list(messages)])
        key = fingerprint([prompt, judgement.repeat, judgement.asked[prompt]])
        judgement.asked[prompt] += 1
        async with self._locks.setdefault(key, asyncio.Lock()):
            reply = self.used.get(key) or await self._kept(self._replies.find, key)
            if reply is None:
                reply = await self._ask(messages, deciding)
            # Also a reply that was there: another question may quote further documents in the same words.
            await self._kept(self._replies.keep, key, reply, judgement.documents)
        self.used[key] = reply
        if reply.finish_reason == "length":
            raise NotJudged("the reply was cut off at max_tokens")
        return _response(reply)

    async def _kept(self, operation: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return await asyncio.to_thread(operation, *arguments)
        except RagAssetsError as error:
            self.broken = error
            # A reply that can't be kept would be paid for again.
            self._given_up = "the database failed"
            raise

    async def _ask(self, messages: Sequence[Mapping[str, Any]], options: Mapping[str, Any]) -> StoredReply:
        limited = self.settings.max_tokens is not None or self.settings.max_cost_usd is not None
        if limited and not self._most_tokens:
            # Until one reply says what a call takes, a second one could overdraw the budget.
            async with self._first:
                if not self._most_tokens:
                    return await self._try(messages, options)
        return await self._try(messages, options)

    async def _try(self, messages: Sequence[Mapping[str, Any]], options: Mapping[str, Any]) -> StoredReply:
        for attempt in range(self.settings.retries + 1):
            await self._admit()
            try:
                call = self._router.acompletion(model=self.settings.model, messages=list(messages), **options)
                # The client's own timeout is of each read: a server that drips would never meet it.
                response = await asyncio.wait_for(call, self.settings.timeout_seconds)
            except Exception as error:  # LiteLLM's errors share no base class
                failure = _failure(error)
            else:
                return self._account(response)
            finally:
                self._in_flight -= 1
            if failure.everyone:
                self._given_up = failure.reason
            if not failure.again:
                break
            wait = 2.0**attempt if failure.wait is None else failure.wait
            if wait > LONGEST_WAIT:
                failure = _Failure(f"{failure.reason}, asks to wait {wait:.0f} s")
                break
            if attempt < self.settings.retries:
                if failure.wait is not None:
                    self._not_before = max(self._not_before, monotonic() + wait)
                await self._sleep(wait)
        self._failed_in_a_row += 1
        if self._failed_in_a_row >= GIVE_UP_AFTER and self._given_up is None:
            self._given_up = f"given up after {GIVE_UP_AFTER} calls failed in a row, the last: {failure.reason}"
        raise NotJudged(failure.reason)

    async def _admit(self) -> None:
        """Count a request in, or refuse it; then wait for its turn."""
        settings = self.settings
        expected = self._in_flight + 1
        refusal = self._given_up
        if settings.replay_only:
            refusal = "no reply is kept (judge.replay_only)"
        elif settings.max_calls is not None and self.spent.calls >= settings.max_calls:
            refusal = f"budget spent (judge.max_calls = {settings.max_calls})"
        elif settings.max_tokens is not None and self.spent.tokens + expected * self._most_tokens > settings.max_tokens:
            refusal = f"budget spent (judge.max_tokens = {settings.max_tokens})"
        elif settings.max_cost_usd is not None and self._price_unknown:
            refusal = "judge.max_cost_usd can't be kept: no price is known; set input_cost_per_token in the model list"
        elif (
            settings.max_cost_usd is not None
            # Sums of prices are not exact.
            and self.spent.cost_usd + expected * self._most_cost > settings.max_cost_usd * (1 + 1e-9)
        ):
            refusal = f"budget spent (judge.max_cost_usd = {settings.max_cost_usd})"
        if refusal:
            raise NotJudged(refusal)
        self.spent.calls += 1
        self._in_flight += 1
        now = monotonic()
        turn = max(now, self._not_before)
        if settings.requests_per_minute is not None:
            turn = max(turn, self._next_slot)
            self._next_slot = turn + 60 / settings.requests_per_minute
        if turn > now:
            await self._sleep(turn - now)

    def _account(self, response: Any) -> StoredReply:
        self._failed_in_a_row = 0
        usage = getattr(response, "usage", None)
        hidden = getattr(response, "_hidden_params", None) or {}
        choice = response.choices[0]
        deployment = self._router.get_deployment(model_id=hidden.get("model_id") or "")
        reply = StoredReply(
            model=deployment.model_name if deployment is not None else str(self.settings.model),
            text=choice.message.content or "",
            finish_reason=choice.finish_reason or "stop",
            prompt_tokens=getattr(usage, "prompt_tokens", 0) or 0,
            completion_tokens=getattr(usage, "completion_tokens", 0) or 0,
            # LiteLLM reports 0 for a model whose price it does not know.
            cost_usd=hidden.get("response_cost") or None,
        )
        tokens, cost = reply.prompt_tokens + reply.completion_tokens, reply.cost_usd or 0.0
        self.spent.tokens += tokens
        self.spent.cost_usd += cost
        self._most_tokens, self._most_cost = max(self._most_tokens, tokens), max(self._most_cost, cost)
        self._price_unknown |= reply.cost_usd is None
        return reply


def _deciding(parameters: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in parameters.items() if value is not None and not _NOT_DECIDING.search(name)}


def _response(reply: StoredReply) -> Any:
    import litellm

    message = {"role": "assistant", "content": reply.text}
    usage = litellm.Usage(prompt_tokens=reply.prompt_tokens, completion_tokens=reply.completion_tokens)
    choices = [{"index": 0, "finish_reason": reply.finish_reason, "message": message}]
    return litellm.ModelResponse(model=reply.model, choices=choices, usage=usage)


_FINAL = {
    400: _Failure("request refused (HTTP 400)", again=False),
    401: _Failure("key refused (HTTP 401)", again=False, everyone=True),
    403: _Failure("key may not use this model (HTTP 403)", again=False, everyone=True),
    404: _Failure("model or path unknown (HTTP 404)", again=False, everyone=True),
    422: _Failure("request refused (HTTP 422)", again=False),
}


def _failure(error: Exception) -> _Failure:
    """What failed, and whether trying again can help. LiteLLM tells some kinds apart by their text alone."""
    kind, text, status = type(error).__name__, str(error), getattr(error, "status_code", None)
    if isinstance(error, TimeoutError) or kind == "Timeout":
        return _Failure("timeout")
    if "Connection error" in text or kind == "APIConnectionError":
        return _Failure("connection failed")
    if "Empty or invalid response" in text or status is None:
        return _Failure("no chat completion in the reply")
    if status in _FINAL:
        return _FINAL[status]
    return _Failure(f"HTTP {status}", wait=retry_after(getattr(error, "litellm_response_headers", None)))
