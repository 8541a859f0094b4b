"""The sentence splitter."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_assets.chunking.sentences import sentence_spans


def sentences(text: str) -> list[str]:
    return [text[start:end] for start, end in sentence_spans(text)]


@pytest.mark.parametrize(
    "expected",
    [
        ["It rained.", "Nobody came!", "Why?", "Who knows…", "Not me."],
        ["Dr. Smith met Mrs. Jones.", "They spoke."],
        ["Take fruit, e.g. apples, i.e. Malus domestica.", "Then rest."],
        ["J. R. R. Tolkien wrote it.", "He lived in the U.S. Army barracks."],
        ["It costs 3.5 dollars in version 2.0.1 today.", "See fig. 3 and no. 5 there."],
        ["He said no.", "Then he left in 1999.", "Nobody cared."],
        ["1. Open the lid.", "2. Close it."],
        ['"Will it end?" she asked.', 'He said "yes."', "(It did.)", "Good."],
        ["Bradley et al. 2003 found it.", "It ran on Node.js and example.com there."],
        ["¿Qué es esto?", "¡Nada!", "El Sr. García lo sabe."],
        ["Das kostet ca. 5 Euro, z. B. heute.", "Danach nicht."],
        ["यह एक वाक्य है।", "यह दूसरा है।"],
        ["هل هذا صحيح؟", "نعم."],
        ["Он пришёл.", "Она ушла."],
    ],
)
def test_sentences_end_where_a_reader_ends_them(expected: list[str]) -> None:
    assert sentences(" ".join(expected)) == expected


@pytest.mark.parametrize(
    "expected",
    [
        ["在英国，药房技术员被认为是专业人员。", "他们工作！", "“好吗？”", "是的"],
        ["これはペンです。", "「本当？」", "はい。"],
        ["注册为 GPhC.", "是管理机构。"],
        ["यह एक।", "यह दूसरा।"],
    ],
)
def test_scripts_without_spaces_are_split_after_their_punctuation(expected: list[str]) -> None:
    assert sentences("".join(expected)) == expected


def test_a_line_break_ends_a_sentence_unless_the_next_line_goes_on_in_lower_case() -> None:
    assert sentences("First item\nSecond item\n\nthird item") == ["First item", "Second item", "third item"]
    assert sentences("A sentence that is\nwrapped by hand.") == ["A sentence that is\nwrapped by hand."]


def test_empty_and_blank_texts_have_no_sentences() -> None:
    assert sentence_spans("") == sentence_spans(" \n\t ") == []


@given(st.text(st.sampled_from("aB1 .!?\n\"')。？漢é…:")))
def test_spans_are_in_order_trimmed_and_hold_every_non_space_character(text: str) -> None:
    spans = sentence_spans(text)
    assert all(text[start:end] == text[start:end].strip() != "" for start, end in spans)
    assert all(before[1] <= after[0] for before, after in pairwise(spans))
    assert "".join("".join(text[a:b].split()) for a, b in spans) == "".join(text.split())


@pytest.mark.parametrize("text", ["." * 300_000 + "a", "a." + ")" * 300_000, "a" + "\n" * 300_000, "e.g. " * 60_000])
def test_text_made_to_be_slow_still_ends(text: str) -> None:
    """Quadratic behaviour would take hours here, and the suite's timeout would end it."""
    assert "".join("".join(text[a:b].split()) for a, b in sentence_spans(text)) == "".join(text.split())
