"""How small a difference a set of this size can show."""

import math
import statistics
from collections.abc import Sequence

from rag_assets.evaluation.golden.findings import Finding, Section

_Z = 1.96
"""Two-sided 95 % quantile of the normal distribution."""
WORST_SPREAD = 0.5
"""Standard deviation of scores in 0 … 1 that are 0 and 1 by halves: there is no larger one."""


def check_size(n: int, scores: Sequence[float], source: str | None, drop: float) -> Section:
    """The half-width of the 95 % interval that nDCG@10 will have, by normal approximation.

    Args:
        n: measurable questions.
        scores: nDCG@10 by question of an earlier evaluation; fewer than two, or all equal: the worst spread is assumed.
        source: which evaluation they are of; None: there is none.
        drop: ``gates.ndcg_drop``.
    """
    measured = statistics.stdev(scores) if len(scores) > 1 else 0.0
    spread = measured or WORST_SPREAD
    basis = f"the spread of {source}" if measured and source else "the worst spread there is, for none was measured"
    half = _Z * spread / math.sqrt(n) if n else None
    # Two independent means: the variance of their difference is the sum of both.
    apart = half * math.sqrt(2) if half is not None else None
    needed = math.ceil((_Z * spread / drop) ** 2) if drop > 0 else None
    figures = {
        "measurable": n,
        "standard_deviation": round(spread, 4),
        "from_evaluation": source if measured else None,
        "half_width": None if half is None else round(half, 4),
        "detectable_difference": None if apart is None else round(apart, 4),
        "ndcg_drop": drop,
        "questions_needed": needed,
    }
    if half is None or apart is None:
        text = "No question can be measured, so no difference can be seen."
        return Section("size", figures, (text,), (Finding("error", "none-measurable", text, "Correct the labels."),))
    lines = (
        f"nDCG@10 of {n} questions is known to ±{half:.3f} (95 %), by {basis}",
        f"differences under {apart:.3f} between sets of scores measured apart are noise; the same questions, compared "
        "in pairs, show smaller ones",
    )
    if half <= drop:
        return Section("size", figures, lines)
    text = f"±{half:.3f} is wider than gates.ndcg_drop = {drop}: a loss of that size can pass unseen."
    cure = f"About {needed:,} measurable questions would do." if needed else "More questions narrow it."
    more = " `rag-assets questions draft` proposes some."
    return Section("size", figures, lines, (Finding("warning", "too-few", text, cure + more),))
