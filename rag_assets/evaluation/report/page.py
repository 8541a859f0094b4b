"""The evaluation report: one HTML file that works anywhere, the same as Markdown, and the scores as JSON.

Documents, questions and answers are untrusted: the templates escape every value, and the page's own policy forbids
scripts and any request.
"""

import json
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rag_assets.errors import RagAssetsError
from rag_assets.evaluation.benchmark.tables import benchmark_view
from rag_assets.evaluation.impact.changes import TOLERANCE
from rag_assets.evaluation.latency import latency_class, stage_order
from rag_assets.evaluation.metrics.statistics import Score
from rag_assets.evaluation.report.formatting import (
    display_order,
    duration,
    html_environment,
    markdown_environment,
    metric_name,
)
from rag_assets.evaluation.report.key_figures import key_figures, score_rows
from rag_assets.evaluation.report.plots import as_data_uri, latency_plot, quality_plot, score_plot, trend_plot
from rag_assets.evaluation.result_json import scores_json, to_json
from rag_assets.evaluation.results import EvaluationResult, QuestionResult

_WORST = 10
_EXAMPLES = 3
_LISTED = 50
"""Longest list of invalid labels or failures in the report; all of them are in scores.json."""

_SLICE_METRICS = ("ndcg@10", "recall@10", "mrr@10", "answer_contained")


def write_report(result: EvaluationResult, folder: Path) -> Path:
    """Write ``report.html``, ``report.md``, ``scores.json`` (what is equal, byte for byte, between two runs over the same data)
    and ``evaluation.json`` (everything) into ``folder`` and return the HTML's path.

    The folder is made if missing. Each file is written beside its place and renamed into it, so a reader never sees
    half of one.

    Raises:
        RagAssetsError: the folder can't be written.
    """
    page = folder / "report.html"
    view = _view(result)
    files = {
        "scores.json": _dumped(scores_json(result)),
        "evaluation.json": _dumped(to_json(result, str(page))),
        "report.md": markdown_environment().get_template("report.md").render(view),
        "report.html": html_environment().get_template("report.html").render(view),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".report-", dir=folder) as temporary:
            for name, text in files.items():
                # A lone surrogate in a document becomes an escape instead of an exception.
                (Path(temporary) / name).write_bytes(text.encode("utf-8", "backslashreplace"))
            for name in files:
                (Path(temporary) / name).replace(folder / name)
    except OSError as error:
        raise RagAssetsError(
            f"The report can't be written to {folder}: {error.strerror}. Free space there, or make the folder writable."
        ) from None
    return page


def _dumped(data: Mapping[str, Any]) -> str:
    return json.dumps(data, ensure_ascii=False, indent=1, allow_nan=False) + "\n"


def _view(result: EvaluationResult) -> dict[str, Any]:
    """Everything the templates show."""
    measured = [item for item in result.questions if item.scores.get("ndcg@10") is not None]
    ndcg = [item.scores["ndcg@10"] or 0.0 for item in measured]
    times: dict[str, list[float]] = {}
    for item in result.questions:
        for stage, milliseconds in item.milliseconds.items():
            times.setdefault(stage, []).append(milliseconds)
    # A database may have reordered the keys of what it kept.
    stages = sorted(result.latency, key=stage_order)
    differences = result.previous.differences if result.previous else {}
    return {
        "result": result,
        "headline": _headline(result),
        "unmet": sum(check.passed is not True for check in result.checks),
        "checks": sorted(result.checks, key=lambda check: (check.passed is True, check.passed is None)),
        "cards": key_figures(result),
        "score_plot": as_data_uri(score_plot(rows)) if (rows := score_rows(result)) else None,
        "by_k": [
            ("documents", _by_k({name: score for name, score in result.retrieval.items() if not _of_chunks(name)})),
            ("passages", _by_k({name: score for name, score in result.retrieval.items() if _of_chunks(name)})),
        ],
        "answer_rows": [
            (metric_name(name), result.answers[name], differences.get(name))
            for name in sorted(result.answers, key=display_order)
        ],
        "judge_lines": [*_usage_lines(result), *_judge_lines(result)],
        "slices": [(name, _slice_rows(values)) for name, values in sorted(result.by_slice.items())],
        "latency": [
            (name, result.latency[name], latency_class(name, result.latency[name].p95, result.latency_classes))
            for name in stages
        ],
        "latency_limits": {
            name: result.latency_classes[name] for name in sorted(result.latency_classes, key=stage_order)
        },
        **(benchmark_view(result.benchmark, result.latency_classes) if result.benchmark else {"benchmark": None}),
        "quality_plot": quality_plot(ndcg, "nDCG@10") if ndcg else None,
        "latency_plot": latency_plot({name: times[name] for name in sorted(times, key=stage_order)}) if times else None,
        "trend_plot": trend_plot(result.history) if len(result.history) > 1 else None,
        "worst": sorted((item for item in measured if (item.scores["ndcg@10"] or 0) < 1), key=_badness)[:_WORST],
        "worse": _worse(measured),
        "examples": _examples(result.questions),
        "failed": [item for item in result.questions if item.error is not None][:_LISTED],
        "failed_total": sum(item.error is not None for item in result.questions),
        "invalid": result.invalid_labels[:_LISTED],
        "fingerprint": list(_flat(result.fingerprint)),
    }


def _headline(result: EvaluationResult) -> str:
    """One sentence for people who read only one."""
    facts = []
    if (hits := result.retrieval.get("hit_rate@10")) and hits.value is not None:
        facts.append(
            f"a relevant document is among the first ten results for {100 * hits.value:.0f}\u00a0% of the questions"
        )
    if search := result.latency.get("search"):
        facts.append(f"95\u00a0% of searches take at most {duration(search.p95)}")
    failed = sum(check.passed is False for check in result.checks)
    lead = {
        "pass": "This index is good enough to serve",
        "fail": f"This index must not go live: {failed} of {len(result.checks)} requirements are not met",
        "inconclusive": "This evaluation does not allow a verdict",
    }[result.verdict]
    if not facts:
        return f"{lead}."
    return f"{lead}{': ' if result.verdict == 'pass' else '; '}{' and '.join(facts)}."


def _usage_lines(result: EvaluationResult) -> Iterator[str]:
    """What the answers took, by the model that gave them: a fallback is seen here."""
    used = [item.usage for item in result.questions if item.usage is not None]
    for model in sorted({usage.model for usage in used}):
        mine = [usage for usage in used if usage.model == model]
        costs = [usage.cost_usd for usage in mine]
        cost = "at an unknown price" if None in costs else f"for {sum(cost or 0 for cost in costs):.4f} USD"
        read, written = sum(u.prompt_tokens for u in mine), sum(u.completion_tokens for u in mine)
        yield f"{len(mine)} answers by {model}: {read:,} tokens read and {written:,} written {cost}."


def _judge_lines(result: EvaluationResult) -> Iterator[str]:
    """What the judge could not judge and why, what it cost, and how far its judgements of one question lie apart."""
    if result.judge is None:
        return
    for name in sorted({metric for item in result.questions for metric in item.unjudged}, key=display_order):
        reasons = Counter(item.unjudged[name] for item in result.questions if name in item.unjudged)
        total = sum(name in item.answer_scores for item in result.questions)
        named = ", ".join(
            f"{count} × {reason}" for reason, count in sorted(reasons.items(), key=lambda r: (-r[1], r[0]))
        )
        yield f"{metric_name(name)}: {reasons.total()} of {total} not judged: {named}."
    judge, paid = result.judge, result.judge_paid
    cost = "at an unknown price" if judge.cost_usd is None else f"for {judge.cost_usd:.4f} USD"
    replies = ", ".join(f"{count:,} of {name}" for name, count in judge.answered_by.items()) or "none"
    yield (
        f"Judged by {judge.model}. Replies: {replies}; {judge.prompt_tokens:,} tokens read and {judge.completion_tokens:,} "
        f"written {cost}."
    )
    if paid is not None:
        yield f"This run itself sent {paid.calls:,} requests: {paid.tokens:,} tokens, {paid.cost_usd:.4f} USD."
    if judge.spread:
        apart = ", ".join(
            f"{metric_name(name)} {judge.spread[name]:.3f}" for name in sorted(judge.spread, key=display_order)
        )
        yield f"Each was judged {judge.repeats} times; the judgements of one question lie apart by, on average: {apart}."


def _of_chunks(metric: str) -> bool:
    return metric.startswith("evidence_")


def _by_k(scores: Mapping[str, Score]) -> dict[str, Any]:
    """Metrics by cut-off: ``ks`` and ``rows`` of (name, score or None per k)."""
    ks = sorted({int(name.partition("@")[2]) for name in scores if "@" in name})
    stems = sorted({name.partition("@")[0] for name in scores if "@" in name}, key=display_order)
    return {"ks": ks, "rows": [(metric_name(stem), [scores.get(f"{stem}@{k}") for k in ks]) for stem in stems]}


def _slice_rows(values: Mapping[str, Mapping[str, Score]]) -> list[tuple[str, int, list[Score | None]]]:
    """(slice value, questions, scores), largest first."""
    rows = [
        (value, max(score.n_total for score in scores.values()), [scores.get(name) for name in _SLICE_METRICS])
        for value, scores in values.items()
        if scores
    ]
    return sorted(rows, key=lambda row: (-row[1], row[0]))


def _badness(item: QuestionResult) -> tuple[float, float, str]:
    return item.scores["ndcg@10"] or 0.0, item.scores.get("recall@10") or 0.0, item.id


def _worse(measured: Sequence[QuestionResult]) -> list[QuestionResult]:
    """The questions that lost nDCG@10 since the previous evaluation, the greatest loss first."""
    lost = [
        (item.ndcg_before - (item.scores["ndcg@10"] or 0.0), item) for item in measured if item.ndcg_before is not None
    ]
    return [item for loss, item in sorted(lost, key=lambda pair: (-pair[0], pair[1].id)) if loss > TOLERANCE]


def _examples(questions: Sequence[QuestionResult]) -> list[QuestionResult]:
    """Good answers: fully and rightly cited, and right where there is a gold answer; of different kinds if possible."""

    def good(item: QuestionResult) -> bool:
        scores = item.answer_scores
        cited = scores.get("citation_correctness") == scores.get("citation_support") == 1
        return cited and scores.get("answer_contained", 1) == 1

    seen: dict[str | None, int] = {}
    ranked = []
    for item in filter(good, questions):
        seen[item.kind] = seen.get(item.kind, 0) + 1
        ranked.append((seen[item.kind], item))
    return [item for _, item in sorted(ranked, key=lambda pair: pair[0])[:_EXAMPLES]]


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in sorted(values.items()):
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value if isinstance(value, str) else json.dumps(value, default=str)
