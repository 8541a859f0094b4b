"""Packing over documents that Hypothesis writes and cuts, and the cases that decide what joining means."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_assets.errors import RagAssetsError
from rag_assets.models import Hit
from rag_assets.retrieval.context import Context, ContextPassage, Gap, assemble, join, open_gaps

HEADER = 10
"""What a passage costs beside its characters."""


def sizes(passages: list[ContextPassage]) -> list[int]:
    return [HEADER + len(passage.text) for passage in passages]


def hit(rank: int, document: str, text: str, start: int, end: int, position: int = 0) -> Hit:
    place = {"start": start, "end": end, "position": position, "headings": [f"part {position}"]}
    return Hit(rank, document, f"{document}:{start}-{end}", text[start:end], {}, place)


@st.composite
def rankings(draw: st.DrawFn) -> tuple[dict[str, str], list[Hit]]:
    """Documents, and chunks of them that overlap, touch or leave gaps, in any order."""
    texts = {
        name: draw(st.text("ab \n", min_size=1, max_size=60))
        for name in draw(st.lists(st.sampled_from("xyz"), min_size=1, unique=True))
    }
    spans = set()
    for name, text in texts.items():
        for _ in range(draw(st.integers(1, 6))):
            start = draw(st.integers(0, len(text) - 1))
            spans.add((name, start, draw(st.integers(start + 1, len(text)))))
    order = draw(st.permutations(sorted(spans)))
    return texts, [hit(rank, name, texts[name], start, end) for rank, (name, start, end) in enumerate(order, start=1)]


def gaps_of(texts: dict[str, str], hits: list[Hit]) -> dict[Gap, str]:
    """The oracle's: the white space between any two chunks."""
    found = {}
    for before in hits:
        for after in hits:
            start, end = before.metadata["end"], after.metadata["start"]
            if before.document == after.document and start < end:
                found[before.document, start, end] = texts[before.document][start:end]
    return found


@given(rankings(), st.integers(1, 20), st.integers(0, 200), st.booleans(), st.booleans())
def test_a_context_is_within_its_budget_in_reading_order_true_to_the_text_and_loses_nothing_silently(
    made: tuple[dict[str, str], list[Hit]], places: int, budget: int, fill: bool, with_gaps: bool
) -> None:
    texts, hits = made
    gaps = gaps_of(texts, hits) if with_gaps else {}
    try:
        context = assemble(hits, places=places, budget=budget, size=sizes, gaps=gaps, fill=fill)
    except RagAssetsError:
        assert min(sizes(join([entry], {}))[0] for entry in hits[:places]) > budget
        return
    assert context.used == sum(sizes(context.passages)) <= budget
    for passage in context.passages:
        assert passage.text == texts[passage.document][passage.start : passage.end]
        assert all(entry.text in passage.text for entry in passage.hits)
    in_reading_order(context)
    ids = [entry.chunk_id for entry in (*context.hits, *context.left_out)]
    assert len(ids) == len(set(ids))
    assert {entry.chunk_id for entry in hits[:places]} <= set(ids)
    assert fill or len(ids) == min(places, len(hits))


def in_reading_order(context: Context) -> None:
    documents = [passage.document for passage in context.passages]
    in_order = list(dict.fromkeys(documents))
    assert documents == sorted(documents, key=in_order.index)
    best = [min(p.rank for p in context.passages if p.document == name) for name in in_order]
    assert best == sorted(best)
    for name in in_order:
        ends = [(p.start, p.end) for p in context.passages if p.document == name]
        # Behind one another, with something between them: else they were one passage.
        assert all(before[1] < after[0] for before, after in pairwise(ends))


@given(rankings())
def test_filling_up_leaves_no_hit_outside_that_would_fit(made: tuple[dict[str, str], list[Hit]]) -> None:
    _, hits = made
    context = assemble(hits, places=1, budget=100, size=sizes, fill=True)
    inside = {entry.chunk_id for entry in context.hits}
    for outside in (entry for entry in hits if entry.chunk_id not in inside):
        document = [entry for entry in context.hits if entry.document == outside.document]
        longer = sum(sizes(join([*document, outside], {}))) - sum(sizes(join(document, {})))
        # A hit that bridges two passages may become cheaper when the second one is in.
        assert context.used + longer > 100 or len(document) > 0


TEXT = "Alpha beta.\n\nGamma delta.\n\nEpsilon."


def test_overlapping_chunks_are_read_once() -> None:
    (passage,) = join([hit(2, "d", TEXT, 6, 25, 1), hit(1, "d", TEXT, 0, 11)], {})
    assert (passage.text, passage.start, passage.end) == (TEXT[:25], 0, 25)
    assert [entry.rank for entry in passage.hits] == [1, 2]
    assert (passage.rank, passage.headings) == (1, ("part 0",))


def test_the_parts_of_a_passage_are_those_of_its_best_hits() -> None:
    worse, better, inside = hit(2, "d", TEXT, 0, 20), hit(1, "d", TEXT, 6, 35, 1), hit(3, "d", TEXT, 8, 12, 2)
    (passage,) = join([worse, inside, better], {})
    assert passage.parts == [(0, worse), (6, better)]
    (shifted,) = join([hit(1, "d", TEXT, 6, 12), hit(2, "d", TEXT, 12, 20, 1)], {})
    assert [(start, entry.rank) for start, entry in shifted.parts] == [(0, 1), (6, 2)]
    assert join([Hit(1, "d", "c", "words", {}, {})], {})[0].parts[0][0] == 0


def test_a_chunk_inside_another_adds_nothing() -> None:
    (passage,) = join([hit(1, "d", TEXT, 6, 11, 1), hit(2, "d", TEXT, 0, 25)], {})
    assert passage.text == TEXT[:25]


def test_neighbours_with_a_blank_line_between_them_join_once_it_is_known() -> None:
    hits = [hit(1, "d", TEXT, 13, 25, 1), hit(2, "d", TEXT, 0, 11, 0), hit(3, "d", TEXT, 27, 35, 2)]
    gaps = open_gaps(hits)
    assert gaps == [("d", 11, 13), ("d", 25, 27)]
    assert len(join(hits, {})) == 3
    (passage,) = join(hits, {(name, start, end): TEXT[start:end] for name, start, end in gaps})
    assert passage.text == TEXT


def test_gaps_are_between_neighbours_of_one_document_only() -> None:
    first, after_next = hit(1, "d", TEXT, 0, 11, 0), hit(2, "d", TEXT, 13, 25, 2)
    assert open_gaps([first, after_next]) == []
    assert open_gaps([first, replace(hit(2, "e", TEXT, 13, 25, 1))]) == []


@pytest.mark.parametrize("between", ["", "x", "xx", "\n"])
def test_what_is_no_longer_white_space_of_that_length_joins_nothing(between: str) -> None:
    hits = [hit(1, "d", TEXT, 0, 11, 0), hit(2, "d", TEXT, 13, 25, 1)]
    assert len(join(hits, {("d", 11, 13): between})) == 2


def test_chunks_of_two_versions_of_a_document_stay_apart() -> None:
    older, newer = hit(1, "d", TEXT, 0, 20, 0), hit(2, "d", TEXT.upper(), 10, 30, 1)
    assert [passage.text for passage in join([older, newer], {})] == [older.text, newer.text]
    lying = replace(older, metadata={**older.metadata, "end": 300})
    assert {passage.start for passage in join([lying, newer], {})} == {10, None}


def test_hits_without_offsets_are_passages_of_their_own() -> None:
    hits = [Hit(rank, "d", f"c{rank}", "words", {}, {}) for rank in (1, 2)]
    assert [passage.hits for passage in assemble(hits, places=2, budget=99, size=sizes).passages] == [
        (hits[0],),
        (hits[1],),
    ]


def test_a_long_hit_is_left_out_whole_and_a_shorter_one_behind_it_is_not() -> None:
    hits = [hit(1, "a", "x" * 50, 0, 50), hit(2, "b", "y" * 500, 0, 500), hit(3, "c", "z" * 20, 0, 20)]
    context = assemble(hits, places=3, budget=100, size=sizes)
    assert [passage.document for passage in context.passages] == ["a", "c"]
    assert context.left_out == (hits[1],)
    assert (context.used, context.budget) == (90, 100)


def test_an_overlap_is_paid_for_once() -> None:
    text = "x" * 100
    context = assemble([hit(1, "d", text, 0, 60), hit(2, "d", text, 20, 100)], places=2, budget=110, size=sizes)
    assert [passage.text for passage in context.passages] == [text]


def test_a_budget_that_holds_no_passage_is_an_error_with_both_numbers_and_the_settings() -> None:
    hits = [hit(1, "a", "x" * 500, 0, 500), hit(2, "b", "y" * 300, 0, 300)]
    with pytest.raises(RagAssetsError) as error:
        assemble(hits, places=2, budget=100, size=sizes)
    for needed in ("100", "310", "answers.context_tokens", "chunking.max_tokens"):
        assert needed in str(error.value)


def test_nothing_found_is_an_empty_context() -> None:
    assert assemble([], places=4, budget=100, size=sizes) == Context(budget=100)
