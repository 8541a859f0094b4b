"""Retrieval metrics against hand-computed values, a published example, ir-measures (trec_eval) and scikit-learn."""

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rag_assets.errors import RagAssetsError
from rag_assets.evaluation.golden.questions import Label, Question
from rag_assets.evaluation.metrics.retrieval import (
    find_evidence,
    hit_rate_at_k,
    mrr_at_k,
    ndcg_at_k,
    precision_at_k,
    ranked_documents,
    recall_at_k,
    score_question,
    unmeasured_scores,
)

from .fixtures import hit

RANKED = ["a", "b", "c", "d", "e"]
GRADES = {"b": 1.0, "d": 3.0, "x": 2.0, "a": 0.0}
"""Three relevant documents, found at ranks 2 and 4, one not found; ``a`` was judged and is not relevant."""


@pytest.mark.parametrize(
    ("k", "recall", "precision", "hit_rate", "mrr"),
    [(1, 0, 0, 0, 0), (2, 1 / 3, 1 / 2, 1, 1 / 2), (4, 2 / 3, 2 / 4, 1, 1 / 2), (10, 2 / 3, 2 / 10, 1, 1 / 2)],
)
def test_metrics_equal_hand_computed_values(
    k: int, recall: float, precision: float, hit_rate: float, mrr: float
) -> None:
    assert recall_at_k(RANKED, GRADES, k) == pytest.approx(recall)
    assert precision_at_k(RANKED, GRADES, k) == pytest.approx(precision)
    assert hit_rate_at_k(RANKED, GRADES, k) == hit_rate
    assert mrr_at_k(RANKED, GRADES, k) == pytest.approx(mrr)


def test_ndcg_equals_a_hand_computed_value() -> None:
    gained = 1 / math.log2(3) + 3 / math.log2(5)
    best = 3 / math.log2(2) + 2 / math.log2(3) + 1 / math.log2(4)
    assert ndcg_at_k(RANKED, GRADES, 10) == pytest.approx(gained / best)
    assert ndcg_at_k(RANKED, GRADES, 2) == pytest.approx((1 / math.log2(3)) / (3 + 2 / math.log2(3)))


def test_ndcg_equals_the_published_example() -> None:
    # Wikipedia, "Discounted cumulative gain": grades 3, 2, 3, 0, 1, 2 were retrieved, further 3 and 2 exist: 0.785.
    grades = {"1": 3.0, "2": 2.0, "3": 3.0, "4": 0.0, "5": 1.0, "6": 2.0, "7": 3.0, "8": 2.0}
    assert ndcg_at_k(["1", "2", "3", "4", "5", "6"], grades, 6) == pytest.approx(0.785, abs=5e-4)


@settings(deadline=None)  # The first example imports scikit-learn.
@given(
    st.lists(st.integers(0, 3), min_size=2, max_size=15).filter(any),
    st.integers(1, 20),
    st.randoms(use_true_random=False),
)
def test_ndcg_equals_that_of_scikit_learn(gains: list[int], k: int, order: object) -> None:
    from sklearn.metrics import ndcg_score

    grades = {str(number): float(gain) for number, gain in enumerate(gains)}
    ranked = sorted(grades, key=lambda _: order.random())  # type: ignore[attr-defined]
    scores = [len(ranked) - ranked.index(name) for name in grades]
    assert ndcg_at_k(ranked, grades, k) == pytest.approx(ndcg_score([gains], [scores], k=k))


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 3), min_size=1, max_size=15).filter(any),
    st.integers(0, 15),
    st.randoms(use_true_random=False),
)
def test_every_metric_equals_that_of_ir_measures(gains: list[int], found: int, order: Any) -> None:
    import ir_measures
    from ir_measures import RR, P, R, Success, nDCG

    grades = {f"d{number}": float(gain) for number, gain in enumerate(gains)}
    ranked = sorted([*grades, "unjudged"], key=lambda _: order.random())[:found]
    scores = score_question(
        Question("q", "?", relevant=tuple(Label(name, None, grade) for name, grade in grades.items())),
        [hit(rank, name) for rank, name in enumerate(ranked, start=1)],
        ks=(1, 5, 10),
    )
    names = {"ndcg": nDCG, "recall": R, "precision": P, "hit_rate": Success, "mrr": RR}
    measures = {f"{name}@{k}": measure @ k for name, measure in names.items() for k in (1, 5, 10)}
    judged = {"q": {name: int(grade) for name, grade in grades.items()}}
    # Another query that found something: trec_eval leaves one out that found nothing.
    judged["r"] = {"d0": 1}
    run = {"q": {name: -float(rank) for rank, name in enumerate(ranked)}, "r": {"d0": 1.0}}
    theirs = {
        str(value.measure): value.value
        for value in ir_measures.iter_calc(list(measures.values()), judged, run)
        if value.query_id == "q"
    }
    assert scores == {name: pytest.approx(theirs[str(measure)]) for name, measure in measures.items()}


@given(st.permutations([str(number) for number in range(12)]), st.sets(st.integers(0, 11), min_size=1))
def test_scores_stay_in_range_and_only_grow_with_k_where_they_should(ranked: list[str], relevant: set[int]) -> None:
    grades = {str(number): 1.0 for number in relevant}
    for metric in (recall_at_k, hit_rate_at_k, mrr_at_k):
        values = [metric(ranked, grades, k) for k in range(1, 13)]
        assert values == sorted(values)
    for metric in (recall_at_k, precision_at_k, hit_rate_at_k, mrr_at_k, ndcg_at_k):
        assert all(0 <= metric(ranked, grades, k) <= 1 + 1e-12 for k in range(1, 13))
    assert recall_at_k(ranked, grades, 12) == 1


def test_a_document_stands_at_the_rank_of_its_best_chunk() -> None:
    hits = [hit(3, "b"), hit(1, "a"), hit(2, "a"), hit(4, "c"), hit(5, "b")]
    assert ranked_documents(hits) == ["a", "b", "c"]
    question = Question("1", "?", relevant=(Label("b"),))
    assert score_question(question, hits, ks=(1, 2)) == {
        "recall@1": 0,
        "precision@1": 0,
        "hit_rate@1": 0,
        "mrr@1": 0,
        "ndcg@1": 0,
        "recall@2": 1,
        "precision@2": 0.5,
        "hit_rate@2": 1,
        "mrr@2": 0.5,
        "ndcg@2": pytest.approx(1 / math.log2(3)),
    }


def test_evidence_must_stand_whole_in_a_chunk_of_its_own_document() -> None:
    labels = (Label("a", "one two"), Label("a", "three four"), Label("b", "308"))
    hits = [hit(1, "c", "308"), hit(2, "a", "zero ONE\ntwo three"), hit(3, "a", "four"), hit(4, "b", "it was 308")]
    found = find_evidence(labels, hits, 4)
    assert found is not None
    assert [found.scores(k)["evidence_recall"] for k in (1, 2, 3, 4)] == [0, 1 / 3, 1 / 3, 2 / 3]


def test_chunk_level_metrics_equal_hand_computed_values() -> None:
    labels = (Label("a", "one two"), Label("b", "five"), Label("b", "lost"), Label("b", "not wanted", 0))
    # Overlapping chunks repeat a quote: both hold it, but it is found once, at the first.
    hits = [hit(1, "c", "five"), hit(2, "a", "one two"), hit(3, "a", "so one two"), hit(4, "b", "five not wanted")]
    found = find_evidence(labels, hits, 10)
    assert found is not None
    assert found.scores(3) == {
        "evidence_recall": 1 / 3,
        "evidence_precision": 2 / 3,
        "evidence_mrr": 1 / 2,
        "evidence_ndcg": pytest.approx(1 / math.log2(3) / 3),
    }
    assert found.scores(10) == {
        "evidence_recall": 2 / 3,
        "evidence_precision": 3 / 10,
        "evidence_mrr": 1 / 2,
        "evidence_ndcg": pytest.approx((1 / math.log2(3) + 1 / math.log2(5)) / 3),
    }


def test_chunk_level_metrics_apply_only_where_there_are_quotes() -> None:
    assert find_evidence((Label("a"),), [hit(1, "a")], 1) is None
    assert not [name for name in score_question(Question("1", "?", relevant=(Label("a"),)), []) if "evidence" in name]


def test_finding_nothing_scores_zero() -> None:
    assert set(score_question(Question("1", "?", relevant=(Label("a", "q"),)), []).values()) == {0.0}


def test_unmeasured_questions_have_the_same_keys_and_no_values() -> None:
    for label in (Label("a"), Label("a", "q")):
        question = Question("1", "?", relevant=(label,))
        assert unmeasured_scores(question).keys() == score_question(question, []).keys()
        assert set(unmeasured_scores(question).values()) == {None}


def test_a_question_without_relevant_documents_is_refused() -> None:
    with pytest.raises(RagAssetsError, match="'u' names no relevant document"):
        score_question(Question("u", "?", relevant=(Label("a", None, 0.0),)), [hit(1, "a")])
