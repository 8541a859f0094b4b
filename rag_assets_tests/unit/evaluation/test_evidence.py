"""Evidence recall at a fixed context, worked out by hand."""

import pytest

from rag_assets.evaluation.evidence import evidence_in_context, quote_spans
from rag_assets.evaluation.questions import Label
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
        ("elta", ["elta"]),
        ("delt", []),
        ("zeta delta", []),
        ("", []),
        ("…", []),
    ],
)
def test_a_quote_is_found_as_it_is_or_by_its_words(quote: str, found: list[str]) -> None:
    assert [TEXT[start:end] for start, end in quote_spans(quote, TEXT)] == found


def test_every_place_of_a_quote_is_found() -> None:
    assert quote_spans("b c", "a B C a b-c") == [(2, 5), (8, 11)]
    assert quote_spans("漢字", "測漢 字") == [(1, 4)]


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
