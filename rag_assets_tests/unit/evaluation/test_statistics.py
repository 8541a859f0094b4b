"""Scores with honest counts: what is unmeasured is never averaged, and never hidden."""

import math

import numpy as np
import pytest

from rag_assets.errors import RagAssetsError
from rag_assets.evaluation.metrics.statistics import Score, paired_difference, percentile, summarise, summarise_metrics


def test_the_mean_has_an_interval_around_it_and_counts() -> None:
    values = [0.0, 1.0] * 50
    score = summarise(values)
    assert score.value == 0.5
    assert (score.n_valid, score.n_total) == (100, 100)
    assert score.low is not None
    assert score.high is not None
    # Normal approximation: ±1.96 · 0.5 / √100 = ±0.098.
    assert score.low == pytest.approx(0.402, abs=0.02)
    assert score.high == pytest.approx(0.598, abs=0.02)


def test_the_interval_agrees_with_scipy() -> None:
    from scipy.stats import bootstrap

    values = np.random.default_rng(5).beta(2, 1, size=80)
    expected = bootstrap((values,), np.mean, method="percentile", n_resamples=20_000, rng=6).confidence_interval
    score = summarise(list(values))
    assert score.low == pytest.approx(expected.low, abs=0.005)
    assert score.high == pytest.approx(expected.high, abs=0.005)


def test_the_same_values_and_seed_give_the_same_score() -> None:
    values = list(np.random.default_rng(1).random(50))
    assert summarise(values) == summarise(values)
    assert summarise(values, seed=1) != summarise(values, seed=2)


def test_large_samples_are_resampled_in_bounded_batches() -> None:
    values = [0.0, 1.0] * 1_000  # 2,000 resamples of 2,000 values: four batches of at most a million.
    score = summarise(values)
    assert score.low == pytest.approx(0.5 - 1.96 * 0.5 / math.sqrt(2_000), abs=0.003)


@pytest.mark.parametrize("garbage", [None, math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(("bad", "withheld"), [(0, False), (5, False), (6, True), (50, True), (100, True)])
def test_more_than_five_percent_unmeasured_withholds_the_value_but_not_the_counts(
    garbage: float | None, bad: int, withheld: bool
) -> None:
    score = summarise([garbage] * bad + [0.25] * (100 - bad))
    assert (score.n_valid, score.n_total) == (100 - bad, 100)
    if withheld:
        assert (score.value, score.low, score.high) == (None, None, None)
        assert score.withheld is (bad < 100)
    else:
        assert (score.value, score.low, score.high) == (0.25, 0.25, 0.25)


def test_nothing_and_a_single_value_have_no_interval() -> None:
    assert summarise([]) == Score(None, None, None, 0, 0)
    assert summarise([0.5]) == Score(0.5, None, None, 1, 1)


def test_a_missing_key_does_not_apply_but_none_is_unmeasured() -> None:
    rows: list[dict[str, float | None]] = [{"a": 1.0}, {"a": 1.0, "b": 0.0}, {"a": None, "b": 1.0}]
    scores = summarise_metrics(rows)
    assert (scores["a"].value, scores["a"].n_valid, scores["a"].n_total) == (None, 2, 3)
    assert (scores["b"].value, scores["b"].n_valid, scores["b"].n_total) == (0.5, 2, 2)


def test_pairing_shows_a_difference_that_independent_intervals_hide() -> None:
    easy_and_hard = np.random.default_rng(3).random(60)
    previous = {str(number): float(value) for number, value in enumerate(easy_and_hard)}
    current = {key: value + 0.02 for key, value in previous.items()}
    before, after = summarise(list(previous.values())), summarise(list(current.values()))
    assert before.high is not None
    assert after.low is not None
    assert before.high > after.low
    difference = paired_difference(current, previous)
    assert difference.value == pytest.approx(0.02)
    assert difference.low is not None
    assert difference.low > 0


def test_a_difference_is_over_shared_questions_and_current_minus_previous() -> None:
    current = {"a": 1.0, "b": 0.5, "new": 0.0}
    previous = {"b": 0.0, "a": 0.5, "old": 0.0}
    assert paired_difference(current, previous) == Score(0.5, 0.5, 0.5, 2, 2)
    assert paired_difference({"a": None, "b": 1.0}, {"a": 1.0, "b": 1.0}) == Score(None, None, None, 1, 2)
    assert paired_difference(current, {}) == Score(None, None, None, 0, 0)


def test_a_difference_does_not_depend_on_the_order_of_questions() -> None:
    generator = np.random.default_rng(4)
    current = {str(number): float(generator.random()) for number in range(30)}
    previous = {str(number): float(generator.random()) for number in range(30)}
    assert paired_difference(dict(reversed(current.items())), previous) == paired_difference(current, previous)


def test_percentiles_are_linear_between_ranks() -> None:
    assert percentile([1, 2, 3, 4], 50) == 2.5
    assert percentile([10], 99) == 10
    assert percentile(list(range(101)), 95) == 95
    with pytest.raises(RagAssetsError, match="percentile of no values"):
        percentile([], 50)
