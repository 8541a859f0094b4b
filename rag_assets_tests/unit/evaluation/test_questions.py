"""Golden questions: what is read, what is refused and how, and which labels still hold."""

from pathlib import Path

import pytest

from rag_assets.errors import ConfigurationError
from rag_assets.evaluation.golden.questions import (
    Label,
    Question,
    load_questions,
    question_set_hash,
    quote_in,
    resolve_labels,
)


def write(folder: Path, *lines: str | bytes) -> Path:
    path = folder / "questions.jsonl"
    path.write_bytes(b"\n".join(line if isinstance(line, bytes) else line.encode() for line in lines))
    return path


def complaint(path: Path) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load_questions(path)
    return str(caught.value)


def test_every_field_is_read_and_unknown_ones_are_ignored(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        '{"id": "a", "question": "How long?", "answer": "26 weeks", "kind": "fact", "filter": {"type": "md"},'
        ' "by": "x", "relevant": [{"document": "leave.md", "quote": "26 weeks", "span": [1, 2]},'
        ' {"document": "b.md", "grade": 0.5}]}',
        "",
        '{"id": 7, "question": "Who?", "relevant": []}',
    )
    assert load_questions(path) == (
        Question(
            "a",
            "How long?",
            "26 weeks",
            (Label("leave.md", "26 weeks"), Label("b.md", None, 0.5)),
            {"type": "md"},
            "fact",
        ),
        Question("7", "Who?"),
    )


def test_a_byte_order_mark_windows_line_ends_and_line_separators_in_strings_are_tolerated(tmp_path: Path) -> None:
    path = write(
        tmp_path, b"\xef\xbb\xbf" + '{"id": "1", "question": "a\u2028b", "relevant": []}\r'.encode(), b"\r", b""
    )
    assert [question.question for question in load_questions(path)] == ["a\u2028b"]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("{oops", "line 2: not valid JSON: "),
        ("[1]", "line 2: [1]: Input should be an object"),
        (b'{"id": "2", "question": "\xff"}', "line 2: not valid JSON: "),
        ('{"id": "2", "question": "q\\ud800", "relevant": []}', "line 2: not valid JSON: "),
        ('{"id": "2", "question": "q"}', "line 2: relevant: is required but missing"),
        ('{"question": "q", "relevant": []}', "line 2: id: is required but missing"),
        ('{"id": "2", "question": " ", "relevant": []}', "line 2: question = ' ': must not be empty"),
        ('{"id": "2", "question": "q\\u0000", "relevant": []}', "must not contain the NUL character"),
        ('{"id": "2", "question": "q", "relevant": [{}]}', "line 2: relevant.0.document: is required but missing"),
        ('{"id": "2", "question": "q", "relevant": [{"document": "d", "quote": ""}]}', "relevant.0.quote = ''"),
        ('{"id": "2", "question": "q", "relevant": [{"document": "d", "grade": -1}]}', "relevant.0.grade = -1"),
        ('{"id": "2", "question": "q", "relevant": [{"document": "d", "grade": NaN}]}', "relevant.0.grade = nan"),
        ('{"id": "2", "question": "q", "relevant": [], "filter": 3}', "line 2: filter = 3: "),
        ('{"id": "2", "question": "q", "relevant": [], "filter": {"a": {"~": 1}}}', "no operator '~'"),
        ('{"id": "1", "question": "q", "relevant": []}', "line 2: id = '1': already used in line 1"),
    ],
)
def test_a_wrong_line_is_refused_with_file_line_field_and_value(
    tmp_path: Path, line: str | bytes, expected: str
) -> None:
    path = write(tmp_path, '{"id": "1", "question": "q", "relevant": []}', line)
    message = complaint(path)
    assert expected in message
    assert str(path) in message
    assert "1 problem(s)" in message


def test_long_values_and_many_problems_are_cut_but_counted(tmp_path: Path) -> None:
    lines = [f'{{"id": "{number}", "question": "{"x" * 20_000}", "relevant": []}}' for number in range(30)]
    message = complaint(write(tmp_path, *lines))
    assert "30 problem(s)" in message
    assert "… and 10 more" in message
    assert len(message) < 5_000


@pytest.mark.parametrize("content", ["", "\n \n", "\ufeff"])
def test_a_file_without_questions_is_refused(tmp_path: Path, content: str) -> None:
    assert "holds no question" in complaint(write(tmp_path, content))


def test_a_missing_file_is_refused_with_its_name(tmp_path: Path) -> None:
    assert f"{tmp_path / 'none.jsonl'} can't be read" in complaint(tmp_path / "none.jsonl")


def test_the_hash_of_a_set_ignores_order_but_no_content() -> None:
    first, second = Question("1", "a", relevant=(Label("d"),)), Question("2", "b", "gold")
    base = question_set_hash([first, second])
    assert question_set_hash([second, first]) == base
    changed = [
        Question("1", "a", relevant=(Label("d", "q"),)),
        Question("1", "a", relevant=(Label("d", None, 2.0),)),
        Question("1", "a", relevant=(Label("e"),)),
        Question("1", "a", relevant=(Label("d"),), filter={"x": 1}),
        Question("1", "a", relevant=(Label("d"),), kind="k"),
        Question("1", "A", relevant=(Label("d"),)),
    ]
    hashes = {question_set_hash([question, second]) for question in changed}
    assert len(hashes) == len(changed)
    assert base not in hashes


@pytest.mark.parametrize(
    ("quote", "text", "expected"),
    [
        ("26 weeks", "up to 26\n   WEEKS of leave", True),
        ("Straße", "STRASSE", True),
        ("office", "o\ufb03ce", True),
        ("cafe\u0301", "café", True),
        ("a\u00a0b", "a b", True),
        ("27 weeks", "26 weeks", False),
        ("", "anything", False),
        (" \n", "anything", False),
    ],
)
def test_quotes_are_compared_without_case_white_space_and_ligatures(quote: str, text: str, expected: bool) -> None:
    assert quote_in(quote, text) is expected


def test_labels_that_no_longer_hold_are_listed_and_never_scored() -> None:
    whole = Question("whole", "?", relevant=(Label("a.md", "alpha beta"),))
    partly = Question("partly", "?", relevant=(Label("a.md"), Label("gone.md", "x")))
    lost = Question("lost", "?", relevant=(Label("a.md", "no such words"), Label("gone.md")))
    not_relevant = Question("not relevant", "?", relevant=(Label("a.md", None, 0.0),))
    nothing = Question("nothing", "?")
    report = resolve_labels([whole, partly, lost, not_relevant, nothing], {"a.md": "Alpha\nBeta gamma"})
    assert [question.id for question in report.measurable] == ["whole", "partly"]
    assert report.measurable[1].relevant == (Label("a.md"),)
    assert report.unmeasured == (lost, not_relevant)
    assert report.unanswerable == (nothing,)
    assert [(label.question_id, label.document, label.reason) for label in report.invalid] == [
        ("partly", "gone.md", "the document is not in the collection"),
        ("lost", "a.md", "the quote does not occur in the document"),
        ("lost", "gone.md", "the document is not in the collection"),
    ]


def test_a_document_labelled_twice_has_its_best_grade() -> None:
    labels = (Label("d", "a", 1.0), Label("d", "b", 3.0), Label("d", "c", 2.0), Label("e", None, 0.0))
    assert Question("1", "?", relevant=labels).grades == {"d": 3.0, "e": 0.0}


def test_a_draft_is_no_golden_question_until_a_person_accepts_it(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        '{"id": "a", "question": "Who?", "relevant": [], "draft": false}',
        '{"id": "d", "question": "Why?", "relevant": [], "draft": true}',
    )
    assert "line 2: id = 'd': is a draft; accept it with `rag-assets questions accept`" in complaint(path)
    assert [question.id for question in load_questions(path, drafts=True)] == ["a", "d"]
