"""Which of some measured points to recommend, and to whom it must be confirmed. Pure functions."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace

from rag_assets.evaluation.golden.questions import Question
from rag_assets.evaluation.metrics.statistics import Score, paired_difference
from rag_assets.evaluation.tuning.results import Point

LEAST_QUESTIONS = 30
"""With fewer nearly every setting is "within noise" of every other, and the quickest would win whatever it finds."""
WORTH_IT = 0.2
"""Share of the present p50 and p95 that a change must save, unless it finds more: less is the noise of timing."""


def split(questions: Sequence[Question]) -> tuple[list[Question], list[Question]]:
    """(those to choose with, those to confirm with): halves that depend on the ids alone, or all and none if they are few."""
    in_order = sorted(questions, key=lambda question: (hashlib.sha256(question.id.encode()).digest(), question.id))
    if len(in_order) < LEAST_QUESTIONS:
        return in_order, []
    return in_order[::2], in_order[1::2]


def pareto(points: Sequence[Point]) -> list[Point]:
    """The points, quickest first, marked where none is at least as quick and better, or quicker and as good."""
    found: list[Point] = []
    best = -1.0
    for point in sorted(points, key=lambda point: (point.timing.p95, -(point.quality.value or 0.0))):
        value = point.quality.value or 0.0
        found.append(replace(point, pareto=value > best))
        best = max(best, value)
    return found


def as_good(difference: Score, margin: float) -> bool:
    """Whether a paired difference shows that no more than ``margin`` is lost (a test of non-inferiority).

    It is more than not having shown a loss: with few questions, or noisy ones, nothing shows a loss, and the quickest way to
    search would be as good as any.
    """
    return (
        difference.low is not None
        and difference.high is not None
        and difference.low >= -margin
        and difference.high >= 0
    )


def not_worse(difference: Score, tolerance: float) -> bool:
    """Whether a paired difference is no loss beyond noise: its interval reaches 0 and its mean is not below −tolerance."""
    if difference.value is None:
        return False
    high = difference.high if difference.high is not None else difference.value
    return high >= 0 and difference.value >= -tolerance


def recommend(
    points: Sequence[Point],
    present: Point,
    values: Mapping[str, Mapping[str, float]],
    *,
    margin: float,
    narrowest: int = 0,
) -> tuple[Point, str]:
    """The quickest point that is shown to be as good as the best, and why; the present one if nothing is gained.

    Args:
        points: of every pipeline, the present one among them.
        present: the settings in force.
        values: by label of a variant, nDCG@10 by question id.
        margin: nDCG@10 that the interval of a loss may reach.
        narrowest: beam that the index needs to meet its floors of recall: no setting brings a narrower one in force.
    """
    points = [point for point in points if point.variant.effective_ef >= narrowest or point == present]
    best = max(points, key=lambda point: (point.quality.value or 0.0, -point.timing.p95))
    target = values[best.variant.label]
    good = [
        point
        for point in points
        if as_good(paired_difference(values[point.variant.label], target), margin)
        and (point.timing.fell_back == 0 or point is best)
    ]
    # A single question has no interval, so that not even the best is as good as itself.
    quickest = min(good, key=lambda point: point.timing.p95, default=best)
    if any(point.variant == present.variant for point in good):
        kept = max(quickest.timing.p95 / present.timing.p95, quickest.timing.p50 / present.timing.p50)
        if kept > 1 - WORTH_IT:
            return present, (
                f"The present settings are as good as the best found ({best.variant.label}; at most {margin:g} nDCG@10 "
                f"less, with 95 % confidence), and none of the others that are saves {WORTH_IT:.0%} of their p50 and p95."
            )
        return quickest, (
            f"As good as the best found ({best.variant.label}; at most {margin:g} nDCG@10 less, with 95 % confidence), at "
            f"{quickest.timing.p95:.0f} ms instead of {present.timing.p95:.0f} ms (p95)."
        )
    return quickest, (
        f"The present settings may lose more than {margin:g} nDCG@10 to the best found ({best.variant.label}), with 95 % "
        "confidence; of those that don't, these are the quickest."
    )
