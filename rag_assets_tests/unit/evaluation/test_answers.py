"""Reference metrics of answers, against the SQuAD definitions and by hand."""

import pytest

from rag_assets.evaluation.golden.questions import Label, Question
from rag_assets.evaluation.metrics.answers import (
    answer_contains,
    citation_correctness,
    citation_support,
    exact_match,
    normalise_answer,
    score_answer,
    token_f1,
)
from rag_assets.evaluation.results import Citation

LABEL = Label("leave.md")
QUESTION = Question("1", "How long?", "26 weeks", (LABEL,))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The  Cat, sat!", "cat sat"),
        ("an apple a day", "apple day"),
        ("theatre", "theatre"),
        ("U.S.", "us"),
        ("«Größe» – 3 m", "größe 3 m"),
        ("丹佛野马队。", "丹 佛 野 马 队"),
        ("¿Cuántos?", "cuántos"),
    ],
)
def test_answers_are_normalised_as_squad_does_for_every_script(text: str, expected: str) -> None:
    assert normalise_answer(text) == expected


def test_exact_match_ignores_what_normalisation_removes() -> None:
    assert exact_match("The 26 weeks.", "26 Weeks") == 1
    assert exact_match("26 weeks long", "26 weeks") == 0


@pytest.mark.parametrize(
    ("answer", "gold", "expected"),
    [
        ("26 weeks", "26 weeks", 1.0),
        # 2 of 5 answer tokens and 2 of 2 gold tokens: 2 · 0.4 · 1 / 1.4.
        ("it is 26 weeks long", "26 weeks", 0.8 / 1.4),
        # A bag: the second "x" of the answer finds no partner.
        ("x x", "x y", 0.5),
        ("nothing shared", "26 weeks", 0.0),
        ("", "26 weeks", 0.0),
        ("the", "a", 1.0),
        ("野马", "野马队", 0.8),
    ],
)
def test_token_f1_equals_hand_computed_values(answer: str, gold: str, expected: float) -> None:
    assert token_f1(answer, gold) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("answer", "gold", "expected"),
    [
        ("Parents get 26 weeks.", "26 Weeks", 1),
        ("It was 1308 points", "308", 0),
        ("in Santa Clara/California", "Santa Clara", 1),
        ("about twenty-four hours", "twenty-four", 1),
        ("about twenty four hours", "twenty-four", 1),
        ("10,000 people", "10,000", 1),
        ("防守丢了308分", "308 分", 1),
        ("防守丢了1308分", "308 分", 0),
        ("丹佛野马队赢了", "野马队", 1),
        ("anything", "The", None),
    ],
)
def test_containment_is_of_whole_words(answer: str, gold: str, expected: float | None) -> None:
    assert answer_contains(answer, gold) == expected


def test_citations_are_judged_by_document_and_by_words() -> None:
    right = Citation("leave.md", "c1", "26 weeks")
    invented = Citation("leave.md", "c1", "30 weeks")
    elsewhere = Citation("other.md", "c2", "26 weeks")
    unseen = Citation("leave.md", "c9", "26 weeks")
    passages = {"c1": "up to 26\nWeeks", "c2": "26 weeks"}
    assert citation_correctness([right, invented, elsewhere], {"leave.md": 1.0, "other.md": 0.0}) == pytest.approx(
        2 / 3
    )
    assert citation_support([right, invented, elsewhere, unseen], passages) == 0.5
    assert citation_correctness([], {"leave.md": 1.0}) == 0
    assert citation_support([], passages) == 0


def test_a_good_answer_scores_on_everything_that_applies() -> None:
    citations = [Citation("leave.md", "c1", "26 weeks")]
    assert score_answer(QUESTION, "26 weeks", citations=citations, passages={"c1": "26 weeks"}) == {
        "answered": 1,
        "answer_contained": 1,
        "exact_match": 1,
        "token_f1": 1,
        "citation_correctness": 1,
        "citation_support": 1,
    }


def test_abstaining_where_there_is_an_answer_is_wrong() -> None:
    assert score_answer(QUESTION, "I can't find 26 weeks in the documents.", abstained=True) == {
        "answered": 0,
        "answer_contained": 0,
        "exact_match": 0,
        "token_f1": 0,
    }


def test_abstaining_is_all_that_counts_where_there_is_no_answer() -> None:
    unanswerable = Question("2", "Who?", "n/a")
    assert score_answer(unanswerable, "Nobody knows.", abstained=True) == {"abstention_correct": 1}
    assert score_answer(unanswerable, "It was Ann.", abstained=False) == {"abstention_correct": 0}


def test_a_failed_answer_is_unmeasured_on_everything_that_applies() -> None:
    assert score_answer(QUESTION, None) == dict.fromkeys(score_answer(QUESTION, "26 weeks"))
    assert score_answer(Question("2", "Who?"), None) == {"abstention_correct": None}


def test_long_gold_answers_are_not_expected_word_for_word() -> None:
    explained = Question("1", "Why?", "because " * 21, (LABEL,))
    assert score_answer(explained, "because").keys() == {
        "answered",
        "token_f1",
        "citation_correctness",
        "citation_support",
    }
    assert "answer_contained" in score_answer(Question("1", "Why?", "because " * 20, (LABEL,)), "because")


def test_without_a_gold_answer_only_citations_and_answering_count() -> None:
    scores = score_answer(Question("1", "Why?", None, (LABEL,)), "because")
    assert scores.keys() == {"answered", "citation_correctness", "citation_support"}
