"""Gates: the checks a generation must pass before it goes live, and the verdict they add up to."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from rag_assets.database.generations import Generation
from rag_assets.evaluation import store
from rag_assets.evaluation.changes import since
from rag_assets.evaluation.holdings import is_frozen
from rag_assets.evaluation.results import Check, EvaluationResult, HistoryPoint, PreviousEvaluation
from rag_assets.evaluation.statistics import paired_difference, summarise_metrics
from rag_assets.indexing.integrity import Integrity, inspect
from rag_assets.runtime import Runtime
from rag_assets.settings import GateSettings

HEADLINE = ("ndcg@10", "recall@10", "mrr@10", "hit_rate@10")
HISTORY = 30
"""Earlier evaluations shown in the trend."""
AGAINST_LEDGER = ("complete", "nothing_extra", "contents", "lexical")
"""Checks that compare with the present documents: a generation that no longer follows them is none the worse."""


def judge(runtime: Runtime, generation: Generation, result: EvaluationResult) -> EvaluationResult:
    """Add the comparison with the previous evaluation, the checks, and the verdict."""
    earlier = store.comparable(runtime, generation, result)
    with_previous = replace(
        result,
        previous=_previous(earlier, result) if earlier else None,
        questions=since(result, earlier) if earlier else result.questions,
        history=(*_history(runtime, result), _point(result)),
    )
    structural = structural_checks(inspect(runtime, generation))
    if is_frozen(runtime, generation):
        # The ledger has gone on without it.
        structural = [check for check in structural if check.name not in AGAINST_LEDGER]
    checks = (
        *structural,
        *quality_checks(with_previous, runtime.settings.gates),
    )
    verdict, reasons = _verdict(checks, with_previous)
    return replace(with_previous, checks=checks, verdict=verdict, reasons=reasons)


def structural_checks(found: Integrity) -> list[Check]:
    """Is the index complete and sound? No measurement, no noise."""

    def zero(name: str, value: int, good: str, bad: str) -> Check:
        return Check(name, value == 0, float(value), 0.0, good if value == 0 else bad)

    return [
        Check(
            "not_empty",
            found.rows > 0,
            float(found.rows),
            1.0,
            f"The index holds {found.rows:,} chunks." if found.rows else "The index holds no chunk at all.",
        ),
        zero("complete", found.missing + found.stale_documents + found.lost_chunks, "Every planned chunk is in the index.",
             f"{found.missing} chunks are missing, {found.stale_documents} documents are out of date and "
             f"{found.lost_chunks} have lost chunks."),
        zero("nothing_extra", found.extra, "No chunk is in the index that should not be.",
             f"{found.extra} rows belong to no chunk."),
        zero("contents", found.wrong, "Every row has its chunk's text and vector.",
             f"{found.wrong} rows have another text or vector than their chunk."),
        zero("reachable", found.unreachable, f"Each of {found.looked_up:,} chunks looked up is found by its own vector.",
             f"{found.unreachable} of {found.looked_up:,} chunks looked up are not found by their own vector."),
        zero("lexical", found.lexical, "The posting lists of every chunk are what its text gives.",
             f"{found.lexical} chunks have no posting lists, other ones than their text gives, or are only in those."),
        zero("nothing_truncated", found.truncated, "The model reads every chunk to its end.",
             f"{found.truncated} chunks have more tokens than the model reads, so that their end is in no vector. "
             "Lower chunking.max_tokens, then sync."),
    ]  # fmt: skip


def quality_checks(result: EvaluationResult, gate: GateSettings) -> list[Check]:
    """Does it find what it should, at least as well as before, and quickly enough?"""
    checks = []
    if result.ann_recall is not None:
        ann = result.ann_recall
        for name, value, floor, what in (
            ("ann_recall_mean", ann.mean, gate.ann_recall_mean, "on average"),
            ("ann_recall_p05", ann.p05, gate.ann_recall_p05, "for the worst 5 % of queries"),
        ):
            text = f"The index finds {value:.1%} of what exact search finds, {what}; the floor is {floor:.0%}."
            checks.append(Check(name, value >= floor, value, floor, text))
    if "search" in result.latency:
        p95 = result.latency["search"].p95 / 1000
        budget = gate.search_p95_seconds
        text = f"95 % of searches take at most {p95 * 1000:.0f} ms; the budget is {budget * 1000:.0f} ms."
        checks.append(Check("search_p95", p95 <= budget, p95, budget, text))
    if "ndcg@10" in result.retrieval:
        score = result.retrieval["ndcg@10"]
        text = f"{score.n_valid} of {score.n_total} questions could be measured; at least 95 % are needed for a score."
        measured = score.n_valid / score.n_total if score.n_total else 0.0
        checks.append(Check("questions_measured", True if score.value is not None else None, measured, 0.95, text))
    if result.previous is not None and "ndcg@10" in result.previous.differences:
        checks.append(_not_worse(result.previous, gate))
    return checks


def _not_worse(previous: PreviousEvaluation, gate: GateSettings) -> Check:
    """Refuse only a loss that is larger than allowed and beyond noise: the whole interval lies below the allowance."""
    difference = previous.differences["ndcg@10"]
    if difference.value is None:
        return Check(
            "not_worse", None, None, -gate.ndcg_drop, f"Too few questions are shared with {previous.generation}."
        )
    high = difference.high if difference.high is not None else difference.value
    passed = difference.value >= -gate.ndcg_drop or high >= 0
    text = (
        f"nDCG@10 is {difference.value:+.3f} against {previous.generation} (paired over {difference.n_valid} questions); "
        f"a loss beyond noise of more than {gate.ndcg_drop:.3f} is refused."
    )
    return Check("not_worse", passed, difference.value, -gate.ndcg_drop, text)


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
        return "pass", ("The index is sound and fast. There are no golden questions, so answers were not judged.",)
    return "pass", tuple(check.text for check in checks if check.name in ("complete", "ann_recall_mean", "search_p95"))


def _previous(earlier: EvaluationResult, result: EvaluationResult) -> PreviousEvaluation:
    mine = {item.id: item for item in result.questions}
    theirs = {item.id: item for item in earlier.questions}
    shared = sorted(mine.keys() & theirs.keys())
    differences = {}
    for name in HEADLINE:
        differences[name] = paired_difference(
            {key: mine[key].scores.get(name) for key in shared if name in mine[key].scores},
            {key: theirs[key].scores.get(name) for key in shared if name in theirs[key].scores},
        )
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
