"""An index goes live only when it has passed: floors of its collection, at every step, and nothing left out."""

import json
from pathlib import Path
from typing import Any

import pytest

from rag_assets.errors import ConfigurationError, GateRefused
from rag_assets.evaluation import publishing, store
from rag_assets.evaluation.baseline import save_baseline
from rag_assets.indexing import hnsw_index
from rag_assets.indexing.hnsw_index import existing_target
from rag_assets_tests.driving import OpenIndex, WarmRuntime, answers, live, query, run, write

CHUNKING = {"max_tokens": 64, "overlap_tokens": 0, "contextual": False}
QUESTIONS = [
    {"id": name, "question": f"{name} {name}", "answer": f"{name} {name}", "relevant": [{"document": f"{name}.md"}]}
    for name in ("alpha", "beta", "gamma")
]


@pytest.fixture
def open_gated(open_index: OpenIndex, source: Path, tmp_path: Path) -> Any:
    """Open the index under gates of its collection, judged by three questions."""
    for name in ("alpha", "beta", "gamma"):
        write(source, f"{name}.md", f"{name} {name} {name}\n")
    questions = tmp_path / "questions.jsonl"
    questions.write_text("".join(json.dumps(item) + "\n" for item in QUESTIONS))

    def open_(*, m: int = 16, **gates: Any) -> WarmRuntime:
        return open_index(
            chunking=dict(CHUNKING),
            index={"m": m},
            collection={"questions": questions, "gates": gates},
            evaluation={"similarity": False},
        )

    return open_


def states(runtime: WarmRuntime) -> list[str]:
    return [row[0] for row in query(runtime, "SELECT state FROM generation ORDER BY sequence")]


def test_floors_that_are_met_let_an_index_go_live(open_gated: Any) -> None:
    index = open_gated(floors={"ndcg@10": 0.9, "answered": 0.5}, p95_seconds={"search": 60})
    assert run(index).generation["promoted"]
    _, result = store.latest(index, live(index))
    assert {check.name: check.passed for check in result.checks}.items() >= {
        ("floor ndcg@10", True), ("floor answered", True), ("p95 search", True)
    }  # fmt: skip


@pytest.mark.parametrize(
    ("gates", "why"),
    [
        ({"floors": {"precision@10": 0.9}}, "precision@10 is 0.100"),
        ({"floors": {"token_f1": 1.0, "exact_match": 1.0}}, "exact_match is"),
        ({"floors": {"faithfulness": 0.5}}, "faithfulness was not measured"),
        ({"p95_seconds": {"search": 1e-9}}, "95 % of search take at most"),
    ],
    ids=["retrieval", "answers", "unmeasured", "slow"],
)
def test_what_misses_its_thresholds_is_refused_and_the_old_index_goes_on(
    open_gated: Any, gates: dict[str, Any], why: str
) -> None:
    run(open_gated())
    before = answers(open_gated(), "alpha alpha", "gamma")
    refused = open_gated(m=8, **gates)
    report = run(refused)
    assert report.refused is not None
    assert report.refused.count(why) == 1
    assert states(refused) == ["live", "refused"]
    assert answers(refused, "alpha alpha", "gamma") == before
    (row,) = query(refused, "SELECT reason FROM generation WHERE state = 'refused'")
    assert why in row[0]


def test_a_step_that_is_left_out_is_noticed_at_the_promotion(open_gated: Any) -> None:
    index = open_gated(floors={"answered": 0.5})
    with pytest.raises(GateRefused, match="answered was not measured"):
        run_without_answers(index)
    assert states(index) == ["refused"]


def run_without_answers(runtime: WarmRuntime) -> None:
    from rag_assets.indexing.sync import sync
    from rag_assets_tests.fakes import DirectRunner

    class Hasty(DirectRunner):
        def publish(self, collection: str) -> None:
            hnsw_index.materialize(runtime, collection)
            publishing.evaluate_target(runtime, collection)
            publishing.promote_target(runtime, collection, who="test")

    report = sync(runtime, "default", lambda: Hasty(runtime))
    if report.refused:
        raise GateRefused(report.refused)


def test_a_baseline_notices_a_loss_that_the_live_index_no_longer_shows(
    open_gated: Any, open_index: OpenIndex, tmp_path: Path
) -> None:
    index = open_gated()
    run(index)
    good, path = store.latest(index, live(index))[1], tmp_path / "evals" / "baseline.json"
    save_baseline(good, path)
    assert "alpha" not in path.read_text().replace('"alpha"', "")
    collection = index.settings.collection("default")
    kept = {"questions": collection.questions, "source": collection.source, "baseline": path}
    same = open_index(chunking=dict(CHUNKING), collection=kept, evaluation={"similarity": False})
    assert publishing.evaluate_target(same, "default").verdict == "pass"
    worse = json.loads(path.read_text())
    for item in worse["questions"]:
        item["scores"]["ndcg@10"] = 1.5
    path.write_text(json.dumps(worse))
    result = publishing.evaluate_target(same, "default")
    assert result.verdict == "fail"
    assert [check.name for check in result.checks if check.passed is False] == ["not_worse_than_baseline"]
    path.write_text("{}")
    with pytest.raises(ConfigurationError, match=r"is no baseline of this version\. Make one with"):
        publishing.evaluate_target(same, "default")


def test_an_evaluation_is_not_compared_with_itself(open_gated: Any) -> None:
    index = open_gated()
    run(index)
    first = store.latest(index, live(index))[1]
    assert first.previous is None
    publishing.evaluate_target(index, "default")
    publishing.answer_target(index, "default")
    run_id, second = store.latest(index, existing_target(index, "default"))
    assert second.previous is not None
    assert second.previous.created_at == first.created_at
    assert {"ndcg@10", "token_f1"} <= second.previous.differences.keys()
    assert store.comparable(index, live(index), second, before=run_id) == first
