"""What a benchmark asks, and whether what came back was any good."""

import random
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from psycopg import sql

from rag_assets.chunking.sentences import sentence_spans
from rag_assets.database.generations import Generation
from rag_assets.errors import RagAssetsError
from rag_assets.evaluation.golden.questions import Question, load_questions, resolve_labels
from rag_assets.evaluation.latency import FoundQuality
from rag_assets.evaluation.metrics.retrieval import hit_rate_at_k, ndcg_at_k, ranked_documents
from rag_assets.evaluation.metrics.statistics import DEFAULT_SEED
from rag_assets.evaluation.provenance import corpus_texts
from rag_assets.models import Condition
from rag_assets.retrieval.filters import filters_of
from rag_assets.retrieval.search import search
from rag_assets.runtime import Runtime
from rag_assets.stores import pgvector

K = 10
"""Passages asked for."""
QUERIES = 100
"""Different queries at most: enough that none is answered from what the processor still holds of the last time."""
_LONGEST_SENTENCE = 200

QuerySource = Literal["golden questions", "first sentences of chunks"]


@dataclass(frozen=True, slots=True)
class Query:
    """Something to ask."""

    text: str
    filters: Sequence[Condition] = ()
    labelled: Question | None = None
    """With valid labels; None: nobody knows what should be found."""


@dataclass(frozen=True, slots=True)
class Found:
    """What one search brought."""

    query: int
    """Index of the query."""
    chunk_ids: tuple[str, ...]
    documents: tuple[str, ...]
    """Distinct ones, in order."""
    milliseconds: dict[str, float]


def benchmark_queries(runtime: Runtime, generation: Generation) -> tuple[list[Query], QuerySource]:
    """A fixed sample of the golden questions; where there are none, first sentences of chunks. At least one, if there is a chunk."""
    file = runtime.settings.collection(generation.collection).questions
    questions = load_questions(file) if file else ()
    if not questions:
        return _sentences(runtime, generation), "first sentences of chunks"
    if len(questions) > QUERIES:
        questions = tuple(random.Random(DEFAULT_SEED).sample(sorted(questions, key=lambda item: item.id), QUERIES))
    labels = resolve_labels(questions, corpus_texts(runtime, generation.collection, questions))
    valid = {question.id: question for question in labels.measurable}
    queries = [Query(item.question, filters_of(item.filter), valid.get(item.id)) for item in questions]
    return queries, "golden questions"


def _sentences(runtime: Runtime, generation: Generation) -> list[Query]:
    with runtime.database.transaction(snapshot=True) as connection:
        rows = connection.execute(
            # Chunk ids are hashes, so that their order is random, and always the same.
            sql.SQL("SELECT text FROM {} ORDER BY chunk_id LIMIT %s").format(pgvector.table(generation)),
            (QUERIES,),
        ).fetchall()
    texts = [next((text[start:end] for start, end in sentence_spans(text)), text) for (text,) in rows]
    return [Query(text[:_LONGEST_SENTENCE]) for text in texts if text.strip()]


class Searches:
    """Asks the queries in turn, from any number of threads, and judges what was found."""

    def __init__(self, runtime: Runtime, generation: Generation, queries: Sequence[Query]) -> None:
        self._runtime, self._generation = runtime, generation
        self.queries = queries
        self._exact: dict[int, frozenset[str]] = {}

    def ask(self, number: int, *, runtime: Runtime | None = None, exact: bool = False) -> Found:
        """Search for query ``number``, counted round and round; ``runtime`` instead of the own one.

        Raises:
            RagAssetsError: the search failed.
        """
        index = number % len(self.queries)
        query = self.queries[index]
        found = search(
            runtime or self._runtime, query.text, k=K, filters=query.filters, generation=self._generation, exact=exact
        )
        ids = tuple(hit.chunk_id for hit in found.hits)
        return Found(index, ids, tuple(ranked_documents(found.hits)), dict(found.milliseconds))

    def warm(self) -> None:
        """Make the model and the connections, by the first query that can be searched.

        Raises:
            RagAssetsError: none can.
        """
        for number in range(len(self.queries)):
            try:
                self.ask(number)
            except RagAssetsError:
                if number == len(self.queries) - 1:
                    raise
            else:
                return

    def look_up_exactly(self, seconds: float) -> None:
        """Note what searches find whose dense side compares every row; begins no further one after ``seconds``."""
        began = time.monotonic()
        for number in range(len(self.queries)):
            # A question that can't be searched, such as one with a wrong filter, is counted where it is timed.
            with suppress(RagAssetsError):
                self._exact[number] = frozenset(self.ask(number, exact=True).chunk_ids)
            if time.monotonic() - began > seconds:
                break

    def quality(self, found: Sequence[Found]) -> FoundQuality:
        """How good searches were, by what was looked up exactly and by the labels."""
        recalls = [
            len(self._exact[item.query].intersection(item.chunk_ids)) / len(self._exact[item.query])
            for item in found
            if self._exact.get(item.query)
        ]
        graded = [
            (item.documents, labelled.grades)
            for item in found
            if (labelled := self.queries[item.query].labelled) is not None
        ]
        return FoundQuality(
            recall_at_10=_mean(recalls),
            n_recall=len(recalls),
            hit_rate_at_10=_mean([hit_rate_at_k(documents, grades, K) for documents, grades in graded]),
            ndcg_at_10=_mean([ndcg_at_k(documents, grades, K) for documents, grades in graded]),
            n_labelled=len(graded),
        )


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
