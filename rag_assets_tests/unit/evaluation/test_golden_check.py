"""The check of a golden set, part by part: what it counts, and what it finds wrong."""

import math
from pathlib import Path

import pytest

from rag_assets.evaluation.golden.coverage import check_coverage
from rag_assets.evaluation.golden.duplicates import check_duplicates
from rag_assets.evaluation.golden.findings import CheckReport, Section
from rag_assets.evaluation.golden.labels import check_labels
from rag_assets.evaluation.golden.leaks import Survey, check_leaks, survey
from rag_assets.evaluation.golden.place import indexed_as
from rag_assets.evaluation.golden.questions import Label, Question, normalise_quote, resolve_labels
from rag_assets.evaluation.golden.size import check_size
from rag_assets.evaluation.golden.wording import copied_run, longest_shared_run, words_of
from rag_assets.settings.model import CollectionSettings
from rag_assets_tests.unit.generation.fakes import embed

LEAVE = "Every parent may take up to fourteen months of parental leave in total, and the rest later."
TEXTS = {
    "hr/leave.md": LEAVE,
    "hr/travel.docx": "Rail tickets are booked in the portal.",
    "menu.txt": "Soup on Tuesdays.",
}


def found(section: Section) -> dict[str, tuple[str, tuple[str, ...]]]:
    return {finding.kind: (finding.severity, finding.instances) for finding in section.findings}


def leave(key: str = "leave", question: str = "How long is parental leave?", **more: object) -> Question:
    values = {"answer": "fourteen months", "relevant": (Label("hr/leave.md", "up to fourteen months"),), **more}
    return Question(key, question, **values)  # type: ignore[arg-type]


def test_labels_that_do_not_hold_are_errors_with_their_reason() -> None:
    wrong = Question("soup", "When?", None, (Label("menu.txt", "Soup on Fridays"), Label("gone.md")))
    questions = [leave(), wrong, Question("none", "Who?")]
    section = check_labels(questions, resolve_labels(questions, TEXTS), {})
    assert section.figures["questions"] == {"measurable": 1, "unmeasured": 1, "unanswerable": 1}
    assert (section.figures["total"], section.figures["valid"]) == (3, 1)
    severity, instances = found(section)["invalid-label"]
    assert severity == "error"
    assert "soup: menu.txt: the quote does not occur in the document: “Soup on Fridays”" in instances
    assert "soup: gone.md: the document is not in the collection" in instances


def test_a_filter_that_excludes_its_labels_is_an_error_and_one_that_excludes_some_a_warning() -> None:
    both = (Label("hr/leave.md"), Label("menu.txt"))
    questions = [leave("all"), leave("some", relevant=both), leave("odd")]
    shut = {"all": ["hr/leave.md"], "some": ["menu.txt"], "odd": "There is no field 'x' to filter by."}
    findings = found(check_labels(questions, resolve_labels(questions, TEXTS), shut))
    assert findings == {
        "filter-excludes-labels": ("error", ("all: hr/leave.md",)),
        "filter-excludes-some": ("warning", ("some: menu.txt",)),
        "unusable-filter": ("error", ("odd: There is no field 'x' to filter by.",)),
    }


def test_coverage_counts_documents_by_type_folder_and_language() -> None:
    questions = [leave(kind="fact", filter={"type": "md"}), Question("none", "Who?")]
    languages = {"hr/leave.md": "english", "hr/travel.docx": "english", "menu.txt": "german"}
    section = check_coverage(questions, resolve_labels(questions, TEXTS), languages)
    figures = section.figures
    assert figures["documents"] == {"total": 3, "asked": 1, "share": 0.3333}
    assert figures["by_type"]["md"] == {"documents": 1, "asked": 1, "share": 1.0}
    assert figures["by_folder"] == {
        "hr": {"documents": 2, "asked": 1, "share": 0.5}, ".": {"documents": 1, "asked": 0, "share": 0.0}
    }  # fmt: skip
    assert figures["by_language"]["german"]["asked"] == 0
    assert figures["never_asked"] == {"count": 2, "documents": ["hr/travel.docx", "menu.txt"]}
    assert figures["questions"] == {
        "with_quotes": 1.0, "with_answers": 1.0, "with_kinds": 0.5, "with_filters": 0.5, "unanswerable": 0.5
    }  # fmt: skip
    assert found(section).keys() == {"little-covered"}
    assert "never asked about (2): hr/travel.docx, menu.txt" in section.lines


def test_what_a_whole_set_lacks_is_a_warning() -> None:
    bare = [
        Question("a", "How long?", None, (Label("hr/leave.md"),)),
        Question("b", "Where?", None, (Label("menu.txt"),)),
    ]
    report = resolve_labels(bare, TEXTS)
    assert found(check_coverage(bare, report, {"hr/leave.md": "english", "menu.txt": "english"})).keys() == {
        "none-unanswerable", "no-quotes", "no-answers"
    }  # fmt: skip


def test_the_names_of_never_asked_documents_are_cut_after_twenty_for_people_only() -> None:
    languages = {f"d{number:02}.md": "english" for number in range(25)}
    section = check_coverage([], resolve_labels([], {}), languages)
    (line,) = [line for line in section.lines if line.startswith("never")]
    assert line.endswith("d19.md … and 5 more")
    assert len(section.figures["never_asked"]["documents"]) == 25


def test_the_same_question_is_a_duplicate_or_a_contradiction() -> None:
    section = check_duplicates(
        [
            leave("a"),
            leave("b", "how LONG is parental-leave"),
            leave("c", answer="two years"),
            leave("d", "Where does one park?", relevant=(Label("hr/leave.md"),)),
            leave("e", "Where does one park?", relevant=(Label("menu.txt"),)),
            leave("f", "Where does one park?", filter={"type": "md"}),
        ],
        embed,
    )
    assert section.figures["same"] == [["a", "b"]]
    assert section.figures["contradicting"] == [
        {"ids": ["a", "c"], "differs": "answers"},
        {"ids": ["b", "c"], "differs": "answers"},
        {"ids": ["d", "e"], "differs": "labels"},
    ]
    assert {kind: severity for kind, (severity, _) in found(section).items()} == {
        "duplicate": "error", "contradiction": "error"
    }  # fmt: skip


def test_a_question_in_nearly_the_same_words_is_a_warning() -> None:
    one, other = "Where can visitors park their cars?", "Where can the visitors park a car?"
    questions = [leave("a", one), leave("b", other), leave("c", "Who cooks the soup?")]
    section = check_duplicates(questions, embed)
    (near,) = section.figures["near"]
    assert near["ids"] == ["a", "b"]
    assert found(section) == {"near-duplicate": ("warning", (f"a, b: {near['similarity']:.3f}",))}
    assert not check_duplicates([leave("a", one), leave("b", other, filter={"type": "md"})], embed).figures["near"]


def test_leaks_are_named_with_their_shares() -> None:
    questions = [
        leave("verbatim", "Every parent may take?"),
        leave("told", "Is parental leave fourteen months or less?"),
        leave("copied", "May every parent take up to fourteen months of parental leave?", answer="Yes",
              relevant=(Label("hr/leave.md", LEAVE),)),
        leave("fine"),
    ]  # fmt: skip
    section = check_leaks(questions, survey(TEXTS.items(), questions), None)
    assert found(section) == {
        "question-in-document": ("warning", ("verbatim: hr/leave.md",)),
        "answer-in-question": ("warning", ("told",)),
        "copied-wording": ("warning", ("copied: “take up to fourteen months of parental leave”",)),
    }
    assert section.figures["copied_from_quote"]["share"] == 0.25


def test_a_name_that_stands_in_documents_is_no_leak() -> None:
    questions = [leave("short", "Rail tickets")]
    assert survey(TEXTS.items(), questions).verbatim == {}


def test_languages_are_told_by_function_words() -> None:
    texts = [("en.md", "This is the text of the law, and it is in force."), ("x.csv", "42;43")]
    texts += [("de.md", "Das ist der Text des Gesetzes, und es ist in Kraft, wie es sein soll.")]
    assert survey(texts, ()).languages == {"en.md": "english", "x.csv": "unknown", "de.md": "german"}


def test_an_indexed_question_file_is_an_error_and_its_lines_no_further_leaks() -> None:
    questions = [leave(str(n), f"What does rule number {n} of the house say?") for n in range(4)]
    copy = " ".join(question.question for question in questions)
    named = check_leaks(questions, survey([("hr/q.jsonl", copy), ("faq.md", copy)], questions), None)
    assert found(named)["questions-indexed"] == ("error", ("hr/q.jsonl",))
    assert named.figures["in_document"]["questions"][0] == {"question": "0", "documents": ["faq.md"]}
    itself = check_leaks(questions, Survey(), "hr/q.jsonl")
    assert found(itself)["questions-indexed"] == ("error", ("hr/q.jsonl",))
    assert "questions-indexed" not in found(check_leaks(questions, survey([("faq.md", copy)], questions), None))


@pytest.mark.parametrize(
    ("name", "uri"),
    [("documents/hr/q.jsonl", "hr/q.jsonl"), ("documents/drafts/q.jsonl", None), ("q.jsonl", None),
     ("documents/.git/q.jsonl", None), ("documents/q.golden", None)],
)  # fmt: skip
def test_where_a_file_would_be_indexed(tmp_path: Path, name: str, uri: str | None) -> None:
    (tmp_path / "documents").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "documents")
    settings = CollectionSettings(source=tmp_path / "link", exclude=("drafts/*",))
    assert indexed_as(settings, tmp_path / name) == uri


def test_the_interval_follows_the_spread_of_the_last_evaluation() -> None:
    scores = [1.0, 1.0, 1.0, 0.6]
    section = check_size(100, scores, "the last evaluation", 0.02)
    assert section.figures["standard_deviation"] == pytest.approx(0.2)
    assert section.figures["half_width"] == pytest.approx(1.96 * 0.2 / 10, abs=1e-4)
    assert section.figures["detectable_difference"] == pytest.approx(1.96 * 0.2 / 10 * math.sqrt(2), abs=1e-4)
    assert section.figures["questions_needed"] == math.ceil((1.96 * 0.2 / 0.02) ** 2)
    assert found(section).keys() == {"too-few"}
    assert not check_size(385, scores, "the last evaluation", 0.02).findings


def test_without_a_spread_the_worst_is_assumed() -> None:
    for scores in ([], [1.0], [1.0, 1.0, 1.0]):
        section = check_size(100, scores, "the last evaluation", 0.02)
        assert section.figures["half_width"] == pytest.approx(1.96 * 0.5 / 10)
        assert section.figures["from_evaluation"] is None
    assert found(check_size(0, [], None, 0.02))["none-measurable"][0] == "error"


def test_runs_are_counted_in_words_and_in_half_words_without_spaces() -> None:
    text = normalise_quote("one two three, four five six seven eight nine")
    assert longest_shared_run(words_of("x two three four y six seven eight nine"), text) == [
        "six",
        "seven",
        "eight",
        "nine",
    ]
    assert copied_run("Is it one two three four five six seven eight?", text) is not None
    assert copied_run("Is it one two three four five six seven?", text) is None
    chinese = "育儿假最长可以休十四个月其余时间以后再休"
    assert copied_run(chinese[:15], chinese) is None
    assert copied_run(chinese[:16], chinese) is not None


def test_a_report_is_sound_without_errors() -> None:
    questions = [leave("a"), leave("b")]
    twice = CheckReport("c", "c#1", Path("q"), 2, (check_duplicates(questions, embed),))
    few = CheckReport("c", "c#1", Path("q"), 2, (check_size(2, [], None, 0.02),))
    assert (twice.sound, few.sound) == (False, True)
    assert [finding["kind"] for finding in twice.as_json()["errors"]] == ["duplicate"]
    assert [finding["kind"] for finding in few.as_json()["warnings"]] == ["too-few"]
    assert few.as_json()["size"]["measurable"] == 2
