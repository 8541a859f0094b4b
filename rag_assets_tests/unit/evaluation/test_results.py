"""The JSON of an evaluation: exact, ordered, and equal between runs except for the clock."""

import json
import math
from dataclasses import replace

import pytest
from pydantic import ValidationError

from rag_assets.errors import RagAssetsError
from rag_assets.evaluation.golden.questions import Label
from rag_assets.evaluation.latency import LatencySummary, latency_class, summarise_latency, summarise_stages
from rag_assets.evaluation.metrics.statistics import Score
from rag_assets.evaluation.result_json import from_json, to_json
from rag_assets.evaluation.results import (
    QuestionResult,
    file_type,
    score_slices,
)
from rag_assets.settings import Settings

from .fixtures import realistic_result


def test_the_json_has_the_fields_scripts_rely_on() -> None:
    data = to_json(realistic_result(), report="/tmp/report.html")
    assert data["verdict"] == "pass"
    assert data["report"] == "/tmp/report.html"
    assert data["fingerprint"]["questions"]
    for metric in ("ndcg@10", "recall@10", "mrr@10"):
        assert data["retrieval"][metric].keys() == {"value", "low", "high", "n_valid", "n_total"}
    assert data["answers"]["answer_contained"]["n_valid"] == 119
    assert data["latency"]["search"].keys() == {"n", "p50", "p95", "p99", "max"}
    recall = [name for name in data["retrieval"] if name.startswith("recall")]
    assert recall == ["recall@1", "recall@3", "recall@5", "recall@10"]


def test_only_the_parts_of_the_clock_differ_between_two_runs() -> None:
    first = realistic_result()
    second = replace(
        first,
        created_at="2027-01-01T00:00:00+00:00",
        questions=tuple(
            replace(item, milliseconds={stage: 2 * value for stage, value in item.milliseconds.items()})
            for item in first.questions
        ),
        latency={stage: replace(value, p95=value.p95 * 2) for stage, value in first.latency.items()},
        history=first.history[1:],
        previous=None,
        benchmark=None,
    )
    clock = {"timings", "usage", "latency", "benchmark", "history", "previous", "created_at"}
    texts = []
    for result in (first, second):
        data = to_json(result)
        assert clock < data.keys()
        texts.append(json.dumps({key: value for key, value in data.items() if key not in clock}))
    assert texts[0] == texts[1]
    assert to_json(first) != to_json(second)


def test_an_evaluation_of_an_earlier_release_has_no_benchmark_and_the_default_classes() -> None:
    data = to_json(realistic_result(4))
    del data["benchmark"], data["latency_classes"]
    again = from_json(data)
    assert again.benchmark is None
    assert latency_class("total", 2900, again.latency_classes) == "excellent"


def test_the_order_in_which_scores_were_computed_does_not_show() -> None:
    result = realistic_result()
    shuffled = replace(
        result,
        retrieval=dict(sorted(result.retrieval.items(), reverse=True)),
        fingerprint=dict(sorted(result.fingerprint.items(), reverse=True)),
    )
    assert json.dumps(to_json(shuffled)) == json.dumps(to_json(result))


def test_scores_are_rounded_and_no_nan_is_written() -> None:
    result = realistic_result(4)
    score = Score(1 / 3, -1e-9, math.nan, 3, 3)
    data = to_json(replace(result, retrieval={"ndcg@10": score}))
    assert data["retrieval"]["ndcg@10"] == {"value": 0.333333, "low": 0.0, "high": None, "n_valid": 3, "n_total": 3}
    assert "-0.0" not in json.dumps(data["retrieval"], allow_nan=False)


def test_what_is_written_can_be_read_back() -> None:
    data = json.loads(json.dumps(to_json(realistic_result())))
    again = from_json(data)
    assert again.questions[0].milliseconds
    assert again.questions[0].relevant[0].quote
    assert again.previous is not None
    assert to_json(again) == data
    assert to_json(from_json(to_json(replace(again, previous=None, ann_recall=None))))["previous"] is None


@pytest.mark.parametrize("damage", [{"timings": {}}, {"retrieval": {"ndcg@10": 3}}, {"questions": None}])
def test_damaged_json_is_refused_with_a_cure(damage: dict[str, object]) -> None:
    with pytest.raises(RagAssetsError, match="rag-assets evaluate"):
        from_json({**to_json(realistic_result(4)), **damage})


@pytest.mark.parametrize(
    ("stage", "seconds", "expected"),
    [
        ("total", 2.9, "excellent"),
        ("total", 3, "good"),
        ("total", 5, "good"),
        ("total", 10, "acceptable"),
        ("generation", 15, "poor"),
        ("generation", 15.1, "critical"),
        ("embedding", 0.05, "excellent"),
        ("embedding", 0.4, "acceptable"),
        ("retrieval", 0.2, "acceptable"),
        ("retrieval", 1.5, "critical"),
        ("rerank", 0.2, None),
    ],
)
def test_times_are_classed_by_stage(stage: str, seconds: float, expected: str | None) -> None:
    assert latency_class(stage, seconds * 1000) == expected


def test_the_settings_can_move_the_limits_of_a_class() -> None:
    classes = Settings(benchmark={"classes": {"search": [0.01, 0.02, 0.03, 0.04]}}).benchmark.classes
    assert latency_class("search", 35, classes) == "poor"
    assert latency_class("embedding", 35, classes) == "excellent"


@pytest.mark.parametrize(
    "classes", [{"search": [0.1, 0.05, 1, 2]}, {"searching": [1, 2, 3, 4]}, {"search": [0, 1, 2, 3]}]
)
def test_limits_that_do_not_rise_and_unknown_stages_are_refused(classes: dict[str, list[float]]) -> None:
    with pytest.raises(ValidationError, match="search"):
        Settings(benchmark={"classes": classes})


def test_a_stage_that_some_requests_skip_is_summarised_over_the_others() -> None:
    found = summarise_stages([{"search": 3.0, "rerank": 1.0, "other": 1.0}, {"search": 5.0}])
    assert list(found) == ["rerank", "search", "other"]
    assert (found["rerank"].n, found["search"].n, found["search"].max) == (1, 2, 5.0)


def test_latency_is_summarised_by_percentiles() -> None:
    assert summarise_latency([float(value) for value in range(101)]) == LatencySummary(101, 50, 95, 99, 100)


@pytest.mark.parametrize(
    ("documents", "expected"),
    [
        (["a/b.PDF"], "pdf"),
        (["a.md", "b.md"], "md"),
        (["a.md", "b.pdf"], "several"),
        (["LICENSE"], "none"),
        ([], "none"),
    ],
)
def test_the_file_type_of_a_question_is_that_of_its_documents(documents: list[str], expected: str) -> None:
    assert file_type(QuestionResult("1", "?", relevant=tuple(Label(name) for name in documents))) == expected


def test_slices_hold_each_question_once_and_skip_what_has_no_label_or_kind() -> None:
    results = [
        QuestionResult("1", "?", "fact", (Label("a.md"),), {"ndcg@10": 1.0}, answer_scores={"token_f1": 0.5}),
        QuestionResult("2", "?", "fact", (Label("a.pdf"),), {"ndcg@10": 0.0}),
        QuestionResult("3", "?", None, (), {}, answer_scores={"abstention_correct": 1.0}),
    ]
    slices = score_slices(results)
    assert slices["file type"].keys() == {"md", "pdf"}
    assert slices["file type"]["md"]["ndcg@10"].value == 1
    assert slices["kind"]["fact"]["ndcg@10"] == Score(0.5, 0.0, 1.0, 2, 2)
    assert slices["kind"]["fact"]["token_f1"].n_total == 1
