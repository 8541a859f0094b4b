"""Fusion of rankings against hand-computed values, and its properties."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_assets.retrieval.fusion import convex_combination, normalised, ranked, reciprocal_rank_fusion

scores = st.dictionaries(st.sampled_from("abcdefgh"), st.floats(-10, 10, allow_nan=False), max_size=8)


def test_reciprocal_rank_fusion_adds_one_over_sixty_and_the_rank() -> None:
    fused = reciprocal_rank_fusion([["a", "b"], ["b", "c"]])
    assert fused == pytest.approx({"a": 1 / 61, "b": 1 / 62 + 1 / 61, "c": 1 / 62})
    assert ranked(fused) == ["b", "a", "c"]


def test_the_convex_combination_weighs_normalised_scores() -> None:
    fused = convex_combination([(0.5, {"a": 0.9, "b": 0.5, "c": 0.1}), (0.5, {"b": 12.0, "d": 2.0})])
    assert fused == pytest.approx({"a": 0.5, "b": 0.25 + 0.5, "c": 0.0, "d": 0.0})


def test_equal_scores_are_ranked_by_id() -> None:
    assert ranked({"b": 1.0, "a": 1.0, "c": 2.0}) == ["c", "a", "b"]


@given(scores)
def test_normalised_scores_keep_their_order_and_lie_between_0_and_1(given_: dict[str, float]) -> None:
    made = normalised(given_)
    assert all(0 <= score <= 1 for score in made.values())
    assert all(made[a] <= made[b] for a in given_ for b in given_ if given_[a] <= given_[b])


@given(scores, scores)
def test_all_the_weight_on_one_side_gives_its_order(one: dict[str, float], other: dict[str, float]) -> None:
    fused = convex_combination([(1.0, one), (0.0, other)])
    kept = [item for item in ranked(fused) if item in one]
    assert [normalised(one)[item] for item in kept] == sorted(normalised(one).values(), reverse=True)
