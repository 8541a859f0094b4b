"""Evidence recall at a fixed context, worked out by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_assets.evaluation.golden.questions import Label
from rag_assets.evaluation.metrics.evidence import (
    context_evidence_recall,
    evidence_in_context,
    first_characters,
    locate_quote,
)
from rag_assets.models import Hit

TEXT = "Alpha beta gamma. Delta epsilon zeta. Eta theta iota."
DELTA = Label("a.md", "Delta epsilon zeta.")


def hit(rank: int, start: int, end: int, document: str = "a.md") -> Hit:
    return Hit(rank, document, f"c{rank}", "", {}, {"start": start, "end": end})


def share(*hits: Hit, labels: tuple[Label, ...] = (DELTA,), characters: int = 1000) -> float | None:
    return evidence_in_context(labels, {"a.md": TEXT, "b.md": TEXT}, hits, characters)


@pytest.mark.parametrize(
    ("quote", "found"),
    [
        ("Delta epsilon", ["Delta epsilon"]),
        ("delta   EPSILON zeta", ["Delta epsilon zeta"]),
        ("**Delta** epsilon", ["Delta epsilon"]),
        ("elta", []),
        ("delt", []),
        ("zeta delta", []),
        ("", []),
        ("…", []),
    ],
)
def test_a_quote_is_found_as_it_is_or_by_its_words(quote: str, found: list[str]) -> None:
    assert [TEXT[start:end] for start, end in locate_quote(quote, TEXT)] == found


def test_every_place_of_a_quote_is_found() -> None:
    assert locate_quote("b c", "b c, b c") == [(0, 3), (5, 8)]
    assert locate_quote("b c", "a B C a b-c") == [(2, 5)]


def test_a_quote_inside_a_hit_is_found_whole_and_one_across_a_border_in_part() -> None:
    start, end = TEXT.index("Delta"), TEXT.index(" Eta")
    assert share(hit(1, 0, len(TEXT))) == 1
    assert share(hit(1, start, start + 5)) == 5 / (end - start)
    assert share(hit(1, start, start + 5), hit(2, start + 5, end)) == 1
    assert share(hit(1, 0, start)) == 0
    assert share(hit(1, start, end, "b.md")) == 0


def test_the_context_ends_where_it_is_full() -> None:
    start, end = TEXT.index("Delta"), TEXT.index(" Eta")
    assert share(hit(1, 0, len(TEXT)), characters=start + 5) == 5 / (end - start)
    assert share(hit(1, 0, 30, "b.md"), hit(2, start, end), characters=30) == 0


def test_characters_that_are_there_already_are_not_paid_for_again() -> None:
    start, end = TEXT.index("Delta"), TEXT.index(" Eta")
    assert share(hit(1, 0, start + 3), hit(2, 0, end), characters=end) == 1
    assert share(hit(1, start + 3, start + 6), hit(2, start, end), characters=end - start) == 1


def test_hits_fill_the_context_by_rank() -> None:
    start, end = TEXT.index("Delta"), TEXT.index(" Eta")
    assert share(hit(2, start, end), hit(1, 0, 17), characters=17) == 0


def test_of_several_places_the_best_counts_and_of_several_quotes_all_their_characters() -> None:
    texts = {"a.md": "same words. same words."}
    found = evidence_in_context((Label("a.md", "same words."),), texts, [hit(1, 12, 23)])
    assert found == 1
    two = (DELTA, Label("a.md", "Alpha"))
    assert share(hit(1, 0, 5), labels=two) == 5 / (5 + len("Delta epsilon zeta."))


def test_labels_without_a_quote_say_nothing() -> None:
    assert share(hit(1, 0, 9), labels=(Label("a.md"), Label("a.md", "Alpha", grade=0))) is None
    assert share(hit(1, 0, 9), labels=(Label("a.md", "omega"),)) is None


def placed(rank: int, document: str, start: int, end: int) -> Hit:
    return Hit(rank, document, f"{document}{start}", "x" * (end - start), {}, {"start": start, "end": end})


def test_a_context_counts_shared_characters_once_and_cuts_its_last_chunk() -> None:
    hits = [placed(1, "a", 50, 100), placed(3, "b", 0, 100), placed(2, "a", 30, 120)]
    # 50 of the first, 20 + 20 around it, and of 110 there are 20 left.
    assert first_characters(hits, 110) == {"a": [(50, 100), (30, 50), (100, 120)], "b": [(0, 20)]}
    assert first_characters([Hit(1, "a", "c", "", {}, {})], 110) == {}


def test_context_evidence_recall_is_the_share_of_quoted_characters() -> None:
    texts = {"a": "012-3456-789 " * 3, "b": "The quick *brown* fox."}
    labels = [Label("a", "3456"), Label("b", "the Quick brown fox"), Label("a", None), Label("a", "not there")]
    # "3456" stands three times: the best of them counts. Of the fox's 21 characters, emphasis included, 11 are held.
    assert context_evidence_recall(labels, {"a": [(18, 20), (0, 6)], "b": [(0, 11)]}, texts) == pytest.approx(13 / 25)
    assert context_evidence_recall(labels, {}, texts) == 0
    assert context_evidence_recall(labels[2:], {"a": [(0, 30)]}, texts) is None
    assert context_evidence_recall([Label("a", "3456", 0.0)], {"a": [(0, 30)]}, texts) is None


@pytest.mark.parametrize(
    ("quote", "text", "places"),
    [
        ("two words", "two words, Two\tWords, two words", [(0, 9), (22, 31)]),
        ("Two  words", "of two\n\nwords", [(3, 13)]),
        ("308", "1308 and 3080", []),
        ("308", "1308, 308", [(6, 9)]),
        ("", "anything", []),
        ("...", "a...b", [(1, 4)]),
        ("数据库", "向量数据库保存", [(2, 5)]),
    ],
)
def test_quotes_are_located_word_for_word_else_by_their_words(
    quote: str, text: str, places: list[tuple[int, int]]
) -> None:
    assert locate_quote(quote, text) == places


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 30)), max_size=8), st.integers(0, 80))
def test_a_context_is_the_first_characters_nobody_had_before(chunks: list[tuple[int, int]], size: int) -> None:
    hits = [placed(rank, "a", start, start + length) for rank, (start, length) in enumerate(chunks, start=1)]
    in_order = list(dict.fromkeys(place for start, length in chunks for place in range(start, start + length)))
    spans = first_characters(hits, size).get("a", [])
    assert sorted(place for start, end in spans for place in range(start, end)) == sorted(in_order[:size])
