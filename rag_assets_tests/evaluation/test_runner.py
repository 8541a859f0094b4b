"""A whole evaluation of a small index, against scores worked out by hand."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from rag_assets.errors import ConfigurationError
from rag_assets.evaluation import publishing, store
from rag_assets.evaluation.result_json import to_json
from rag_assets.evaluation.results import EvaluationResult
from rag_assets_tests.driving import OpenIndex, WarmRuntime, live, query, run, write

Questions = list[dict[str, Any]]

# A fake vector is the sum of its words' vectors, so a question that says a word oftener is nearer to that document.
DOCUMENTS = {"a.md": "alpha alpha alpha", "b.md": "beta beta beta", "c.md": "gamma gamma gamma", "d.md": "delta delta"}
CHUNKING = {"max_tokens": 64, "overlap_tokens": 0, "contextual": False}
RANKING_ABC = "alpha alpha alpha alpha beta beta gamma"


@pytest.fixture
def index(open_index: OpenIndex, source: Path) -> WarmRuntime:
    for name, text in DOCUMENTS.items():
        write(source, name, text + "\n")
    runtime = open_index(chunking=dict(CHUNKING))
    run(runtime)
    return runtime


def question(number: int, text: str, *documents: str, **more: Any) -> dict[str, Any]:
    return {"id": f"q{number:02d}", "question": text, "relevant": [{"document": name} for name in documents], **more}


def evaluate(runtime: WarmRuntime, folder: Path, questions: Questions) -> EvaluationResult:
    path = folder / "questions.jsonl"
    path.write_text("".join(json.dumps(item) + "\n" for item in questions))
    result, _ = publishing.evaluate_live(runtime, "default", path, command="test")
    return result


def scores(result: EvaluationResult, number: int) -> dict[str, float | None]:
    return dict({item.id: item for item in result.questions}[f"q{number:02d}"].scores)


def test_the_ranking_the_scores_below_rely_on(index: WarmRuntime, tmp_path: Path) -> None:
    result = evaluate(index, tmp_path, [question(1, RANKING_ABC, "a.md")])
    assert [hit.document for hit in result.questions[0].retrieved[:3]] == ["a.md", "b.md", "c.md"]


def test_scores_are_those_worked_out_by_hand(index: WarmRuntime, tmp_path: Path) -> None:
    graded = {
        "id": "q04",
        "question": RANKING_ABC,
        "relevant": [{"document": "a.md", "grade": 1}, {"document": "c.md", "grade": 3}],
    }
    result = evaluate(
        index,
        tmp_path,
        [
            question(1, RANKING_ABC, "a.md"),
            question(2, RANKING_ABC, "b.md"),
            question(3, RANKING_ABC, "a.md", "c.md"),
            graded,
        ],
    )
    first, second, third, fourth = (scores(result, number) for number in (1, 2, 3, 4))
    assert (first["ndcg@10"], first["mrr@10"], first["recall@1"], first["precision@1"]) == (1, 1, 1, 1)
    assert second["ndcg@10"] == pytest.approx(1 / math.log2(3))
    assert (second["mrr@10"], second["recall@1"], second["recall@3"], second["precision@3"]) == (
        0.5, 0, 1, pytest.approx(1 / 3)
    )  # fmt: skip
    # a at 1, c at 3: gain 1 + 1/2; the best possible is 1 + 1/log2(3).
    assert third["ndcg@10"] == pytest.approx(1.5 / (1 + 1 / math.log2(3)))
    assert (third["recall@1"], third["recall@3"]) == (0.5, 1)
    assert fourth["ndcg@10"] == pytest.approx((1 + 3 / 2) / (3 + 1 / math.log2(3)))
    mean = sum(item["ndcg@10"] or 0 for item in (first, second, third, fourth)) / 4
    assert result.retrieval["ndcg@10"].value == pytest.approx(mean)
    assert (result.retrieval["ndcg@10"].n_valid, result.retrieval["ndcg@10"].n_total) == (4, 4)
    assert result.retrieval["mrr@10"].value == pytest.approx((1 + 0.5 + 1 + 1) / 4)
    assert result.verdict == "pass"


def test_a_question_whose_labels_do_not_hold_is_unmeasured_and_named(index: WarmRuntime, tmp_path: Path) -> None:
    questions = [question(number, RANKING_ABC, "a.md") for number in range(30)]
    questions.append(question(30, RANKING_ABC, "renamed.md"))
    result = evaluate(index, tmp_path, questions)
    assert set(scores(result, 30).values()) == {None}
    score = result.retrieval["ndcg@10"]
    assert (score.value, score.n_valid, score.n_total) == (1, 30, 31)
    (label,) = result.invalid_labels
    assert (label.question_id, label.document, label.reason) == (
        "q30", "renamed.md", "the document is not in the collection"
    )  # fmt: skip
    assert result.verdict == "pass"


def test_a_quote_that_is_not_in_its_document_does_not_count(index: WarmRuntime, tmp_path: Path) -> None:
    quoted = {"id": "q00", "question": "alpha", "relevant": [{"document": "a.md", "quote": "omega omega"}]}
    result = evaluate(index, tmp_path, [quoted])
    assert [label.reason for label in result.invalid_labels] == ["the quote does not occur in the document"]
    assert result.retrieval["ndcg@10"].n_valid == 0


def test_too_many_unmeasured_questions_withhold_the_score_and_the_verdict(index: WarmRuntime, tmp_path: Path) -> None:
    questions = [question(number, RANKING_ABC, "a.md") for number in range(9)]
    questions.append(question(9, RANKING_ABC, "renamed.md"))
    result = evaluate(index, tmp_path, questions)
    score = result.retrieval["ndcg@10"]
    assert (score.value, score.n_valid, score.n_total) == (None, 9, 10)
    assert result.verdict == "inconclusive"
    assert result.reasons == ("9 of 10 questions could be measured; at least 95 % are needed for a score.",)


def test_a_question_without_an_answer_measures_abstention_not_retrieval(index: WarmRuntime, tmp_path: Path) -> None:
    result = evaluate(index, tmp_path, [question(1, RANKING_ABC, "a.md"), question(2, "omega omega")])
    assert scores(result, 2) == {}
    assert result.retrieval["ndcg@10"].n_total == 1
    asked = {item.id: item for item in result.questions}["q02"]
    assert asked.answer is not None
    assert asked.answer_scores


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("b", ["b.md"]),
        (True, ["c.md"]),
        (7, ["d.md"]),
        ({">=": 7, "<": 8}, ["d.md"]),
        ({"!=": ["a", "b", True]}, ["d.md"]),
    ],
)
def test_a_filter_of_a_question_keeps_its_type_and_its_operators(
    open_index: OpenIndex, source: Path, tmp_path: Path, value: Any, found: list[str]
) -> None:
    facts = {"a.md": "team: a", "b.md": "team: b", "c.md": "team: true", "d.md": "team: 7"}
    for name, fact in facts.items():
        write(source, name, f"---\n{fact}\n---\nalpha beta gamma {name[0]}\n")
    index = open_index()
    run(index)
    result = evaluate(index, tmp_path, [question(1, "alpha", found[0], filter={"team": value})])
    assert [hit.document for hit in result.questions[0].retrieved] == found


def test_without_questions_the_index_itself_is_judged(index: WarmRuntime) -> None:
    result, _ = publishing.evaluate_live(index, "default", None, command="test")
    assert (result.verdict, result.questions, result.retrieval) == ("pass", (), {})
    assert result.ann_recall is not None
    assert (result.ann_recall.n, result.ann_recall.mean) == (4, 1)
    assert "no golden questions" in result.reasons[0]


def test_a_missing_question_file_is_refused_by_name(index: WarmRuntime, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"nowhere\.jsonl can't be read"):
        publishing.evaluate_live(index, "default", tmp_path / "nowhere.jsonl", command="test")


def test_a_damaged_index_fails_whatever_its_scores(index: WarmRuntime, tmp_path: Path) -> None:
    query(index, "DELETE FROM index_entry WHERE payload ->> 'document' = 'd.md'")
    result = evaluate(index, tmp_path, [question(1, RANKING_ABC, "a.md")])
    assert result.verdict == "fail"
    assert result.reasons == (
        "1 chunks are missing, 0 documents are out of date and 0 have lost chunks.",
        "1 chunks have no posting lists, other ones than their text gives, or are only in those.",
    )


def test_a_budget_that_is_not_met_fails(open_index: OpenIndex, index: WarmRuntime, tmp_path: Path) -> None:
    strict = open_index(chunking=dict(CHUNKING), gates={"search_p95_seconds": 1e-9})
    result = evaluate(strict, tmp_path, [question(1, RANKING_ABC, "a.md")])
    assert result.verdict == "fail"
    assert [check.name for check in result.checks if check.passed is False] == ["search_p95"]


def scores_file(runtime: WarmRuntime, folder: Path, questions: Questions) -> bytes:
    """``scores.json`` of a new evaluation."""
    (folder / "again.jsonl").write_text("".join(json.dumps(item) + "\n" for item in questions))
    _, report = publishing.evaluate_live(runtime, "default", folder / "again.jsonl", command="test")
    return report.with_name("scores.json").read_bytes()


def test_the_scores_of_two_runs_are_byte_for_byte_equal(
    open_index: OpenIndex, index: WarmRuntime, tmp_path: Path
) -> None:
    questions = [
        question(1, RANKING_ABC, "a.md", answer="alpha", kind="fact"),
        question(2, RANKING_ABC, "b.md", "c.md", answer="beta", kind="hop"),
        question(3, "omega", kind="none"),
        question(4, "alpha", "renamed.md"),
        question(5, "alpha", "gone.md"),
    ]
    first = scores_file(index, tmp_path, questions)  # it has nothing to be compared with
    # Another runtime, other limits on time, another order.
    again = open_index(chunking=dict(CHUNKING), gates={"search_p95_seconds": 1e-9})
    assert scores_file(again, tmp_path, questions[::-1]) == first
    assert json.loads(first)["questions"][0]["scores"]["ndcg@10"] == 1
    # A setting of today that decides nothing here, but might: it is noted.
    other = open_index(chunking=dict(CHUNKING), retrieval={"rerank_depth": 29}, lexical={"k1": 1.4})
    noted, before = (json.loads(data)["fingerprint"] for data in (scores_file(other, tmp_path, questions), first))
    assert {name for name in noted if noted[name] != before[name]} == {"retrieval", "bm25"}


def test_what_the_gates_measured_in_two_steps_has_the_scores_of_one_on_request(
    open_index: OpenIndex, source: Path, tmp_path: Path
) -> None:
    for name, text in DOCUMENTS.items():
        write(source, name, text + "\n")
    # precision@3 of the slice is 4/15: its sixth decimal is another if the thirds are rounded before.
    asked = [question(n, RANKING_ABC, "a.md" if n else "d.md", answer="alpha", kind="fact") for n in range(5)]
    file = tmp_path / "questions.jsonl"
    file.write_text("".join(json.dumps(item) + "\n" for item in asked))
    gated = open_index(chunking=dict(CHUNKING), collection={"questions": file})
    run(gated)
    report = store.latest_report(gated, "default")
    assert report is not None
    scores = Path(report).with_name("scores.json").read_bytes()
    assert json.loads(scores)["by_slice"]["kind"]["fact"]["precision@3"]["value"] == pytest.approx(4 / 15, abs=1e-5)
    assert scores_file(gated, tmp_path, asked) == scores


def test_a_stored_evaluation_comes_back_as_it_was(index: WarmRuntime, tmp_path: Path) -> None:
    result = evaluate(index, tmp_path, [question(1, RANKING_ABC, "a.md", answer="alpha")])
    _, stored = store.latest(index, live(index))
    assert to_json(stored) == to_json(result)


def test_a_second_evaluation_shows_the_first_and_the_trend(index: WarmRuntime, source: Path, tmp_path: Path) -> None:
    questions = [question(number, RANKING_ABC, "a.md") for number in range(4)]
    first = evaluate(index, tmp_path, questions)
    assert first.previous is None
    assert len(first.history) == 1
    write(source, "better.md", RANKING_ABC + "\n")  # pushes a.md to the second place
    run(index)
    second = evaluate(index, tmp_path, questions)
    assert second.previous is not None
    assert second.previous.generation == "default#1"
    assert second.previous.retrieval["ndcg@10"].value == 1
    loss = 1 / math.log2(3) - 1
    assert second.previous.differences["ndcg@10"].value == pytest.approx(loss, abs=1e-6)
    assert [point.ndcg_at_10 for point in second.history] == [1, pytest.approx(1 + loss, abs=1e-6)]
    assert second.verdict == "fail"
    assert second.reasons[0].startswith("nDCG@10 is -0.369 against default#1")


def test_evaluations_of_other_questions_are_not_compared(index: WarmRuntime, tmp_path: Path) -> None:
    evaluate(index, tmp_path, [question(1, RANKING_ABC, "a.md")])
    result = evaluate(index, tmp_path, [question(1, RANKING_ABC, "b.md")])
    assert result.previous is None
    assert len(result.history) == 1


def test_the_live_generation_is_not_compared_with_a_refused_one(
    open_index: OpenIndex, index: WarmRuntime, tmp_path: Path
) -> None:
    questions = [question(number, RANKING_ABC, "a.md") for number in range(4)]
    evaluate(index, tmp_path, questions)
    # Another generation over the same questions, refused for its speed.
    refused = open_index(
        chunking=dict(CHUNKING),
        index={"m": 8},
        gates={"search_p95_seconds": 1e-9},
        collection={"questions": tmp_path / "questions.jsonl"},
    )
    assert run(refused).refused is not None
    result = evaluate(index, tmp_path, questions)
    assert result.previous is not None
    assert result.previous.generation == "default#1"


def test_answers_are_given_for_a_fixed_sample(open_index: OpenIndex, index: WarmRuntime, tmp_path: Path) -> None:
    questions = [question(number, RANKING_ABC, "a.md", answer="alpha") for number in range(8)]
    few = open_index(chunking=dict(CHUNKING), evaluation={"answer_questions": 3})
    first = {item.id for item in evaluate(few, tmp_path, questions).questions if item.answer is not None}
    second = {item.id for item in evaluate(few, tmp_path, questions[::-1]).questions if item.answer is not None}
    assert len(first) == 3
    assert first == second
