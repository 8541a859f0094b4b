"""What holds for every document, every budget and every tokenizer."""

from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rag_assets.chunking import chunk_document
from rag_assets.models import ChunkDraft, Element, ParsedDocument, TokenCounter
from rag_assets.settings import ChunkingSettings

from .counters import CharacterCounter, UnevenCounter, document, prose, uncovered, wordpiece

FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467"
FRAGMENTS = [
    "word", "unaffable", "3.5", "e.g.", "End.", "Really?", " ", "  ", "\n", "\n\n", "| a | b |", "漢字", "かな", "。",
    "x" * 150, "https://example.com/" + "a/" * 40, "😀", FAMILY, "e\u0301", "नमस्ते", "สวัสดี", "\u00a0", "\t", "def f():",
    "This is a sentence of some length. ", "Another one follows it here! ",
]  # fmt: skip
COUNTERS = (CharacterCounter(), UnevenCounter(), wordpiece())

texts = st.lists(st.sampled_from(FRAGMENTS), min_size=1, max_size=40).map("".join)
elements = st.builds(
    Element,
    kind=st.sampled_from(["Title", "NarrativeText", "ListItem", "Table", "CodeSnippet"]),
    text=st.one_of(texts, st.text(min_size=1, max_size=300).filter(lambda t: t.isprintable())),
    headings=st.lists(st.sampled_from(["Intro", "Setup and first steps", "漢字"]), max_size=3).map(tuple),
    page=st.one_of(st.none(), st.integers(1, 3)),
)
documents = st.builds(
    ParsedDocument, title=st.sampled_from(["", "Guide", "A long title " * 20]), elements=st.lists(elements).map(tuple)
)
chunking = st.builds(
    ChunkingSettings,
    max_tokens=st.sampled_from([16, 17, 40, 64, 256]),
    overlap_tokens=st.sampled_from([0, 8, 32, 2048]),
    contextual=st.booleans(),
)


def assert_sound(
    parsed: ParsedDocument, chunks: list[ChunkDraft], limits: ChunkingSettings, counter: TokenCounter
) -> None:
    for chunk in chunks:
        assert chunk.text == parsed.text[chunk.start : chunk.end]
        assert chunk.text.strip()
        assert chunk.tokens == counter.count_tokens([chunk.embedded_text])[0] <= limits.max_tokens
        assert len(chunk.text) <= 8 * limits.max_tokens
    assert uncovered(parsed, chunks) == ""
    spans = [(chunk.start, chunk.end) for chunk in chunks]
    assert all(a[0] < b[0] and a[1] < b[1] for a, b in pairwise(spans)), spans


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(documents, chunking, st.sampled_from(COUNTERS))
def test_chunks_are_exact_spans_within_the_budget_that_cover_the_document(
    parsed: ParsedDocument, limits: ChunkingSettings, counter: TokenCounter
) -> None:
    chunks = chunk_document(parsed, limits, counter)
    assert_sound(parsed, chunks, limits, counter)
    assert chunks == chunk_document(parsed, limits, counter)


@pytest.mark.parametrize("counter", COUNTERS, ids=lambda counter: type(counter).__name__)
@pytest.mark.parametrize(
    "text",
    ["a" * 100_000, "漢字測試" * 5_000, "😀" * 5_000, FAMILY * 2_000, "a" + "\u0301" * 20_000, " " * 50_000 + "b"],
    ids=["one word", "ideographs", "emoji", "joined emoji", "stacked accents", "spaces"],
)
@pytest.mark.parametrize("kind", ["NarrativeText", "Table", "CodeSnippet", "Title"])
def test_text_without_any_place_to_cut_stays_within_the_budget(text: str, kind: str, counter: TokenCounter) -> None:
    parsed = document([Element(kind, text)], title="Guide")
    limits = ChunkingSettings(max_tokens=64)
    assert_sound(parsed, chunk_document(parsed, limits, counter), limits, counter)


def test_long_documents_need_few_calls_of_the_tokenizer() -> None:
    counter = wordpiece()
    parsed = document(prose(*["The quick brown fox jumps over the lazy dog. " * 3] * 2_000, headings=("Foxes",)))
    before = counter.calls
    chunks = chunk_document(parsed, ChunkingSettings(), counter)
    assert len(chunks) > 100
    assert counter.calls - before < 100
