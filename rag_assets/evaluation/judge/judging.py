"""Answers judged through ragas: which metrics apply, who is asked how often, and what could not be measured and why.

The loop is ours, for ragas' own loses a batch with its first failure. A judgement that failed is unmeasured; it is never
a number.
"""

import asyncio
import statistics
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from rag_assets.database import judgements
from rag_assets.database.generations import Generation
from rag_assets.database.judgements import StoredReply
from rag_assets.errors import ConfigurationError
from rag_assets.evaluation.golden.questions import Question
from rag_assets.evaluation.judge.calls import CURRENT, Judge, Judgement, NotJudged
from rag_assets.evaluation.judge.ragas_metrics import Sample, judged_metrics, similarity_metrics
from rag_assets.evaluation.results import JudgePaid, Judging, QuestionResult
from rag_assets.generation.extractive import OFFLINE_NAME
from rag_assets.generation.prompt import parse_citations
from rag_assets.models import Embedder, Hit
from rag_assets.runtime import Runtime
from rag_assets.settings import AnswerSettings, JudgeSettings

NEEDS_REFERENCE = ("context_precision", "context_recall", "factual_correctness")


@dataclass(frozen=True, slots=True)
class Given:
    """One question and the answer it got."""

    question: Question
    """With valid labels only."""
    answer: str | None
    """None: answering failed."""
    abstained: bool = False
    passages: tuple[Hit, ...] = ()

    @property
    def sample(self) -> Sample:
        """What ragas sees. Citation marks are left out: they are no claims."""
        sentences = [] if self.abstained else parse_citations(self.answer or "", len(self.passages))
        return Sample(
            question=self.question.question,
            answer=" ".join(sentence.text for sentence in sentences),
            reference=self.question.answer,
            contexts=tuple(hit.text for hit in self.passages),
            documents=tuple(hit.document for hit in self.passages),
            relevant=tuple(document for document, grade in self.question.grades.items() if grade > 0),
        )


@dataclass(frozen=True, slots=True)
class Judged:
    """Scores to add to questions, by id."""

    scores: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)
    unjudged: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    judging: Judging | None = None
    paid: JudgePaid | None = None

    def added_to(self, item: QuestionResult) -> QuestionResult:
        """The question with its further scores."""
        scores = {**item.answer_scores, **self.scores.get(item.id, {})}
        return replace(item, answer_scores=scores, unjudged=self.unjudged.get(item.id, {}))


class _DatabaseReplies:
    """Replies of a model, kept in the project's database."""

    def __init__(self, runtime: Runtime, collection: str) -> None:
        self._runtime, self._collection = runtime, collection

    def find(self, key: str) -> StoredReply | None:
        with self._runtime.database.transaction() as connection:
            return judgements.find(connection, key)

    def keep(self, key: str, reply: StoredReply, documents: Sequence[str]) -> None:
        with self._runtime.database.transaction() as connection:
            judgements.keep(connection, key, reply, self._collection, documents)


def judge_answers(runtime: Runtime, generation: Generation, given: Sequence[Given]) -> Judged:
    """Everything ragas measures of these answers, by ``[evaluation]`` and ``[judge]`` of the settings.

    Raises:
        ConfigurationError: the judge is not among the models, or can't judge.
        RagAssetsError: the database failed; a judge that fails does not.
    """
    scores: dict[str, dict[str, float | None]] = {item.question.id: {} for item in given}
    embedder = runtime.embedder_of(generation)
    if runtime.settings.evaluation.similarity and given:
        for key, found in asyncio.run(_compare(embedder, given)).items():
            scores[key] |= found
    if runtime.settings.judge.model is None or not given:
        return Judged(scores)
    judge = _build_judge(runtime, generation.collection)
    results = asyncio.run(run_judge(judge, embedder.embed_queries, given, runtime.progress))
    unjudged: dict[str, dict[str, str]] = {}
    for (key, name), result in results.items():
        scores[key][name] = result.value
        if result.reason is not None:
            unjudged.setdefault(key, {})[name] = result.reason
    spent = judge.spent
    return Judged(scores, unjudged, _describe(judge, results), JudgePaid(spent.calls, spent.tokens, spent.cost_usd))


def _build_judge(runtime: Runtime, collection: str) -> Judge:
    settings = runtime.settings.judge
    if settings.model == OFFLINE_NAME:
        raise ConfigurationError(
            f"judge.model = {OFFLINE_NAME!r} can't judge: it selects sentences and understands none. Name a language model "
            "of answers.models, or leave judge.model out."
        )
    return build_caller(runtime, collection, settings, asker="judge")


def build_caller(runtime: Runtime, collection: str, settings: JudgeSettings, *, asker: str) -> Judge:
    """Calls to ``settings.model`` within the limits of ``settings``, whose replies are kept for the collection.

    Raises:
        ConfigurationError: the model is not among ``answers.models``; names ``asker``, the section that asks for it.
    """
    from rag_assets.generation.router import build_router

    assert settings.model is not None
    asked = AnswerSettings(
        models=runtime.settings.answers.models, model=settings.model, timeout_seconds=settings.timeout_seconds
    )
    # Retries and pauses are the judge's own, for they must keep within its budget.
    router = build_router(
        asked, runtime.embedder.embed_queries, asker=asker, num_retries=0, disable_cooldowns=True,
        timeout=settings.timeout_seconds,
    )  # fmt: skip
    return Judge(router, settings, _DatabaseReplies(runtime, collection))


async def _compare(embedder: Embedder, given: Sequence[Given]) -> dict[str, dict[str, float | None]]:
    measure = similarity_metrics(embedder.embed_documents)
    found: dict[str, dict[str, float | None]] = {}
    for item in given:
        if not item.question.relevant:
            continue
        values: dict[str, float | None] = dict(await measure(item.sample))
        # An answer that failed is unmeasured; one that was refused shares nothing with the golden one.
        found[item.question.id] = dict.fromkeys(values) if item.answer is None else values
    return found


@dataclass(frozen=True, slots=True)
class Measured:
    """One metric of one question, over its repeats."""

    value: float | None
    """The median of its judgements; None where half of them or more failed."""
    reason: str | None = None
    """Why it is None: the most frequent reason."""
    spread: float | None = None
    """Largest minus smallest judgement; None with fewer than two."""


def applying(item: Given, settings: JudgeSettings) -> dict[str, float | None]:
    """The metrics that apply to an answer, with those values that need no judge; None: it must be asked.

    An abstention claims nothing: it is neither faithful nor not, it does not bear on its question, and no fact of the
    golden answer is in it. Without passages nothing of it was found.
    """
    values: dict[str, float | None] = {}
    for name in settings.metrics:
        if name == "faithfulness" and item.abstained:
            continue
        if name != "faithfulness" and not item.question.relevant:
            continue
        if name in NEEDS_REFERENCE and not item.question.answer:
            continue
        refused = item.abstained and name in ("answer_relevancy", "factual_correctness")
        found_nothing = not item.passages and name in ("context_precision", "context_recall")
        values[name] = 0.0 if item.answer is not None and (refused or found_nothing) else None
    return values


async def run_judge(
    judge: Judge,
    embed: Callable[[Sequence[str]], Any],
    given: Sequence[Given],
    progress: Callable[[str, int, int | None], None],
) -> dict[tuple[str, str], Measured]:
    """Judge every answer by every metric that applies: (question id, metric) → what was measured.

    Judgements begin in the order of ``given``, ``judge.concurrency`` at a time, so what a spent budget leaves
    unmeasured is the last of them.
    """
    metrics = judged_metrics(judge, embed)
    gate = asyncio.Semaphore(judge.settings.concurrency)
    results: dict[tuple[str, str], Measured] = {}
    wanted: list[tuple[Given, str]] = []
    for item in given:
        for name, value in applying(item, judge.settings).items():
            if item.answer is None:
                results[item.question.id, name] = Measured(None, "there is no answer")
            elif value is not None:
                results[item.question.id, name] = Measured(value)
            else:
                wanted.append((item, name))
    done = 0

    async def one(item: Given, name: str, repeat: int) -> float:
        nonlocal done
        async with gate:
            CURRENT.set(Judgement(_quoted(item), repeat))
            try:
                return await metrics[name](item.sample)
            finally:
                done += 1
                progress("judge", done, len(wanted) * judge.settings.repeats)

    tries = [(item, name, repeat) for item, name in wanted for repeat in range(judge.settings.repeats)]
    outcomes = await asyncio.gather(*(one(*arguments) for arguments in tries), return_exceptions=True)
    if judge.broken is not None:
        raise judge.broken
    for position, (item, name) in enumerate(wanted):
        start = position * judge.settings.repeats
        results[item.question.id, name] = _combined(outcomes[start : start + judge.settings.repeats])
    return results


def _quoted(item: Given) -> tuple[str, ...]:
    """Documents the prompts of a judgement quote: those of the passages, and those the golden answer is from."""
    labelled = [label.document for label in item.question.relevant]
    return tuple(dict.fromkeys([*(hit.document for hit in item.passages), *labelled]))


def _combined(outcomes: Sequence[float | BaseException]) -> Measured:
    values = [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]
    reasons: Counter[str] = Counter()
    for outcome in outcomes:
        if isinstance(outcome, NotJudged):
            reasons[str(outcome)] += 1
        elif isinstance(outcome, BaseException):
            raise outcome  # a fault of ours
    if 2 * len(values) <= len(outcomes):
        return Measured(None, reasons.most_common(1)[0][0])
    return Measured(statistics.median(values), None, max(values) - min(values) if len(values) > 1 else None)


def _describe(judge: Judge, results: Mapping[tuple[str, str], Measured]) -> Judging:
    replies = [judge.used[key] for key in sorted(judge.used)]
    spreads: dict[str, list[float]] = {}
    for (_, name), result in sorted(results.items()):
        if result.spread is not None:
            spreads.setdefault(name, []).append(result.spread)
    costs = [reply.cost_usd for reply in replies]
    return Judging(
        model=str(judge.settings.model),
        repeats=judge.settings.repeats,
        answered_by=dict(sorted(Counter(reply.model for reply in replies).items())),
        prompt_tokens=sum(reply.prompt_tokens for reply in replies),
        completion_tokens=sum(reply.completion_tokens for reply in replies),
        cost_usd=None if None in costs else sum(cost or 0.0 for cost in costs),
        spread={name: statistics.fmean(values) for name, values in spreads.items()},
    )
