"""From values per question to a score with its interval. A score without ``n_valid`` and ``n_total`` is not a score."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rag_assets.errors import RagAssetsError

DEFAULT_SEED = 20_260_101
"""Any constant will do; a constant makes intervals repeatable."""
RESAMPLES = 2_000
"""Enough: the standard error of a 95 % limit is then 1.5 % of the interval's width (for a normal mean)."""
DIGITS = 6
"""Decimal places that count: below this, floating point differs between processors."""
MAX_UNMEASURED_SHARE = 0.05
"""With more than this share unmeasured the mean may say more about what failed than about quality: it is withheld."""
_BATCH_VALUES = 1_000_000
"""Values drawn at a time: bounds memory to about 16 MB for any number of questions."""


@dataclass(frozen=True, slots=True)
class Score:
    """A mean over questions with its 95 % interval."""

    value: float | None
    """None: nothing was measured, or more than 5 % of the questions were not and the value is withheld."""
    low: float | None
    """None with ``value``, or if there is a single value: an interval needs two."""
    high: float | None
    n_valid: int
    """Questions measured."""
    n_total: int
    """Questions the metric applies to."""

    @property
    def withheld(self) -> bool:
        """True if values exist but too many others are missing for a mean to be honest."""
        return self.value is None and self.n_valid > 0


def summarise(values: Sequence[float | None], *, seed: int = DEFAULT_SEED) -> Score:
    """The mean of ``values`` with a 95 % percentile bootstrap interval (Efron and Tibshirani 1993, chapter 13).

    None, NaN and infinities count as unmeasured and never enter the mean. The same values and seed give the same score.
    """
    # As they are kept: an evaluation that is read back and added to gets the mean it would have got at once.
    kept = [round(value, DIGITS) for value in values if value is not None and math.isfinite(value)]
    valid = np.asarray(kept, dtype=np.float64)
    n_valid, n_total = len(valid), len(values)
    if n_valid == 0 or n_total - n_valid > MAX_UNMEASURED_SHARE * n_total:
        return Score(None, None, None, n_valid, n_total)
    mean = float(valid.mean())
    if n_valid == 1:
        return Score(mean, None, None, n_valid, n_total)
    low, high = np.percentile(_bootstrap_means(valid, seed), [2.5, 97.5])
    return Score(mean, float(low), float(high), n_valid, n_total)


def summarise_metrics(rows: Sequence[Mapping[str, float | None]], *, seed: int = DEFAULT_SEED) -> dict[str, Score]:
    """``summarise`` for every metric in ``rows`` (one mapping per question).

    A missing key says that the metric does not apply to the question; None says that it does but was not measured.
    """
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: summarise([row[name] for row in rows if name in row], seed=seed) for name in names}


def paired_difference(
    current: Mapping[str, float | None], previous: Mapping[str, float | None], *, seed: int = DEFAULT_SEED
) -> Score:
    """The mean of ``current - previous`` per question with a paired bootstrap interval.

    Both map question ids to values. ``n_total`` counts the questions in both, ``n_valid`` those measured in both.
    Resampling questions, not sides, keeps the differences between easy and hard questions out of the interval.
    """
    differences: list[float | None] = []
    # Sorted, because a resample depends on the order of the values.
    for question in sorted(current.keys() & previous.keys()):
        new, old = current[question], previous[question]
        differences.append(None if new is None or old is None else new - old)
    return summarise(differences, seed=seed)


def percentile(values: Sequence[float], q: float) -> float:
    """The ``q``-th percentile (0 ≤ q ≤ 100), linear between closest ranks (type 7 of Hyndman and Fan 1996).

    Raises:
        RagAssetsError: there are no values.
    """
    if not values:
        raise RagAssetsError("A percentile of no values is not defined. Measure at least one.")
    return float(np.percentile(np.asarray(values, dtype=np.float64), q))


def _bootstrap_means(values: npt.NDArray[np.float64], seed: int) -> npt.NDArray[np.float64]:
    generator = np.random.default_rng(seed)
    batch = max(1, _BATCH_VALUES // len(values))
    means = []
    for start in range(0, RESAMPLES, batch):
        shape = (min(batch, RESAMPLES - start), len(values))
        means.append(values[generator.integers(0, len(values), size=shape)].mean(axis=1))
    return np.concatenate(means)
