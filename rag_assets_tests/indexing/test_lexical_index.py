"""The lexical index follows the documents through every stage that changes rows."""

from pathlib import Path
from typing import Any

import pytest

from rag_assets.indexing.forgetting import forget
from rag_assets.indexing.integrity import inspect
from rag_assets.indexing.reconcile import reconcile
from rag_assets.retrieval.filters import parse_filters
from rag_assets.stores import lexical
from rag_assets_tests.driving import OpenIndex, WarmRuntime, corpus, live, query, run, write


def find(runtime: WarmRuntime, question: str, **options: Any) -> list[str]:
    """Documents of the chunks that are found, best first."""
    generation = live(runtime)
    with runtime.database.transaction(snapshot=True) as connection:
        hits = lexical.search(connection, generation, question, 10, **options).matches
    names = dict(
        query(
            runtime, "SELECT chunk_id, payload ->> 'document' FROM index_entry WHERE generation_id = %s", generation.id
        )
    )
    return [names[hit.chunk_id] for hit in hits]


def terms(runtime: WarmRuntime) -> set[str]:
    """Every term of every generation."""
    tables = query(runtime, "SELECT tablename FROM pg_tables WHERE tablename LIKE 'lexical_posting_g%%'")
    return {row[0] for (name,) in tables for row in query(runtime, f"SELECT term FROM {name}")}


def test_what_is_found_follows_the_documents(index: WarmRuntime, source: Path) -> None:
    corpus(source)
    write(source, "zebra.md", "# Zebras\n\nThey graze on the plains.\n")
    run(index)
    assert find(index, "grazing zebra") == ["zebra.md"]
    write(source, "zebra.md", "# Zebras\n\nThey sleep at night.\n")
    (source / "d00.md").rename(source / "moved.md")
    run(index)
    assert find(index, "grazing") == []
    assert find(index, "sleeping") == ["zebra.md"]
    assert "moved.md" in find(index, "topic 0")
    (source / "zebra.md").unlink()
    run(index)
    assert find(index, "zebra sleep") == []
    assert inspect(index, live(index)).lexical == 0


def test_headings_are_found_with_the_text_below_them(index: WarmRuntime, source: Path) -> None:
    write(source, "a.md", "# Parental leave\n\nIt lasts fourteen months.\n")
    write(source, "b.md", "# Pensions\n\nIt lasts fourteen years.\n")
    run(index)
    assert find(index, "parental leave") == ["a.md"]


def test_a_first_build_leaves_one_segment(index: WarmRuntime, source: Path) -> None:
    corpus(source)
    run(index)
    assert query(index, "SELECT count(*), sum(row_count) FROM lexical_segment") == [(1, len(find(index, "document")))]


@pytest.mark.parametrize("change", [{"language": "german"}, {"stop_words": False}])
def test_another_analysis_builds_a_generation_and_embeds_nothing(
    open_index: OpenIndex, source: Path, change: dict[str, Any]
) -> None:
    corpus(source)
    run(open_index())
    other = open_index(lexical=change)
    report = run(other)
    assert report.generation["promoted"]
    assert live(other).sequence == 2
    assert other.embedded == []
    assert inspect(other, live(other)).faults == 0
    assert live(other).config["lexical"] == {"language": "auto", "stop_words": True} | change


def test_k1_and_b_build_nothing(open_index: OpenIndex, source: Path) -> None:
    corpus(source)
    run(open_index())
    assert run(open_index(lexical={"k1": 0.9, "b": 0.4})).nothing_changed


def test_no_term_of_a_forgotten_document_is_left_in_any_generation(open_index: OpenIndex, source: Path) -> None:
    corpus(source, 4)
    write(source, "secret.md", "# Plan\n\nThe codeword was xylophone.\n")
    run(open_index())
    index = open_index(index={"m": 8})
    run(index)
    write(source, "secret.md", "# Plan\n\nThe codeword is marimba.\n")
    run(index)
    assert {"xylophon", "marimba"} <= terms(index)
    forget(index, "default", "secret.md")
    assert not {"xylophon", "marimba", "codeword"} & terms(index)
    assert inspect(index, live(index)).lexical == 0


def test_reconcile_makes_damaged_posting_lists_again(index: WarmRuntime, source: Path) -> None:
    corpus(source)
    run(index)
    query(index, f"DELETE FROM lexical_posting_g{live(index).id} WHERE term = 'topic'")
    assert inspect(index, live(index)).lexical > 0
    done = reconcile(index, live(index))
    assert done.rebuilt_lexical
    assert done.after.faults == 0
    assert find(index, "topic")


def test_reconcile_gives_the_rows_it_writes_again_their_posting_lists(index: WarmRuntime, source: Path) -> None:
    corpus(source)
    run(index)
    query(index, "DELETE FROM index_entry WHERE payload ->> 'document' = 'd03.md'")
    assert reconcile(index, live(index)).after.faults == 0
    assert "d03.md" in find(index, "Document 3")


def test_a_filter_is_on_payload_fields(index: WarmRuntime, source: Path) -> None:
    corpus(source)
    run(index)
    assert set(find(index, "topic", filters=parse_filters(["document=d05.md"]))) == {"d05.md"}
