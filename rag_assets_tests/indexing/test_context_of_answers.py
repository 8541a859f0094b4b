"""Diversity and context over a real index: what search leaves out when asked to, and neighbours read as one passage."""

from pathlib import Path

from rag_assets.evaluation.golden.questions import Label, Question
from rag_assets.evaluation.provenance import corpus_texts
from rag_assets.retrieval.context import assemble
from rag_assets.retrieval.neighbours import gaps_between
from rag_assets.retrieval.search import search
from rag_assets.settings import RetrievalSettings
from rag_assets_tests.driving import OpenIndex, WarmRuntime, run, write

PARAGRAPH = "The {} opens on weekdays from eight in the morning until six in the evening and is closed on holidays."


def test_diverse_search_names_the_documents_it_leaves_out(index: WarmRuntime, source: Path) -> None:
    for name in ("a.md", "copy-of-a.md"):
        write(source, name, f"# Hours\n\n{PARAGRAPH.format('library')}\n")
    write(source, "b.md", "# Pool\n\nThe pool has five lanes, and swimmers share them.\n")
    run(index)
    question = "When is the library open on weekdays?"
    plain = search(index, question, collection="default", k=3).hits
    assert {hit.document for hit in plain} == {"a.md", "copy-of-a.md", "b.md"}
    found = search(index, question, collection="default", k=3, retrieval=RetrievalSettings(diversity=True)).hits
    assert [hit.rank for hit in found] == [1, 2]
    assert {found[0].document, *found[0].duplicates} == {"a.md", "copy-of-a.md"}
    assert (found[1].document, found[1].duplicates) == ("b.md", ())


def test_a_document_beyond_its_share_gives_its_place_to_one_found_behind_it(
    open_index: OpenIndex, source: Path
) -> None:
    index = open_index(chunking={"max_tokens": 32, "overlap_tokens": 0})
    places = ("library", "museum", "archive", "gallery")
    write(source, "long.md", "\n\n".join(f"# {place}\n\n{PARAGRAPH.format(place)}" for place in places))
    for number in range(4):
        write(source, f"d{number}.md", f"# Note {number}\n\nMorning note number {number} about something else.\n")
    run(index)
    question = "opens on weekdays from eight in the morning until six"
    for diverse, held in ((False, 4), (True, 2)):
        settings = RetrievalSettings(diversity=diverse)
        hits = search(index, question, collection="default", k=4, retrieval=settings).hits
        assert [hit.document for hit in hits].count("long.md") == held
        assert len(hits) == 4


def test_neighbours_become_the_very_text_of_the_document(open_index: OpenIndex, source: Path) -> None:
    index = open_index(chunking={"max_tokens": 32, "overlap_tokens": 0})
    text = "\n\n".join(f"# Part {number}\n\n{PARAGRAPH.format(f'room {number}')}" for number in range(5))
    write(source, "long.md", text)
    write(source, "other.md", "# Other\n\nNothing of that kind.\n")
    run(index)
    hits = search(index, "which room opens on weekdays", collection="default", k=20).hits
    assert len([hit for hit in hits if hit.document == "long.md"]) >= 5
    gaps = gaps_between(index, "default", hits)
    assert gaps
    assert set(gaps.values()) <= {"\n\n", " ", "\n"}
    label = Question("q", "?", relevant=(Label("long.md"),))
    whole = corpus_texts(index, "default", [label])["long.md"]
    context = assemble(hits, places=20, budget=10_000, size=lambda ps: [len(p.text) for p in ps], gaps=gaps)
    (passage,) = [passage for passage in context.passages if passage.document == "long.md"]
    assert passage.text == whole
    assert len(assemble(hits, places=20, budget=10_000, size=lambda ps: [1 for _ in ps]).passages) > len(
        context.passages
    )


def test_nothing_is_looked_up_where_no_neighbours_were_found(index: WarmRuntime) -> None:
    # There is not even an index.
    assert gaps_between(index, "default", []) == {}
