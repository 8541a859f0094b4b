"""Runs a question set against one generation: retrieval, the index against exact search, answers, and the verdict."""

import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rag_assets.database.generations import Generation
from rag_assets.errors import RagAssetsError
from rag_assets.evaluation import gates
from rag_assets.evaluation.beam import settle_beam
from rag_assets.evaluation.golden.questions import LabelReport, Question, load_questions, resolve_labels
from rag_assets.evaluation.impact.holdings import held_states
from rag_assets.evaluation.judge.judging import Given, judge_answers
from rag_assets.evaluation.latency import summarise_latency, summarise_stages
from rag_assets.evaluation.metrics.answers import score_answer
from rag_assets.evaluation.metrics.evidence import CONTEXT_EVIDENCE, evidence_in_context
from rag_assets.evaluation.metrics.retrieval import score_question, unmeasured_scores
from rag_assets.evaluation.metrics.statistics import DEFAULT_SEED, summarise_metrics
from rag_assets.evaluation.provenance import describe, label_texts
from rag_assets.evaluation.results import (
    Citation,
    EvaluationResult,
    QuestionResult,
    RetrievedPassage,
    Usage,
    score_slices,
)
from rag_assets.generation.answering import abstains
from rag_assets.models import Hit
from rag_assets.retrieval.filters import filters_of
from rag_assets.retrieval.search import search
from rag_assets.runtime import Runtime

DEPTH = 50
"""Chunks retrieved per question: enough that the first ten distinct documents are among them."""
SHOWN = 5
"""Retrieved passages kept per question for the report."""
WARM_UP = 3
"""Searches made before any is timed."""


def evaluate_retrieval(
    runtime: Runtime, generation: Generation, questions_file: Path | None, *, command: str
) -> EvaluationResult:
    """Everything about a generation that needs no answering model; no verdict yet.

    Without a question file only the index itself is measured. First of all that, and the generation keeps the beam its recall
    needs: what is searched and timed after that is searched as it will be.

    Raises:
        ConfigurationError: the question file can't be read or is wrong.
        RagAssetsError: the generation is empty, or was dropped meanwhile.
    """
    return _retrieval(runtime, generation, questions_file, command=command, keep=True)[1]


def _retrieval(
    runtime: Runtime, generation: Generation, questions_file: Path | None, *, command: str, keep: bool
) -> tuple[Generation, EvaluationResult]:
    """(the generation as it is searched from here on, what was measured); without ``keep`` nothing of it is changed."""
    # The order in a file is nobody's intent, and must not decide what is asked of the index, nor the order of what is found.
    questions = sorted(load_questions(questions_file), key=lambda item: item.id) if questions_file else ()
    texts = label_texts(runtime, generation, questions)
    report = resolve_labels(questions, texts)
    # By other questions than its own a generation may turn out to need a wider beam, not that it can do with a narrower one.
    own = questions_file == runtime.settings.collection(generation.collection).questions
    asked = [question.question for question in questions]
    generation, recall = settle_beam(runtime, generation, asked, keep=keep, narrow=own)
    for question in questions[:WARM_UP]:
        search(runtime, question.question, generation=generation, k=DEPTH)
    results = _search_all(runtime, generation, report, texts)
    return generation, EvaluationResult(
        collection=generation.collection,
        generation=generation.name,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        command=command,
        verdict="inconclusive",
        reasons=(),
        fingerprint=describe(runtime, generation, questions),
        questions=tuple(results),
        retrieval=summarise_metrics([result.scores for result in results if result.scores]),
        by_slice=score_slices(results),
        latency=summarise_stages([result.milliseconds for result in results]),
        latency_classes=runtime.settings.benchmark.classes,
        ann_recall=recall,
        invalid_labels=report.invalid,
        documents=held_states(runtime, generation, _noted(questions, results)),
    )


def _noted(questions: Sequence[Question], results: Sequence[QuestionResult]) -> list[str]:
    """The documents that are labelled, and those that are shown."""
    labelled = [label.document for question in questions for label in question.relevant]
    return labelled + [passage.document for result in results for passage in result.retrieved]


def _search_all(
    runtime: Runtime, generation: Generation, report: LabelReport, texts: Mapping[str, str]
) -> list[QuestionResult]:
    judged: list[tuple[Question, bool]] = [
        *((question, True) for question in report.measurable),
        *((question, False) for question in report.unanswerable),
        *((question, False) for question in report.unmeasured),
    ]
    judged.sort(key=lambda pair: pair[0].id)
    results = []
    for number, (question, measurable) in enumerate(judged):
        results.append(_search_one(runtime, generation, question, texts if measurable else None))
        runtime.progress("evaluate", number + 1, len(judged))
    return results


def _search_one(
    runtime: Runtime, generation: Generation, question: Question, texts: Mapping[str, str] | None
) -> QuestionResult:
    """One question searched and, if ``texts`` (of the labelled documents) is given, scored."""
    measurable = texts is not None
    base = QuestionResult(
        id=question.id,
        question=question.question,
        kind=question.kind,
        filter=question.filter,
        gold_answer=question.answer,
    )
    try:
        found = search(runtime, question.question, generation=generation, k=DEPTH, filters=filters_of(question.filter))
    except RagAssetsError as error:
        lost = {**unmeasured_scores(question), **_context_evidence(question, (), None)} if question.relevant else {}
        return replace(base, relevant=question.relevant if measurable else (), scores=lost, error=str(error))
    grades = question.grades
    return replace(
        base,
        relevant=question.relevant if measurable else (),
        scores={
            **_retrieval_scores(question, found.hits, measurable=measurable),
            **_context_evidence(question, found.hits, texts),
        },
        retrieved=tuple(_passage(hit, grades) for hit in found.hits[:SHOWN]),
        milliseconds=found.milliseconds,
    )


def _retrieval_scores(question: Question, hits: Sequence[Hit], *, measurable: bool) -> dict[str, float | None]:
    """None for a question whose labels are all invalid: it counts as unmeasured, not as a failure to find."""
    if measurable:
        return score_question(question, hits)
    return unmeasured_scores(question) if question.relevant else {}


def _context_evidence(
    question: Question, hits: Sequence[Hit], texts: Mapping[str, str] | None
) -> dict[str, float | None]:
    """Evidence recall of the first 4,000 characters; None (unmeasured) without texts. Nothing where no label has a quote."""
    if not any(label.quote and label.grade > 0 for label in question.relevant):
        return {}
    return {CONTEXT_EVIDENCE: None if texts is None else evidence_in_context(question.relevant, texts, hits)}


def _passage(hit: Hit, grades: Mapping[str, float]) -> RetrievedPassage:
    relevant = grades.get(hit.document, 0) > 0
    return RetrievedPassage(hit.rank, hit.document, hit.chunk_id, hit.text, hit.scores["dense"], relevant)


def evaluate_answers(
    runtime: Runtime, generation: Generation, questions_file: Path, result: EvaluationResult
) -> EvaluationResult:
    """Add answers to a retrieval evaluation, for a fixed sample of its questions (``evaluation.answer_questions``)."""
    from rag_assets.generation.asking import Asker

    questions = {question.id: question for question in load_questions(questions_file)}
    chosen = _sample(
        [item for item in result.questions if item.error is None and item.id in questions],
        runtime.settings.evaluation.answer_questions,
        {key for key, question in questions.items() if not question.relevant},
    )
    asker = Asker(runtime)
    answered: dict[str, QuestionResult] = {}
    samples: list[Given] = []
    for number, item in enumerate(chosen):
        answered[item.id], sample = _answer_one(asker, generation, item, questions[item.id])
        samples += [sample] if sample else []
        runtime.progress("answer", number + 1, len(chosen))
    judged = judge_answers(runtime, generation, samples)
    answered = {key: judged.added_to(item) for key, item in answered.items()}
    updated = tuple(answered.get(item.id, item) for item in result.questions)
    latency = dict(result.latency)
    for stage in ("generation", "total"):
        values = [item.milliseconds[stage] for item in answered.values() if stage in item.milliseconds]
        if values:
            latency[stage] = summarise_latency(values)
    return replace(
        result,
        questions=updated,
        answers=summarise_metrics([item.answer_scores for item in answered.values() if item.answer_scores]),
        by_slice=score_slices(updated),
        latency=latency,
        judge=judged.judging,
        judge_paid=judged.paid,
    )


def _sample(items: Sequence[QuestionResult], size: int, unanswerable: Collection[str]) -> list[QuestionResult]:
    """The same questions every time, whatever their order in the file; up to a sixth of them are ones without an answer, for
    whether a system abstains is not seen on one or two."""
    if len(items) <= size:
        return list(items)
    ordered = sorted(items, key=lambda item: item.id)
    drawn = random.Random(DEFAULT_SEED)
    silent = [item for item in ordered if item.id in unanswerable]
    chosen = drawn.sample(silent, min(len(silent), max(1, size // 6)))
    others = [item for item in ordered if item.id not in unanswerable]
    chosen += drawn.sample(others, min(len(others), size - len(chosen)))
    return sorted(chosen, key=lambda item: item.id)


def _answer_one(
    asker: Any, generation: Generation, item: QuestionResult, question: Question
) -> tuple[QuestionResult, Given | None]:
    """The answered question, and what it is judged by; None where it can't be judged."""
    valid = replace(question, relevant=item.relevant)
    # A question that lost all its labels can be answered, but not judged.
    judgeable = bool(item.relevant) or not question.relevant
    try:
        asked = asker.ask(question.question, filters=filters_of(question.filter), generation=generation)
    except RagAssetsError as error:
        lost = replace(item, error=str(error), answer_scores=score_answer(valid, None) if judgeable else {})
        return lost, Given(valid, None) if judgeable else None
    given = asked.answer
    abstained = abstains(given.text)
    citations = tuple(Citation(c.document, c.chunk_id, c.quote) for c in given.citations)
    scores = score_answer(
        valid,
        given.text,
        abstained=abstained,
        citations=citations,
        passages={hit.chunk_id: hit.text for hit in given.passages},
    )
    answered = replace(
        item,
        answer=given.text,
        abstained=abstained,
        usage=Usage(given.model, given.prompt_tokens, given.completion_tokens, given.cost_usd),
        citations=citations,
        answer_scores=scores if judgeable else {},
        milliseconds={**item.milliseconds, **{s: asked.milliseconds[s] for s in ("generation", "total")}},
    )
    return answered, Given(valid, given.text, abstained, given.passages) if judgeable else None


def evaluate(
    runtime: Runtime, generation: Generation, questions_file: Path | None, *, command: str
) -> EvaluationResult:
    """A whole evaluation with its verdict: what ``rag-assets evaluate`` runs. It changes nothing of one that is not live."""
    keep = generation.is_live
    generation, result = _retrieval(runtime, generation, questions_file, command=command, keep=keep)
    if questions_file is not None:
        result = evaluate_answers(runtime, generation, questions_file, result)
    return gates.judge(runtime, generation, result, finished=True)
