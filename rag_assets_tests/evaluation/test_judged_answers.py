"""Whole evaluations whose answers a scripted judge judges: kept, made again for nothing, forgotten, shown."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rag_assets.errors import ConfigurationError
from rag_assets.evaluation import publishing
from rag_assets.evaluation.result_json import from_json, to_json
from rag_assets.evaluation.results import EvaluationResult
from rag_assets.indexing.forgetting import forget
from rag_assets_tests.driving import OpenIndex, WarmRuntime, query, run, write
from rag_assets_tests.indexing.test_forgetting import tables_with
from rag_assets_tests.unit.evaluation.judge_server import JudgeServer, judge_models, judge_server, refuses

CANARY = "zanzibarquux"
JUDGED = ("faithfulness", "answer_relevancy", "context_precision", "context_recall", "factual_correctness")
CHUNKING = {"max_tokens": 64, "overlap_tokens": 0, "contextual": False}
QUESTIONS = [
    {
        "id": f"q{number:02}",
        "question": f"How many spaces does garage {name} have?",
        "answer": "forty",
        "relevant": [{"document": f"{name}.md"}],
    }
    for number, name in enumerate(("alpha", "beta", "gamma", "delta"))
]


@pytest.fixture
def server() -> Iterator[JudgeServer]:
    """A judge who quotes what he reads and finds everything right."""
    with judge_server() as server:
        server.replies = {
            "statements": lambda asked: {"statements": [asked["answer"]]},
            "claims": lambda asked: {"claims": [asked["response"]]},
            "verdicts": lambda asked: {
                "statements": [{"statement": s, "reason": asked["context"], "verdict": 1} for s in asked["statements"]]
            },
            "question": lambda asked: {"question": f"What of {asked['response']}?", "noncommittal": 0},
            "useful": lambda asked: {"reason": asked["context"], "verdict": 1},
            "recall": lambda asked: {
                "classifications": [{"statement": asked["answer"], "reason": asked["context"], "attributed": 1}]
            },
        }
        yield server


@pytest.fixture
def open_judged(open_index: OpenIndex, source: Path, tmp_path: Path, server: JudgeServer) -> Any:
    for name in ("alpha", "beta", "gamma", "delta"):
        write(
            source,
            f"{name}.md",
            f"Garage {name} has forty spaces. Its keeper is {CANARY if name == 'beta' else name}.\n",
        )
    models = judge_models(tmp_path, server.address)

    def open_(**judge: Any) -> WarmRuntime:
        return open_index(
            chunking=dict(CHUNKING),
            answers={"models": models, "top_k": 1},
            judge={"model": "judge", "retries": 0, **judge},
        )

    run(open_())
    return open_


def evaluate(runtime: WarmRuntime, folder: Path, questions: list[dict[str, Any]] | None = None) -> EvaluationResult:
    path = folder / "questions.jsonl"
    path.write_text("".join(json.dumps(item) + "\n" for item in questions or QUESTIONS))
    return publishing.evaluate_live(runtime, "default", path, command="test")[0]


def scores(result: EvaluationResult) -> str:
    """The JSON of everything but what the clock decides and what was paid."""
    data = to_json(result)
    for name in (
        "timings",
        "usage",
        "latency",
        "previous",
        "history",
        "created_at",
        "reasons",
        "judge_paid",
        "checks",
        "verdict",
    ):
        data.pop(name)
    return json.dumps(data)


def test_a_second_evaluation_asks_nobody_and_is_the_same_byte_for_byte(
    open_judged: Any, server: JudgeServer, tmp_path: Path
) -> None:
    first = evaluate(open_judged(), tmp_path)
    sent = server.total
    assert sent > 0
    for name in JUDGED:
        assert (first.answers[name].n_valid, first.answers[name].n_total) == (4, 4), name
    assert first.answers["faithfulness"].value == first.answers["context_recall"].value == 1
    assert first.judge is not None
    assert first.judge.answered_by == {"judge": sent}
    assert first.judge.cost_usd == pytest.approx(sent * 0.00012)
    assert first.judge_paid is not None
    assert (first.judge_paid.calls, first.judge_paid.tokens) == (sent, sent * 110)
    assert {"bleu", "rouge_l", "semantic_similarity", "id_context_recall", "token_f1"} <= first.answers.keys()
    second = evaluate(open_judged(replay_only=True, concurrency=1), tmp_path)
    assert server.total == sent
    assert scores(second) == scores(first)
    assert second.judge_paid is not None
    assert second.judge_paid.calls == 0
    assert from_json(to_json(second)) == from_json(json.loads(json.dumps(to_json(second))))


def test_what_is_not_judged_is_counted_named_and_shown(open_judged: Any, server: JudgeServer, tmp_path: Path) -> None:
    server.faults = {"recall": [refuses(500)], "useful": [refuses(429)]}
    result = evaluate(open_judged(concurrency=1), tmp_path)
    score = result.answers["context_recall"]
    assert (score.value, score.n_valid, score.n_total) == (None, 3, 4), "more than 5 % unmeasured: withheld"
    assert result.answers["faithfulness"].value == 1
    lost = {item.id: dict(item.unjudged) for item in result.questions if item.unjudged}
    assert lost == {"q00": {"context_recall": "HTTP 500", "context_precision": "HTTP 429"}}
    path = Path(str(publishing.write_live_report(open_judged(), "default")[1]))
    for page in (path.read_text(), path.with_suffix(".md").read_text().replace("\\", "")):
        assert "Context recall (judged): 1 of 4 not judged: 1 × HTTP 500." in page
        assert "Judged by judge." in page
        assert "Not judged" in page


@pytest.mark.parametrize("renamed", [False, True])
def test_kept_replies_are_forgotten_with_any_document_they_may_quote(
    open_judged: Any, source: Path, tmp_path: Path, renamed: bool
) -> None:
    runtime = open_judged()
    questions = [{**QUESTIONS[1], "question": "Who is the keeper of garage beta?", "answer": CANARY}, QUESTIONS[0]]
    evaluate(runtime, tmp_path, questions)
    assert "rag.judgement" in tables_with(runtime, CANARY)
    before = query(runtime, "SELECT count(*) FROM judgement")[0][0]
    if renamed:
        (source / "beta.md").rename(source / "moved.md")
        run(runtime)
    done = forget(runtime, "default", "moved.md" if renamed else "beta.md")
    assert "rag.judgement" not in tables_with(runtime, CANARY)
    assert 0 < done.removed["judgement"] < before
    assert done.left["judgement"] == 0
    assert query(runtime, "SELECT count(*) FROM judgement")[0][0] == before - done.removed["judgement"]


def test_a_judge_asked_while_its_document_is_forgotten_leaves_nothing(
    open_judged: Any, server: JudgeServer, tmp_path: Path
) -> None:
    runtime, other = open_judged(concurrency=1), open_judged()
    usual, gone = server.replies["statements"], []

    def forgets(asked: dict[str, Any]) -> Any:
        if not gone:
            gone.append(forget(other, "default", "beta.md"))
        return usual(asked)

    server.replies["statements"] = forgets
    evaluate(runtime, tmp_path, [{**QUESTIONS[1], "question": "Who is the keeper of garage beta?"}])
    assert gone
    assert not tables_with(runtime, CANARY) & {"rag.judgement", "rag.judgement_source"}


@pytest.mark.parametrize(
    ("model", "why"), [("absent", "is not among the models"), ("offline-extractive", "can't judge")]
)
def test_a_judge_that_cannot_be_is_refused(open_judged: Any, tmp_path: Path, model: str, why: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"judge\.model = '{model}' {why}"):
        evaluate(open_judged(model=model), tmp_path)


def test_without_a_judge_nobody_is_asked_and_comparisons_can_be_left_out(
    open_judged: Any, open_index: OpenIndex, server: JudgeServer, tmp_path: Path
) -> None:
    result = evaluate(open_index(chunking=dict(CHUNKING), evaluation={"similarity": False}), tmp_path)
    assert not set(JUDGED) & result.answers.keys()
    assert "bleu" not in result.answers
    assert (server.total, result.judge, result.judge_paid) == (0, None, None)
