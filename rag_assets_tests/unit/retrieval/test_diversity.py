"""Near-duplicates and the share of one document, with hits made by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_assets.models import Hit
from rag_assets.retrieval.diversity import diversify, spread, without_near_duplicates

WORDS = [f"word{letter}" for letter in "abcdefghijklmnopqrstuvwxyz"] * 3
TEXT = " ".join(f"{word}{number // 26}" for number, word in enumerate(WORDS)).translate(str.maketrans("012", "xyz"))


def hit(rank: int, document: str, text: str) -> Hit:
    return Hit(rank, document, f"c{rank}", text, {}, {})


def names(hits: list[Hit]) -> list[str]:
    return [entry.chunk_id for entry in hits]


@pytest.mark.parametrize(
    ("other", "kept"),
    [
        (TEXT, False),
        (TEXT.upper().replace(" ", "\n\n"), False),
        (TEXT.replace("wordfx", "else"), False),  # one word of 78
        (" ".join(TEXT.split()[10:50]), False),  # wholly inside the better one
        (f"{TEXT} {TEXT.replace('word', 'more')}", True),  # says as much again
        (TEXT.replace("wordfx", "2024"), True),  # another figure is another statement
        ("Something else entirely, in other words.", True),
    ],
)
def test_a_passage_is_left_out_when_a_better_one_says_the_same(other: str, kept: bool) -> None:
    found = without_near_duplicates([hit(1, "a.md", TEXT), hit(2, "b.md", other)], 0.9)
    assert names(found) == (["c1", "c2"] if kept else ["c1"])
    assert found[0].duplicates == (() if kept else ("b.md",))


def test_the_documents_of_all_that_was_left_out_are_named_once_each() -> None:
    hits = [hit(n, name, TEXT) for n, name in enumerate(["a.md", "b.md", "a.md", "b.md", "c.md"], start=1)]
    (only,) = without_near_duplicates(hits, 0.9)
    assert only.duplicates == ("b.md", "a.md", "c.md")


def test_text_without_spaces_is_compared_by_character() -> None:
    chinese = "向量数据库保存文档的嵌入向量以便快速检索相似内容并返回给用户使用"
    assert len(without_near_duplicates([hit(1, "a", chinese), hit(2, "b", chinese[2:-2])], 0.9)) == 1
    assert len(without_near_duplicates([hit(1, "a", chinese), hit(2, "b", chinese[::-1])], 0.9)) == 2


def test_short_texts_are_duplicates_only_when_equal() -> None:
    hits = [hit(1, "a", "Closed on Mondays"), hit(2, "b", "closed on Mondays!"), hit(3, "c", "Closed on Tuesdays")]
    assert names(without_near_duplicates(hits, 0.9)) == ["c1", "c3"]


def test_one_document_has_two_of_five_places_where_others_can_fill_them() -> None:
    poison = [hit(n, "evil.md", f"poison {n}") for n in range(1, 6)]
    others = [hit(5 + n, f"good{n}.md", f"fact {n}") for n in range(1, 6)]
    first = diversify([*poison, *others], 5, near_duplicate=0.9, max_per_document=2)[:5]
    assert [entry.document for entry in first].count("evil.md") == 2
    assert names(first) == ["c1", "c2", "c6", "c7", "c8"]


def test_the_only_document_fills_every_place() -> None:
    hits = [hit(n, "handbook.md", f"text {n}") for n in range(1, 8)]
    assert names(spread(hits, 2, 5)) == names(hits)


def test_fewer_documents_than_places_keep_their_order() -> None:
    hits = [hit(n, "abcdef"[n % 6] if n > 4 else "a", f"text {n}") for n in range(1, 12)]
    assert names(spread(hits, 2, 7)) == names(hits)
    assert names(spread(hits, 2, 6)) != names(hits)
    assert names(spread(hits, 0, 6)) == names(hits)


def test_a_few_books_keep_their_order_however_few_the_places_are() -> None:
    hits = [hit(n, "abcd"[n % 4] if n > 4 else "a", f"text {n}") for n in range(1, 12)]
    assert names(spread(hits, 2, 3)) == names(hits)


@given(st.lists(st.sampled_from("abcdefgh"), max_size=30), st.integers(0, 5), st.integers(1, 10))
def test_spreading_loses_nothing_and_keeps_the_order_within_a_document(
    documents: list[str], limit: int, places: int
) -> None:
    hits = [hit(rank, name, str(rank)) for rank, name in enumerate(documents, start=1)]
    found = spread(hits, limit, places)
    assert sorted(names(found)) == sorted(names(hits))
    for name in set(documents):
        ranks = [entry.rank for entry in found if entry.document == name]
        assert ranks == sorted(ranks)
