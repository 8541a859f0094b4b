"""From search hits to an answer: what the model said, what it rests on, and what it cost.

The quotes of an answer are always exact substrings of the chunks it was given, whatever the model wrote: a reader can
look every one of them up.
"""

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from rag_assets.chunking.sentences import sentence_spans
from rag_assets.errors import RagAssetsError
from rag_assets.generation.extractive import OFFLINE_NAME, terms
from rag_assets.generation.packing import checked_messages, prompt_passages
from rag_assets.generation.prompt import ABSTENTION, parse_citations
from rag_assets.models import Hit
from rag_assets.retrieval.context import Context, ContextPassage
from rag_assets.settings import AnswerSettings


@dataclass(frozen=True, slots=True)
class Citation:
    """What one sentence of an answer rests on."""

    document: str
    """The document's uri."""
    chunk_id: str
    quote: str
    """An exact substring of the chunk's text."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer and everything known about how it came to be."""

    text: str
    """What the model wrote, unchanged, citation marks included."""
    citations: tuple[Citation, ...]
    """In order of appearance, without repeats; empty when it abstains."""
    supported: bool
    """It does not abstain and has at least one valid citation."""
    model: str
    """``model_name`` of the model that answered: a fallback, where the one asked for failed."""
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float | None
    """None where LiteLLM knows no price for the model."""
    seconds: float
    """Wall-clock time of the whole call."""
    context: Context
    """What the model was given: passage n of the prompt is ``context.passages[n - 1]``; and what was left out for its size."""
    unknown_citations: tuple[int, ...] = ()
    """Passage numbers it cited that do not exist."""

    @property
    def passages(self) -> tuple[Hit, ...]:
        """The hits the model was given, in the order it read them."""
        return self.context.hits


def answer(
    question: str,
    context: Context,
    *,
    router: Any,
    settings: AnswerSettings,
    count_tokens: Callable[[Sequence[str]], Sequence[int]],
) -> Answer:
    """Answer ``question`` from what was packed for it; from nothing it abstains and calls no model.

    Args:
        question: As asked.
        context: From ``rag_assets.generation.packing.pack``.
        router: From ``build_router``.
        settings: Which model to ask, and what it reads at most.
        count_tokens: Tokens of each text, as the answering model counts them.

    Raises:
        RagAssetsError: the model failed, or the prompt is longer than it reads.
    """
    started, model = time.perf_counter(), settings.model
    if not context.passages:
        return Answer(ABSTENTION, (), False, model, 0, 0, 0.0, time.perf_counter() - started, context)
    messages = checked_messages(question, prompt_passages(context.passages), settings, count_tokens)
    response = _complete(router, model, messages)
    text = _content(response, model)
    citations, unknown = _citations(text, context.passages)
    usage = getattr(response, "usage", None)
    hidden = getattr(response, "_hidden_params", {})
    answered_by = _answered_by(router, hidden, model)
    return Answer(
        text=text,
        citations=citations,
        supported=bool(citations),
        model=answered_by,
        prompt_tokens=getattr(usage, "prompt_tokens", 0),
        completion_tokens=getattr(usage, "completion_tokens", 0),
        cost_usd=_cost(hidden, answered_by),
        seconds=time.perf_counter() - started,
        context=context,
        unknown_citations=unknown,
    )


def abstains(text: str) -> bool:
    """Whether an answer says that the documents do not hold it."""
    return text.strip(" \n\t\"'*").casefold().startswith(ABSTENTION.rstrip(".").casefold())


def find_quote(sentence: str, text: str) -> str:
    """The part of ``text`` that ``sentence`` rests on, as an exact substring of ``text``.

    It is the sentence itself where it stands there (line breaks apart), else the sentence of ``text`` that shares most
    terms with it (F1, the first of equals).
    """
    words = sentence.split()
    verbatim = re.search(r"\s+".join(map(re.escape, words)), text) if words else None
    if verbatim is not None:
        return verbatim.group()
    wanted = terms(sentence)
    return max(
        (text[start:end] for start, end in sentence_spans(text)),
        key=lambda candidate: _likeness(wanted, candidate),
        default=text,
    )


def _likeness(wanted: frozenset[str], candidate: str) -> float:
    """F1 of the terms two texts share."""
    present = terms(candidate)
    return 2 * len(wanted & present) / max(1, len(wanted) + len(present))


def _citation(sentence: str, passage: ContextPassage) -> Citation:
    """The chunk of a passage that holds what a sentence rests on, and those words of it.

    A sentence that stands across two chunks is in neither whole; the chunk with more of it is cited, by what it has of it.
    """
    best_first = sorted(passage.hits, key=lambda hit: hit.rank)
    quote = find_quote(sentence, passage.text)
    for hit in best_first:
        if quote in hit.text:
            return Citation(hit.document, hit.chunk_id, quote)
    wanted = terms(sentence)
    parts = [(find_quote(sentence, hit.text), hit) for hit in best_first]
    part, hit = max(parts, key=lambda pair: _likeness(wanted, pair[0]))
    return Citation(hit.document, hit.chunk_id, part)


def _citations(text: str, given: Sequence[ContextPassage]) -> tuple[tuple[Citation, ...], tuple[int, ...]]:
    sentences = parse_citations(text, len(given))
    unknown = tuple(dict.fromkeys(number for sentence in sentences for number in sentence.unknown))
    if abstains(text):
        return (), unknown
    rests_on = [(sentence.text, given[number - 1]) for sentence in sentences for number in sentence.passages]
    found = [_citation(sentence, passage) for sentence, passage in rests_on]
    return tuple(dict.fromkeys(found)), unknown


def _complete(router: Any, model: str, messages: list[dict[str, str]]) -> Any:
    try:
        return router.completion(model=model, messages=messages)
    except Exception as error:  # LiteLLM's errors share no base class; whatever it is, the model did not answer
        # `from None`: the original carries the request, and with it the key.
        raise RagAssetsError(explain_failure(error, router, model)) from None


def _content(response: Any, model: str) -> str:
    choices = getattr(response, "choices", None)
    text = choices[0].message.content if choices else None
    if not isinstance(text, str) or not text.strip():
        raise RagAssetsError(
            f"The model {model} sent an empty answer. If it is a reasoning model, raise max_tokens in its "
            "litellm_params; else look at the server's log."
        )
    return text


def _answered_by(router: Any, hidden: dict[str, Any], asked: str) -> str:
    deployment = router.get_deployment(model_id=hidden.get("model_id") or "")
    return deployment.model_name if deployment is not None else asked


def _cost(hidden: dict[str, Any], answered_by: str) -> float | None:
    """LiteLLM reports a cost of 0 for a model whose price it does not know."""
    cost = hidden.get("response_cost")
    return cost if cost or answered_by == OFFLINE_NAME else None


_FAILURES = {
    "Timeout": ("it did not answer in time", "raise answers.timeout_seconds, or look at the server's load"),
    "RateLimitError": ("too many requests (HTTP 429)", "wait, or add a fallback under router_settings"),
    "AuthenticationError": ("the API key was refused (HTTP 401)", "correct api_key in its litellm_params"),
    "PermissionDeniedError": ("the API key may not use this model (HTTP 403)", "use another key or model"),
    "NotFoundError": ("the server does not know this model or path (HTTP 404)", "correct model or api_base"),
    "ContextWindowExceededError": (
        "the prompt is too long for it",
        "set answers.window_tokens to what it reads, or lower answers.context_tokens or answers.top_k",
    ),
    "BadRequestError": ("it refused the request", "correct its litellm_params"),
    "RouterRateLimitError": ("it is paused after failing just before", "wait some seconds, and see the failure before"),
    "APIConnectionError": ("it can't be reached", "start the server, or correct api_base in its litellm_params"),
}
"""Reason and cure by the name of LiteLLM's exception."""
_OTHER_FAILURE = ("it answered with an error", "look at the server's log, or add a fallback under router_settings")
_WITHOUT_DETAIL = ("Timeout", "AuthenticationError", "PermissionDeniedError", "RouterRateLimitError")
"""What these say adds nothing, or quotes (parts of) the key."""
_PREFIXES = re.compile(r"^(?:[\w.]*(?:Error|Exception|Timeout)(?::| -) )+")
_KEY = re.compile(r"\bBearer\s+\S+|\b(?:sk|pk|key|hf|gsk)[-_][\w*.-]{6,}", re.IGNORECASE)
_DETAIL_CHARACTERS = 160


def explain_failure(error: Exception, router: Any, model: str) -> str:
    """What people are told of a LiteLLM error: the model, the reason, the cure; never a key."""
    deployments = [entry["litellm_params"] for entry in router.get_model_list(model_name=model) or []]
    kind = "APIConnectionError" if "Connection error" in str(error) else type(error).__name__
    reason, cure = _FAILURES.get(kind, _OTHER_FAILURE)
    detail = "" if kind in _WITHOUT_DETAIL else _detail(error, router)
    where = ", ".join(sorted({_host(params["api_base"]) for params in deployments if params.get("api_base")}))
    fallbacks = any(model in rule or "*" in rule for rule in router.fallbacks or [])
    subject = f"The model {model}" + (f" at {where}" if where else "")
    also = ", and so did its fallbacks" if fallbacks else ""
    return f"{subject} failed{also}: {reason}{f' ({detail})' if detail else ''}; {cure}."


def _detail(error: Exception, router: Any) -> str:
    """The first line of what the server said, without keys."""
    text = _PREFIXES.sub("", str(error).strip().split("\n", 1)[0])
    for entry in router.get_model_list() or []:
        key = entry["litellm_params"].get("api_key")
        text = text.replace(key, "…") if key else text
    text = " ".join(_KEY.sub("…", text).split())
    return text if len(text) <= _DETAIL_CHARACTERS else text[: _DETAIL_CHARACTERS - 1] + "…"


def _host(api_base: str) -> str:
    """Host and port; a user name or password in the address is left out."""
    return urlsplit(api_base).netloc.rpartition("@")[2] or api_base
