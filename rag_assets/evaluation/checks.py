"""Floors, budgets and properties a generation is checked for, each worded for people."""

from collections.abc import Iterator, Mapping, Sequence

from rag_assets.evaluation.latency import AnnRecall
from rag_assets.evaluation.metrics.statistics import Score
from rag_assets.evaluation.results import Check, EvaluationResult, PreviousEvaluation
from rag_assets.indexing.integrity import Integrity
from rag_assets.settings import GateSettings

FLOOR, DROP, BUDGET = "floor ", "drop ", "p95 "
"""Beginnings of the names of checks that thresholds make; what follows is the metric or the stage."""
STRUCTURAL = {
    "not_empty": "The index holds at least one chunk.",
    "complete": "Every chunk the ledger plans has its row, of the current version.",
    "nothing_extra": "No row is there that no chunk asks for.",
    "contents": "Every row has its chunk's text and its text's vector.",
    "reachable": "A search for a row's own vector finds it through the index.",
    "lexical": "The posting lists of every chunk are what its text gives.",
    "nothing_truncated": "No chunk has more tokens than the model reads.",
}
"""Checks of the index itself, and what they ask; none of them measures anything."""
QUALITY = {
    "ann_recall_mean": "recall@10 of the HNSW index against exact search, mean over queries, meets its floor.",
    "ann_recall_p05": "The same for the worst 5 % of queries: a mean hides its tail.",
    "search_p95": "95 % of searches, embedding of the question included, stay within the budget.",
    "questions_measured": "At most 5 % of the golden questions could not be measured.",
    "not_worse": "nDCG@10 is not below the live generation's by more than allowed, beyond noise.",
    "not_worse_than_baseline": "The same against the collection's baseline: many small losses add up.",
    "retrieval_thresholds": "Retrieval scores meet the floors and drops of evals/thresholds.toml.",
}
"""Measured by searching."""
ANSWERS = {"answer_thresholds": "Scores of the answers meet the floors and drops of evals/thresholds.toml."}
LATENCY = {"latency_thresholds": "Every stage's p95 stays within the budgets of evals/thresholds.toml."}
_RETRIEVAL = ("recall", "precision", "hit_rate", "mrr", "ndcg", "evidence_", "context_evidence_recall")


def of_retrieval(metric: str) -> bool:
    """Whether a metric is measured by searching; the others are of answers."""
    return metric.startswith(_RETRIEVAL)


def combined(checks: Sequence[Check]) -> list[Check]:
    """The checks as assets declare them beforehand: those that thresholds make, whose names only a file knows, together by
    what they are about."""
    named: list[Check] = []
    grouped: dict[str, list[Check]] = {}
    for check in checks:
        group = _group(check.name)
        (grouped.setdefault(group, []) if group else named).append(check)
    return named + [_together(name, group) for name, group in grouped.items()]


def _group(name: str) -> str | None:
    if name.startswith(BUDGET):
        return "latency_thresholds"
    for kind in (FLOOR, DROP):
        if name.startswith(kind):
            return "retrieval_thresholds" if of_retrieval(name.removeprefix(kind)) else "answer_thresholds"
    return None


def _together(name: str, checks: Sequence[Check]) -> Check:
    """Failed if one is, else undecided if one is; the texts of those first."""
    states = [check.passed for check in checks]
    passed = False if False in states else None if None in states else True
    worst_first = sorted(checks, key=lambda check: (check.passed is True, check.passed is None))
    return Check(name, passed, None, None, " ".join(check.text for check in worst_first))


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
            found = f"The index finds {value:.1%} of what exact search finds, {what}"
            text = f"{found}{_widened(ann, met=value >= floor)}; the floor is {floor:.0%}."
            if value < floor:
                text += f" {_cure(ann)}"
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
        checks.append(_not_worse(result.previous, "not_worse", "ndcg@10", gate.ndcg_drop))
    if result.baseline is not None and "ndcg@10" in result.baseline.differences:
        checks.append(_not_worse(result.baseline, "not_worse_than_baseline", "ndcg@10", gate.ndcg_drop))
    return checks


def _widened(ann: AnnRecall, *, met: bool) -> str:
    """With which beam, where it is not the setting."""
    if ann.ef_search is None or ann.setting is None or ann.ef_search <= ann.setting:
        return ""
    return f", with ef_search {ann.ef_search}{', which was needed' if met else ''}; the setting is {ann.setting}"


def _cure(ann: AnnRecall) -> str:
    if ann.widest_tried is None:
        return "Raise index.ef_search (or index.m and index.ef_construction), then sync."
    return (
        f"Beams up to ef_search {ann.widest_tried} were tried, and none meets the floors. Raise index.m and "
        "index.ef_construction, then sync."
    )


def threshold_checks(result: EvaluationResult, gate: GateSettings, *, finished: bool) -> Iterator[Check]:
    """What ``evals/thresholds.toml`` asks for.

    Args:
        result: as far as it has got.
        gate: the thresholds.
        finished: nothing more will be measured, so that what is not stays undecided; else that is left out.
    """
    scores = {**result.retrieval, **result.answers}
    for metric, floor in sorted(gate.floors.items()):
        score = scores.get(metric)
        if score is not None or finished or (result.retrieval and of_retrieval(metric)):
            yield _floor(metric, score, floor, sorted(scores))
    for metric, drop in sorted(gate.max_drop.items()):
        if result.previous is not None and metric in result.previous.differences:
            yield _not_worse(result.previous, DROP + metric, metric, drop)
    yield from _budgets(result, gate.p95_seconds)


def _budgets(result: EvaluationResult, budgets: Mapping[str, float]) -> Iterator[Check]:
    """p95 by stage: of the latency benchmark, else of the golden questions as they were searched and answered."""
    bench = result.benchmark
    streamed = bench.answers if bench else None
    measured = {**result.latency, **(bench.stages if bench else {}), **(streamed.stages if streamed else {})}
    for stage, budget in sorted(budgets.items()):
        if stage in measured:
            p95 = measured[stage].p95 / 1000
            text = f"95 % of {stage} take at most {p95:.3g} s; the budget is {budget:.3g} s."
            yield Check(BUDGET + stage, p95 <= budget, p95, budget, text)
        elif streamed is not None and streamed.n_failed and stage in ("first_token", "generation", "total"):
            text = f"No answer came to time {stage} by; its budget is {budget:.3g} s. The first failed with: {streamed.error}"
            yield Check(BUDGET + stage, None, None, budget, text)


def _floor(metric: str, score: Score | None, floor: float, known: Sequence[str]) -> Check:
    """Met, missed, or missed within noise: undecided."""
    name = FLOOR + metric
    if score is None:
        text = f"{metric} was not measured, so its floor of {floor:.3g} is undecided; measured were: {', '.join(known) or 'none'}."
        return Check(name, None, None, floor, text)
    if score.value is None:
        text = f"{metric} is withheld ({score.n_valid} of {score.n_total} questions measured), so its floor of {floor:.3g} is undecided."
        return Check(name, None, None, floor, text)
    interval = f" ({score.low:.3f} to {score.high:.3f})" if score.low is not None and score.high is not None else ""
    text = f"{metric} is {score.value:.3f}{interval}; the floor is {floor:.3g}."
    if score.value >= floor:
        return Check(name, True, score.value, floor, text)
    if score.high is not None and score.high >= floor:
        return Check(name, None, score.value, floor, f"{text} Missed within noise: more questions would decide it.")
    return Check(name, False, score.value, floor, text)


def _not_worse(previous: PreviousEvaluation, name: str, metric: str, allowed: float) -> Check:
    """Refuse only a loss that is larger than allowed and beyond noise: the whole interval lies below zero."""
    difference = previous.differences[metric]
    if difference.value is None:
        return Check(
            name, None, None, -allowed, f"Too few questions are shared with {previous.generation} for {metric}."
        )
    high = difference.high if difference.high is not None else difference.value
    passed = difference.value >= -allowed or high >= 0
    label = "nDCG@10" if metric == "ndcg@10" else metric
    text = (
        f"{label} is {difference.value:+.3f} against {previous.generation} (paired over {difference.n_valid} questions); "
        f"a loss beyond noise of more than {allowed:.3f} is refused."
    )
    return Check(name, passed, difference.value, -allowed, text)
