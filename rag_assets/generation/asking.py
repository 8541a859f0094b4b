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
from rag_assets.retrieval.context import Context
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


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a model is about to be given."""

    question: str
    """Cleaned."""
    context: Context
    generation: Generation
    milliseconds: Mapping[str, float]
    """Of the search, and ``context``: choosing and packing the passages."""


def prepare(
    runtime: Runtime,
    question: str,
    *,
    collection: str | None = None,
    filters: Sequence[Condition] = (),
    generation: Generation | None = None,
) -> Prepared:
    """Search, and pack what was found for the answering model.

    Raises:
        ConfigurationError: the question is empty or too long, or a filter's field is unknown.
        RagAssetsError: nothing is live yet, or the context does not fit.
    """
    settings = runtime.settings.answers
    question = checked_question(question)
    target = generation.collection if generation else runtime.settings.target(collection)
    # Diversity is applied below, to all that was found: places are counted in chunks of the context, not in hits.
    retrieval = runtime.settings.retrieval_of(target).model_copy(update={"diversity": False})
    found = search(
        runtime, question, collection=target, k=POOL, filters=filters, generation=generation, retrieval=retrieval
    )
    began = time.perf_counter()
    hits = diverse_hits(found.hits, settings, retrieval)
    gaps = gaps_between(runtime, target, hits[: settings.wanted(len(hits))])
    context = pack(hits, settings, token_counter(settings.model), gaps)
    packing = time.perf_counter() - began
    return Prepared(question, context, found.generation, {**found.milliseconds, "context": packing * 1000})


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
        prepared = prepare(self._runtime, question, collection=collection, filters=filters, generation=generation)
        given = answer(
            prepared.question,
            prepared.context,
            router=self._router,
            settings=settings,
            count_tokens=token_counter(settings.model),
        )
        milliseconds = {
            **prepared.milliseconds,
            "generation": given.seconds * 1000,
            "total": (time.perf_counter() - started) * 1000,
        }
        return Asked(given, prepared.generation, milliseconds)


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
