"""The report: complete, self-contained, safe against its own documents, and never half-written."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from rag_assets.errors import RagAssetsError
from rag_assets.evaluation.golden.questions import InvalidLabel, Label
from rag_assets.evaluation.latency import AnnRecall
from rag_assets.evaluation.metrics.statistics import Score
from rag_assets.evaluation.report.page import write_report
from rag_assets.evaluation.result_json import from_json, scores_json, to_json
from rag_assets.evaluation.results import (
    Check,
    Citation,
    EvaluationResult,
    HistoryPoint,
    JudgePaid,
    Judging,
    QuestionResult,
    RetrievedPassage,
)

from .fixtures import realistic_benchmark, realistic_result

_VOID = {"meta", "img", "br", "link", "hr", "input"}
EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'><a href='javascript:alert(3)'>|`${{7*7}}`</a>"


class Page(HTMLParser):
    """Tags, attributes and texts of a page; fails on tags that are closed in the wrong order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.headings: list[str] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open, f"never closed: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in _VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] == "h2":
            self.headings.append(data)
        if self._open and self._open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def evil_result() -> EvaluationResult:
    """Every string that can come from a document, a file name or a model is hostile."""
    result = realistic_result(4)
    item = QuestionResult(
        id=EVIL,
        question=EVIL,
        kind=EVIL,
        relevant=(Label(EVIL, EVIL),),
        scores={"ndcg@10": 0.0, "recall@10": 0.0},
        retrieved=(RetrievedPassage(1, EVIL, EVIL, EVIL, 0.5, False),),
        answer=EVIL,
        gold_answer=EVIL,
        citations=(Citation(EVIL, EVIL, EVIL),),
        answer_scores={"answer_contained": 1.0, "citation_correctness": 1.0, "citation_support": 1.0},
        milliseconds={EVIL: 5.0},
        error=EVIL,
    )
    return replace(
        result,
        collection=EVIL,
        generation=EVIL,
        created_at=EVIL,
        command=EVIL,
        reasons=(EVIL,),
        fingerprint={EVIL: {EVIL: EVIL}},
        questions=(item, *result.questions),
        by_slice={EVIL: {EVIL: {"ndcg@10": Score(0.5, 0.4, 0.6, 2, 2)}}},
        latency={EVIL: result.latency["search"]},
        checks=(Check(EVIL, False, 0.0, 1.0, EVIL),),
        benchmark=realistic_benchmark(EVIL),
        invalid_labels=(InvalidLabel(EVIL, EVIL, EVIL, EVIL),),
        history=(HistoryPoint(EVIL, EVIL, 0.5, 1.0), HistoryPoint(EVIL, EVIL, None, None)),
    )


def written(result: EvaluationResult, folder: Path) -> Page:
    return Page(write_report(result, folder).read_text(encoding="utf-8"))


def test_the_report_says_everything_in_order(tmp_path: Path) -> None:
    page = written(realistic_result(), tmp_path)
    assert page.headings == [
        "Requirements",
        "Quality",
        "Speed",
        "Speed under load",
        "Trend",
        "Where it fails: the 10 weakest questions",
        "Where it works: some good answers",
        "What could not be measured",
        "How to read the numbers",
        "How to repeat this",
    ]
    said = page.text
    order = [
        "pass This index is good enough to serve: ",
        "Every floor and every budget is met.",
        "nDCG@10",
        "Requirements",
    ]
    positions = [said.index(part, said.index("pass This")) for part in order]
    assert positions == sorted(positions)
    for part in (
        "119 of 120 questions",
        "before: ",
        "): better",
        "met",
        "undecided",
        "pptx",
        "multi-hop",
        "excellent",
        "the quote does not occur in the document",
        "The answer model did not reply within 30 s.",
        "rag-assets evaluate --collection handbook",
        "chunker.max_tokens",
        "0.9923",
        "cold: new connection",
        "99.1 %",
        "55.5 tokens a second",
        "1 failed: The model replied too late.",
        "First failure with 4 clients: The model replied too late.",
        "Failed searches (cold): 1.",
    ):
        assert part in said, part


def test_the_three_files_are_written_and_the_page_is_returned(tmp_path: Path) -> None:
    result = realistic_result(20)
    page = write_report(result, tmp_path / "new" / "folder")
    assert page == tmp_path / "new" / "folder" / "report.html"
    assert sorted(path.name for path in page.parent.iterdir()) == [
        "evaluation.json", "report.html", "report.md", "scores.json"
    ]  # fmt: skip
    written = {
        name: json.loads((page.parent / f"{name}.json").read_text(encoding="utf-8"))
        for name in ("scores", "evaluation")
    }
    assert written == {"scores": scores_json(result), "evaluation": to_json(result, str(page))}


def test_the_page_needs_nothing_from_elsewhere(tmp_path: Path) -> None:
    page = written(realistic_result(20), tmp_path)
    assert not {"script", "link", "iframe", "object", "base"} & set(page.tags)
    sources = [value for name, value in page.attributes if name in ("src", "href", "srcset", "data", "action")]
    assert len(sources) == 5
    assert all(value.startswith("data:image/svg+xml;base64,") for value in sources)
    style = (tmp_path / "report.html").read_text(encoding="utf-8").split("<style>")[1].split("</style>")[0]
    assert "@import" not in style
    assert "url(" not in style
    assert "prefers-color-scheme: dark" in style
    assert "@media print" in style
    assert any("default-src 'none'" in value for _, value in page.attributes)


def test_nothing_from_a_document_becomes_markup(tmp_path: Path) -> None:
    page = written(evil_result(), tmp_path)
    assert "script" not in page.tags
    assert "a" not in page.tags
    assert page.tags.count("img") == 5  # The plots.
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    # … and yet it is all there to be read.
    assert page.text.count("<script>alert(1)</script>") > 20


def test_markdown_from_a_document_stays_text(tmp_path: Path) -> None:
    import markdown

    write_report(evil_result(), tmp_path)
    source = (tmp_path / "report.md").read_text(encoding="utf-8")
    rendered = Page(f"<main>{markdown.markdown(source, extensions=['tables'])}</main>")
    assert not {"script", "img", "a"} & set(rendered.tags)
    tables = [table.splitlines() for table in source.split("\n\n") if table.startswith("|")]
    assert len(tables) >= 9
    for table in tables:
        # A cell border is a "|" that no backslash escapes.
        assert len({len(re.findall(r"(?<!\\)\|", row)) for row in table}) == 1, table[0]


@pytest.mark.parametrize("verdict", ["pass", "fail", "inconclusive"])
def test_the_verdict_comes_first_in_one_sentence(tmp_path: Path, verdict: str) -> None:
    result = replace(
        realistic_result(20),
        verdict=verdict,  # type: ignore[arg-type]
        checks=(Check("speed", verdict != "fail", 2.0, 1.0, "Too slow."),),
    )
    said = written(result, tmp_path).text
    expected = {
        "pass": "This index is good enough to serve: a relevant document is among the first ten results for",
        "fail": "This index must not go live: 1 of 1 requirements are not met; a relevant document",
        "inconclusive": "This evaluation does not allow a verdict; a relevant document",
    }[verdict]
    assert expected in said
    assert said.index(expected) < said.index("Requirements")


def test_a_withheld_score_is_shown_as_withheld_with_its_counts(tmp_path: Path) -> None:
    result = replace(realistic_result(20), retrieval={"ndcg@10": Score(None, None, None, 12, 20)})
    said = written(result, tmp_path).text
    assert "withheld: only 12 of 20 questions measured" in said
    assert "withheld, 12/20" in said


def test_an_evaluation_without_questions_still_makes_a_report(tmp_path: Path) -> None:
    bare = EvaluationResult(
        collection="c",
        generation="c-0001",
        created_at="2026-11-21T00:00:00+00:00",
        command="rag-assets evaluate",
        verdict="inconclusive",
        reasons=("There are no questions.",),
        fingerprint={},
        questions=(),
        retrieval={},
    )
    page = written(bare, tmp_path)
    assert page.headings == ["Requirements", "Quality", "How to read the numbers", "How to repeat this"]
    assert "This evaluation does not allow a verdict." in page.text
    assert "not measured" not in page.text
    assert "Abstention" not in page.text  # what only questions have is not explained
    assert "img" not in page.tags


def test_without_questions_the_key_figure_is_what_the_index_finds(tmp_path: Path) -> None:
    recall = AnnRecall(n=200, mean=0.987, p05=0.9, min=0.7)
    bare = replace(realistic_result(4), questions=(), retrieval={}, answers={}, latency={}, ann_recall=recall)
    page = written(bare, tmp_path)
    assert "Index recall@10 0.987 of what exact search finds; 200 queries" in " ".join(page.text.split())
    assert "Search p95" not in page.text


def test_a_result_read_back_from_json_in_any_key_order_makes_the_same_page(tmp_path: Path) -> None:
    result = from_json(to_json(realistic_result(20)))
    shuffled = json.loads(json.dumps(to_json(result)), object_pairs_hook=lambda pairs: dict(reversed(pairs)))
    first = write_report(result, tmp_path / "a").read_bytes()
    second = write_report(from_json(shuffled), tmp_path / "b").read_bytes()
    assert first == second


def test_undecodable_and_control_characters_do_not_stop_the_report(tmp_path: Path) -> None:
    result = realistic_result(4)
    item = replace(result.questions[3], scores={"ndcg@10": 0.0}, question="bell \x07 and half a pair \ud800")
    page = write_report(replace(result, questions=(item,)), tmp_path)
    text = page.read_text(encoding="utf-8")
    assert "\x07" not in text
    assert "bell \ufffd and half a pair \\ud800" in text
    assert json.loads((tmp_path / "scores.json").read_bytes())["questions"][0]["question"] == item.question


def test_a_failed_write_leaves_the_old_report_whole_and_nothing_behind(tmp_path: Path) -> None:
    page = write_report(realistic_result(4), tmp_path)
    before = page.read_bytes()
    (tmp_path / "report.md").unlink()
    (tmp_path / "report.md").mkdir()
    (tmp_path / "report.md" / "in the way").touch()
    with pytest.raises(RagAssetsError, match=r"can't be written to .*writable"):
        write_report(realistic_result(8), tmp_path)
    assert page.read_bytes() == before
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_someone_reading_the_old_report_reads_it_to_the_end(tmp_path: Path) -> None:
    page = write_report(realistic_result(4), tmp_path)
    before = page.read_bytes()
    with page.open("rb") as reader:
        write_report(realistic_result(8), tmp_path)
        assert reader.read() == before
    assert page.read_bytes() != before


def test_long_lists_are_cut_and_say_so(tmp_path: Path) -> None:
    labels = tuple(InvalidLabel(f"q{number}", "gone.md", None, "gone") for number in range(80))
    said = written(replace(realistic_result(4), invalid_labels=labels), tmp_path).text
    assert "Labels that no longer hold (80)" in said
    assert "The first 50 are shown; scores.json has all of them." in said
    assert "q79" not in said


def test_an_answer_to_an_unanswerable_question_is_no_good_example(tmp_path: Path) -> None:
    item = QuestionResult(
        "u", "Unanswerable?", answer="It was Ann.", citations=(Citation("d", "c", "Ann"),),
        answer_scores={"abstention_correct": 0.0},
    )  # fmt: skip
    page = written(replace(realistic_result(4), questions=(item,)), tmp_path)
    assert "Where it works: some good answers" not in page.headings


def test_what_a_judge_cost_and_could_not_judge_is_said(tmp_path: Path) -> None:
    result = realistic_result()
    reasons = ["timeout", "invalid JSON", "timeout"]
    questions = [
        replace(
            item,
            answer_scores={**item.answer_scores, "faithfulness": None if number < 3 else 1.0},
            unjudged={"faithfulness": reasons[number]} if number < 3 else {},
        )
        for number, item in enumerate(result.questions)
    ]
    judging = Judging("big", 3, {"big": 700, "small": 1}, 12345, 678, 0.5, {"faithfulness": 0.25})
    judged = replace(result, questions=tuple(questions), judge=judging, judge_paid=JudgePaid(2, 220, 0.25))
    page = write_report(judged, tmp_path)
    Page(page.read_text())
    for text in (page.read_text(), page.with_suffix(".md").read_text()):
        for line in (
            "Faithfulness (judged): 3 of 120 not judged: 2 × timeout, 1 × invalid JSON.",
            "Judged by big. Replies: 700 of big, 1 of small; 12,345 tokens read and 678 written for 0.5000 USD.",
            "This run itself sent 2 requests: 220 tokens, 0.2500 USD.",
            "Each was judged 3 times; the judgements of one question lie apart by, on average: Faithfulness (judged) 0.250.",
        ):
            assert line in text
    assert from_json(to_json(judged)) == from_json(json.loads((tmp_path / "evaluation.json").read_text()))
    assert "not judged" not in write_report(result, tmp_path).read_text().lower()
