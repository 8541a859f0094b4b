"""``ask``: search, then answer from what was found."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rag_assets.database.generations import Generation
from rag_assets.generation import load_litellm
from rag_assets.generation.answering import Answer, answer
from rag_assets.generation.packing import pack
from rag_assets.generation.router import build_router
from rag_assets.models import Condition, Hit
from rag_assets.retrieval.diversity import POOL, diversify
from rag_assets.retrieval.neighbours import gaps_between
from rag_assets.retrieval.search import checked_question, search
from rag_assets.runtime import Runtime
from rag_assets.settings import AnswerSettings, RetrievalSettings


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
            RagAssetsError: nothing is live yet, the context or the prompt does not fit, or the model failed.
        """
        started = time.perf_counter()
        settings = self._runtime.settings.answers
        question = checked_question(question)
        target = generation.collection if generation else self._runtime.settings.target(collection)
        # Diversity is applied below, to all that was found: places are counted in chunks of the context, not in hits.
        retrieval = self._runtime.settings.retrieval_of(target).model_copy(update={"diversity": False})
        found = search(
            self._runtime,
            question,
            collection=target,
            k=POOL,
            filters=filters,
            generation=generation,
            retrieval=retrieval,
        )
        began = time.perf_counter()
        hits = diverse_hits(found.hits, settings, retrieval)
        count = token_counter(settings.model)
        context = pack(hits, settings, count, gaps_between(self._runtime, target, hits[: settings.wanted(len(hits))]))
        packing = time.perf_counter() - began
        given = answer(question, context, router=self._router, settings=settings, count_tokens=count)
        milliseconds = {
            **found.milliseconds,
            "context": packing * 1000,
            "generation": given.seconds * 1000,
            "total": (time.perf_counter() - started) * 1000,
        }
        return Asked(given, found.generation, milliseconds)


def diverse_hits(hits: Sequence[Hit], answers: AnswerSettings, retrieval: RetrievalSettings) -> list[Hit]:
    """What was found in the order in which a context is packed."""
    return diversify(
        hits,
        answers.top_k,
        near_duplicate=retrieval.near_duplicate,
        max_per_document=retrieval.max_per_document,
    )


def token_counter(model: str) -> Callable[[Any], list[int]]:
    """Token counts as LiteLLM estimates them for a model."""

    def count(texts: Any) -> list[int]:
        litellm = load_litellm()
        return [litellm.token_counter(model=model, text=text) for text in texts]

    return count
