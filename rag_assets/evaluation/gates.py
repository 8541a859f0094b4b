"""Gates: what a generation must pass before it goes live: the comparison with what is live, and the verdict of all checks."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from rag_assets.database.generations import Generation
from rag_assets.evaluation import store
from rag_assets.evaluation.baseline import load_baseline
from rag_assets.evaluation.checks import STRUCTURAL, quality_checks, structural_checks, threshold_checks
from rag_assets.evaluation.impact.changes import since
from rag_assets.evaluation.impact.holdings import is_frozen
from rag_assets.evaluation.metrics.statistics import paired_difference, summarise_metrics
from rag_assets.evaluation.results import Check, EvaluationResult, HistoryPoint, PreviousEvaluation
from rag_assets.indexing.integrity import inspect
from rag_assets.runtime import Runtime

HISTORY = 30
"""Earlier evaluations shown in the trend."""
AGAINST_LEDGER = ("complete", "nothing_extra", "contents", "lexical")
"""Checks that compare with the present documents: a generation that no longer follows them is none the worse."""


def judge(
    runtime: Runtime,
    generation: Generation,
    result: EvaluationResult,
    *,
    run_id: int | None = None,
    finished: bool = False,
) -> EvaluationResult:
    """Add the comparison with the previous evaluation, the checks, and the verdict.

    An evaluation is judged after every step of it, so that a refusal comes as early as it can. Only the first looks through the
    index row by row.

    Args:
        runtime: the parts.
        generation: what was evaluated.
        result: as far as it has got.
        run_id: under which it is kept already; it is not compared with itself.
        finished: nothing more will be measured; see :func:`threshold_checks`.
    """
    earlier = store.comparable(runtime, generation, result, before=run_id)
    compared = replace(
        result,
        previous=_compared(result, earlier) if earlier else None,
        baseline=_baseline(runtime, generation, result),
        questions=since(result, earlier) if earlier else result.questions,
        history=result.history or (*_history(runtime, result), _point(result)),
    )
    gate = runtime.settings.gates_of(generation.collection)
    checks = (
        *([check for check in result.checks if check.name in STRUCTURAL] or _structural(runtime, generation)),
        *quality_checks(compared, gate),
        *threshold_checks(compared, gate, finished=finished),
    )
    verdict, reasons = _verdict(checks, compared)
    return replace(compared, checks=checks, verdict=verdict, reasons=reasons)


def _verdict(
    checks: Sequence[Check], result: EvaluationResult
) -> tuple[Literal["pass", "fail", "inconclusive"], tuple[str, ...]]:
    failed = tuple(check.text for check in checks if check.passed is False)
    if failed:
        return "fail", failed
    undecided = tuple(check.text for check in checks if check.passed is None)
    if undecided:
        return "inconclusive", undecided
    if not result.questions:
        return "pass", ("The index is sound. There are no golden questions, so neither answers nor speed was judged.",)
    return "pass", tuple(check.text for check in checks if check.name in ("complete", "ann_recall_mean", "search_p95"))


def _structural(runtime: Runtime, generation: Generation) -> list[Check]:
    checks = structural_checks(inspect(runtime, generation))
    if is_frozen(runtime, generation):
        # The ledger has gone on without it.
        return [check for check in checks if check.name not in AGAINST_LEDGER]
    return checks


def _baseline(runtime: Runtime, generation: Generation, result: EvaluationResult) -> PreviousEvaluation | None:
    """The comparison with the collection's baseline, as far as its questions are still asked."""
    path = runtime.settings.collection(generation.collection).baseline
    return _compared(result, load_baseline(path)) if path and result.questions else None


def _compared(result: EvaluationResult, earlier: EvaluationResult) -> PreviousEvaluation:
    mine = {item.id: item for item in result.questions}
    theirs = {item.id: item for item in earlier.questions}
    shared = sorted(mine.keys() & theirs.keys())
    ours, others = (
        {key: {**items[key].scores, **items[key].answer_scores} for key in shared} for items in (mine, theirs)
    )
    differences = {
        name: paired_difference(
            {key: ours[key][name] for key in shared if name in ours[key]},
            {key: others[key][name] for key in shared if name in others[key]},
        )
        for name in (*result.retrieval, *result.answers)
        if name in {**earlier.retrieval, **earlier.answers}
    }
    return PreviousEvaluation(
        generation=earlier.generation,
        created_at=earlier.created_at,
        retrieval=summarise_metrics([theirs[key].scores for key in shared if theirs[key].scores]),
        answers=earlier.answers,
        latency=earlier.latency,
        differences=differences,
    )


def _history(runtime: Runtime, result: EvaluationResult) -> list[HistoryPoint]:
    return [_point(earlier) for earlier in store.history(runtime, result, HISTORY)]


def _point(result: EvaluationResult) -> HistoryPoint:
    ndcg = result.retrieval.get("ndcg@10")
    search = result.latency.get("search")
    return HistoryPoint(
        result.created_at, result.generation, ndcg.value if ndcg else None, search.p95 if search else None
    )
