"""Which of some measured points to recommend, and to whom it must be confirmed. Pure functions."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace

from rag_assets.evaluation.questions import Question
from rag_assets.evaluation.statistics import Score, paired_difference
from rag_assets.evaluation.tuning.results import Point

LEAST_QUESTIONS = 30
"""With fewer nearly every setting is "within noise" of every other, and the quickest would win whatever it finds."""
WORTH_IT = 0.1
"""Share of the present p95 that a change must save, unless it finds more: less is the noise of timing."""


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
    tolerance: float,
) -> tuple[Point, str]:
    """The quickest point whose quality is within noise of the best, and why; the present one if nothing is gained.

    Args:
        points: of every pipeline, the present one among them.
        present: the settings in force.
        values: by label of a variant, nDCG@10 by question id.
        tolerance: the most nDCG@10 that a difference within noise may cost.
    """
    best = max(points, key=lambda point: (point.quality.value or 0.0, -point.timing.p95))
    target = values[best.variant.label]
    good = [
        point
        for point in points
        if not_worse(paired_difference(values[point.variant.label], target), tolerance)
        and (point.timing.fell_back == 0 or point is best)
    ]
    quickest = min(good, key=lambda point: point.timing.p95)
    if any(point.variant == present.variant for point in good):
        saved = present.timing.p95 - quickest.timing.p95
        if saved < WORTH_IT * present.timing.p95:
            return present, (
                f"The present settings are within noise of the best found ({best.variant.label}), and none of those that "
                f"are saves {WORTH_IT:.0%} of their p95."
            )
        return quickest, (
            f"As good as the best found ({best.variant.label}) within noise, at {quickest.timing.p95:.0f} ms instead of "
            f"{present.timing.p95:.0f} ms (p95)."
        )
    return quickest, (
        f"The present settings find less than the best ones ({best.variant.label}) beyond noise; of those that don't, these "
        "are the quickest."
    )
