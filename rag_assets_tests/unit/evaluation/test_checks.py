"""Floors, drops and budgets of ``evals/thresholds.toml``: met, missed, or undecided."""

from dataclasses import replace

import pytest

from rag_assets.evaluation.checks import combined, quality_checks, threshold_checks
from rag_assets.evaluation.metrics.statistics import Score
from rag_assets.evaluation.results import AnnRecall, Check, EvaluationResult
from rag_assets.settings import GateSettings

from .fixtures import realistic_benchmark, realistic_result


def checks(result: EvaluationResult, *, finished: bool = True, **gate: dict[str, float]) -> dict[str, Check]:
    return {c.name: c for c in threshold_checks(result, GateSettings.model_validate(gate), finished=finished)}


def scored(**scores: Score) -> EvaluationResult:
    """An evaluation with these retrieval scores alone (``__`` stands for ``@``)."""
    retrieval = {name.replace("__", "@"): score for name, score in scores.items()}
    return replace(realistic_result(), retrieval=retrieval, answers={}, latency={}, previous=None)


@pytest.mark.parametrize(
    ("score", "passed", "text"),
    [
        (Score(0.81, 0.75, 0.86, 90, 90), True, "ndcg@10 is 0.810 (0.750 to 0.860); the floor is 0.8."),
        (Score(0.78, 0.72, 0.83, 90, 90), None, "Missed within noise: more questions would decide it."),
        (Score(0.60, 0.55, 0.65, 90, 90), False, "ndcg@10 is 0.600 (0.550 to 0.650); the floor is 0.8."),
        (Score(0.60, None, None, 1, 1), False, "ndcg@10 is 0.600; the floor is 0.8."),
        (Score(None, None, None, 80, 90), None, "ndcg@10 is withheld (80 of 90 questions measured)"),
    ],
)
def test_a_floor_is_met_missed_or_undecided(score: Score, passed: bool | None, text: str) -> None:
    check = checks(scored(ndcg__10=score), floors={"ndcg@10": 0.8})["floor ndcg@10"]
    assert check.passed is passed
    assert text in check.text
    assert (check.value, check.threshold) == (score.value, 0.8)


def test_a_floor_of_what_does_not_exist_is_never_met() -> None:
    check = checks(scored(recall__10=Score(1, 1, 1, 9, 9)), floors={"ndgc@10": 0.8})["floor ndgc@10"]
    assert check.passed is None
    assert check.text == "ndgc@10 was not measured, so its floor of 0.8 is undecided; measured were: recall@10."


def test_what_is_not_measured_yet_is_left_to_a_later_step() -> None:
    result = scored(ndcg__10=Score(0.9, 0.8, 1, 9, 9))
    floors = {"ndcg@10": 0.8, "recall@10": 0.9, "faithfulness": 0.9}
    early = checks(result, finished=False, floors=floors)
    assert {name: check.passed for name, check in early.items()} == {"floor ndcg@10": True, "floor recall@10": None}
    late = checks(result, floors=floors)
    assert late.keys() - early.keys() == {"floor faithfulness"}
    assert late["floor faithfulness"].passed is None


def test_a_budget_is_compared_with_the_95th_percentile() -> None:
    result = realistic_result()
    p95 = result.latency["generation"].p95 / 1000
    for budget, passed in ((p95 * 1.01, True), (p95 * 0.99, False)):
        check = checks(result, p95_seconds={"generation": budget})["p95 generation"]
        assert check.passed is passed
        assert check.value == pytest.approx(p95)


def test_budgets_prefer_the_benchmark_and_notice_that_no_answer_came() -> None:
    bench = realistic_benchmark()
    result = replace(realistic_result(), latency={}, benchmark=bench)
    assert checks(result, p95_seconds={"search": bench.stages["search"].p95 / 990})["p95 search"].passed is True
    assert checks(result, p95_seconds={"rerank": 1}) == {}, "what nobody configured has no time"
    assert bench.answers is not None
    silent = replace(bench, answers=replace(bench.answers, n_failed=5, error="it is down", stages={}))
    check = checks(replace(result, benchmark=silent), p95_seconds={"generation": 9})["p95 generation"]
    assert (check.passed, "it is down" in check.text) == (None, True)


def test_an_index_that_finds_too_little_is_refused_with_the_cure() -> None:
    judged = replace(realistic_result(), ann_recall=AnnRecall(60, 0.92, 0.85, 0.6))
    mean, worst = (check for check in quality_checks(judged, GateSettings()) if check.name.startswith("ann_recall"))
    assert mean.passed is False
    assert mean.text.endswith(
        "the floor is 95%. Raise index.ef_search (or index.m and index.ef_construction), then sync."
    )
    assert worst.passed is True
    assert worst.text.endswith("the floor is 80%.")


def test_a_widened_beam_is_named_and_where_none_is_enough_the_graph_is_to_be_built_otherwise() -> None:
    def texts(ann: AnnRecall) -> list[str]:
        judged = replace(realistic_result(), ann_recall=ann)
        return [c.text for c in quality_checks(judged, GateSettings()) if c.name.startswith("ann_recall")]

    assert texts(AnnRecall(60, 0.961, 0.85, 0.6, 200, 100))[0] == (
        "The index finds 96.1% of what exact search finds, on average, with ef_search 200, which was needed; the setting is 100; "
        "the floor is 95%."
    )
    assert texts(AnnRecall(60, 0.961, 0.85, 0.6, 100, 100)) == texts(AnnRecall(60, 0.961, 0.85, 0.6))
    for text in texts(AnnRecall(60, 0.92, 0.7, 0.6, 200, 100, 1000)):
        assert "with ef_search 200; the setting is 100" in text
        assert text.endswith(
            "Beams up to ef_search 1000 were tried, and none meets the floors. Raise index.m and index.ef_construction, then sync."
        )


def test_a_loss_of_any_metric_is_refused_only_beyond_noise() -> None:
    result = realistic_result()
    assert result.previous is not None
    for difference, passed in (
        (Score(-0.2, -0.3, -0.1, 90, 90), False),
        (Score(-0.2, -0.5, 0.1, 90, 90), True),
        (Score(-0.04, -0.045, -0.035, 90, 90), True),
        (Score(None, None, None, 3, 90), None),
    ):
        previous = replace(result.previous, differences={"token_f1": difference})
        found = checks(replace(result, previous=previous), max_drop={"token_f1": 0.05, "bleu": 0.1})
        assert {name: check.passed for name, check in found.items()} == {"drop token_f1": passed}


def test_checks_of_thresholds_are_combined_under_the_names_that_assets_declare() -> None:
    good, bad = Check("floor recall@10", True, 1, 1, "good."), Check("drop ndcg@10", False, 0, 1, "bad.")
    open_ = Check("floor faithfulness", None, None, 0.9, "open.")
    slow, own = Check("p95 total", False, 9, 5, "slow."), Check("complete", True, 0, 0, "whole.")
    found = {check.name: check for check in combined([good, bad, open_, slow, own])}
    assert {name: check.passed for name, check in found.items()} == {
        "complete": True, "retrieval_thresholds": False, "answer_thresholds": None, "latency_thresholds": False,
    }  # fmt: skip
    assert found["retrieval_thresholds"].text == "bad. good."
