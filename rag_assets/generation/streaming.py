"""Streamed answers, timed: when the first text came, and when the last."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rag_assets.errors import RagAssetsError
from rag_assets.generation.answering import explain_failure
from rag_assets.generation.packing import checked_messages, prompt_passages
from rag_assets.retrieval.context import Context
from rag_assets.settings import AnswerSettings


@dataclass(frozen=True, slots=True)
class Streamed:
    """An answer that came piece by piece; times in seconds from the request."""

    text: str
    first_token: float
    """Until the first piece that holds text: of a model that does not stream, the whole time."""
    seconds: float
    """Until the last piece."""
    completion_tokens: int
    """As the server counts them; LiteLLM's own count where it does not say."""

    @property
    def tokens_per_second(self) -> float:
        """Tokens written over the whole time, the reading of the prompt included."""
        return self.completion_tokens / self.seconds if self.seconds > 0 else 0.0


def stream_answer(
    question: str,
    context: Context,
    *,
    router: Any,
    settings: AnswerSettings,
    count_tokens: Callable[[Sequence[str]], Sequence[int]],
) -> Streamed:
    """Ask the model that answers, and read what it writes as it comes.

    Args:
        question: as asked.
        context: what was packed for it, with at least one passage.
        router: from ``build_router``; without fallbacks, for what another model does says nothing about this one.
        settings: which model to ask.
        count_tokens: tokens of each text, as the model counts them.

    Raises:
        RagAssetsError: the model failed, at once or on the way, or sent no text; or the prompt is longer than it reads.
    """
    messages = checked_messages(question, prompt_passages(context.passages), settings, count_tokens)
    started = time.perf_counter()
    first: float | None = None
    pieces: list[str] = []
    tokens = 0
    try:
        # Servers that know no stream_options are not sent them: the router's entries drop what a provider does not take.
        for chunk in router.completion(
            model=settings.model, messages=messages, stream=True, stream_options={"include_usage": True}
        ):
            piece = chunk.choices[0].delta.content if chunk.choices else None
            if piece:
                first = time.perf_counter() - started if first is None else first
                pieces.append(piece)
            tokens = getattr(getattr(chunk, "usage", None), "completion_tokens", None) or tokens
    except Exception as error:  # LiteLLM's errors share no base class; whatever it is, the model did not answer
        # `from None`: the original carries the request, and with it the key.
        raise RagAssetsError(explain_failure(error, router, settings.model)) from None
    seconds = time.perf_counter() - started
    text = "".join(pieces)
    if first is None or not text.strip():
        raise RagAssetsError(f"The model {settings.model} streamed an empty answer. Look at the server's log.")
    return Streamed(text, first, seconds, tokens or sum(count_tokens([text])))
