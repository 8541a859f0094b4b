"""``ask``: search, then answer from what was found."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rag_assets.database.generations import Generation
from rag_assets.generation.answering import Answer, answer
from rag_assets.generation.router import build_router
from rag_assets.models import Condition
from rag_assets.retrieval.search import checked_question, search
from rag_assets.runtime import Runtime


@dataclass(frozen=True, slots=True)
class Asked:
    """An answer, the generation it comes from, and where the time went."""

    answer: Answer
    generation: Generation
    milliseconds: Mapping[str, float]


class Asker:
    """Answers questions with the configured model. The router is made once: importing LiteLLM takes seconds."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._router: Any = build_router(runtime.settings.answers, runtime.embedder.embed_queries)

    def ask(
        self,
        question: str,
        *,
        collection: str | None = None,
        filters: Sequence[Condition] = (),
        generation: Generation | None = None,
    ) -> Asked:
        """Answer one question.

        Raises:
            ConfigurationError: the question is empty or too long, or a filter's field is unknown.
            RagAssetsError: nothing is live yet, the context does not fit, or the model failed.
        """
        started = time.perf_counter()
        settings = self._runtime.settings.answers
        question = checked_question(question)
        found = search(
            self._runtime,
            question,
            collection=collection,
            k=settings.top_k,
            filters=filters,
            generation=generation,
        )
        given = answer(
            question,
            found.hits,
            router=self._router,
            model=settings.model,
            context_tokens=settings.context_tokens,
            count_tokens=_counter(settings.model),
        )
        milliseconds = {
            **found.milliseconds,
            "generation": given.seconds * 1000,
            "total": (time.perf_counter() - started) * 1000,
        }
        return Asked(given, found.generation, milliseconds)


def _counter(model: str) -> Callable[[Any], list[int]]:
    """Token counts as LiteLLM estimates them for a model."""

    def count(texts: Any) -> list[int]:
        import litellm

        return [litellm.token_counter(model=model, text=text) for text in texts]

    return count
