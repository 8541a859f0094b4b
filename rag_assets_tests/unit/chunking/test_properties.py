"""What holds for every document, every budget and every tokenizer."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rag_assets.chunking import STRATEGIES, chunk_document
from rag_assets.chunking.context import ContextFitter, heading_line
from rag_assets.chunking.cost import CostMeter
from rag_assets.models import ChunkDraft, Element, ParsedDocument, TokenCounter
from rag_assets.settings import ChunkingSettings

from .counters import CharacterCounter, UnevenCounter, document, embedded_span, prose, section, uncovered, wordpiece

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
    strategy=st.sampled_from([*STRATEGIES]),
    max_tokens=st.sampled_from([16, 17, 40, 64, 256]),
    overlap_tokens=st.sampled_from([0, 8, 32, 2048]),
    contextual=st.booleans(),
    sentence_tokens=st.sampled_from([1, 24, 300]),
    breakpoint_percentile=st.sampled_from([0, 50, 90, 100]),
)


def limit_of(limits: ChunkingSettings, counter: TokenCounter) -> int:
    return counter.max_tokens if limits.strategy == "whole" else limits.max_tokens


def assert_sound(
    parsed: ParsedDocument, chunks: list[ChunkDraft], limits: ChunkingSettings, counter: TokenCounter
) -> None:
    limit = limit_of(limits, counter)
    for chunk in chunks:
        assert chunk.text == parsed.text[chunk.start : chunk.end]
        assert chunk.embedded_part.strip()
        start, end = embedded_span(chunk)
        assert chunk.start <= start < end <= chunk.end
        assert chunk.embedded_part == parsed.text[start:end]
        assert chunk.tokens == counter.count_tokens([chunk.embedded_text])[0] <= limit <= counter.max_tokens
        assert len(chunk.text) <= 8 * limit
        assert limits.strategy == "sentence-window" or chunk.embedded_span is None
    assert uncovered(parsed, chunks) == ""
    spans = [embedded_span(chunk) for chunk in chunks]
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
@pytest.mark.parametrize(
    ("strategy", "kind"),
    [*(("recursive", kind) for kind in ("NarrativeText", "Table", "CodeSnippet", "Title")),
     *((name, "NarrativeText") for name in STRATEGIES if name != "recursive")],
)  # fmt: skip
def test_text_without_any_place_to_cut_stays_within_the_budget(
    text: str, kind: str, strategy: Any, counter: TokenCounter
) -> None:
    parsed = document([Element(kind, text)], title="Guide")
    limits = ChunkingSettings(strategy=strategy, max_tokens=64)
    assert_sound(parsed, chunk_document(parsed, limits, counter), limits, counter)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_long_documents_need_few_calls_of_the_tokenizer(strategy: Any) -> None:
    counter = wordpiece()
    parsed = document(prose(*["The quick brown fox jumps over the lazy dog. " * 3] * 2_000, headings=("Foxes",)))
    before = counter.calls
    chunks = chunk_document(parsed, ChunkingSettings(strategy=strategy), counter)
    assert len(chunks) > 100
    assert counter.calls - before < 200


rows = st.lists(
    st.sampled_from(["a | b", "name | dose | when", "x" * 30 + " | y", "drug | 3 mg"]), min_size=1, max_size=12
)
code = st.lists(
    st.sampled_from(["def f():", "    return 1", "", "", "        deeper(x, y)", "# note"]), min_size=1, max_size=12
).filter(lambda lines: lines[0] != "" != lines[-1])
paths = st.sampled_from([(), ("Intro",), ("Intro", "Setup and first steps")])
solid = st.one_of(
    st.builds(Element, st.just("Table"), rows.map("\n".join), paths),
    st.builds(Element, st.just("CodeSnippet"), code.map("\n".join), paths),
)
loose = st.builds(Element, st.sampled_from(["Title", "NarrativeText", "ListItem"]), texts, paths)
mixed = st.builds(
    ParsedDocument, title=st.sampled_from(["", "Guide"]), elements=st.lists(st.one_of(solid, solid, loose)).map(tuple)
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(mixed, chunking.filter(lambda limits: limits.strategy != "sliding"), st.sampled_from(COUNTERS))
def test_tables_and_code_that_fit_a_chunk_are_in_one_and_others_are_cut_between_lines(
    parsed: ParsedDocument, limits: ChunkingSettings, counter: TokenCounter
) -> None:
    chunks = chunk_document(parsed, limits, counter)
    assert_sound(parsed, chunks, limits, counter)
    meter = CostMeter(counter, limit_of(limits, counter))
    contexts = ContextFitter(meter)
    start = 0
    for element in parsed.elements:
        end = start + len(element.text.rstrip())
        if element.kind in ("Table", "CodeSnippet"):
            line = heading_line(parsed.title, element.headings) if limits.contextual else ""
            contexts.prepare([line])
            room = meter.limit - meter.special - contexts.cost(line)
            # What it costs with the blank line after it, and each of its lines with the line break.
            if meter.costs([f"{element.text}\n\n"])[0] <= room:
                assert any(chunk.start <= start and end <= chunk.end for chunk in chunks), element
                touching = [c for c in chunks if embedded_span(c)[0] < end and start < embedded_span(c)[1]]
                assert len(touching) == 1, element
            elif all(cost <= room // 2 for cost in meter.costs([f"{row}\n\n" for row in element.text.split("\n")])):
                for chunk in chunks:
                    for border in embedded_span(chunk):
                        if start < border < end:
                            assert "\n" in parsed.text[border - 1 : border + 1], (element, chunk)
        start += len(element.text) + 2


@pytest.mark.parametrize("strategy", [name for name in STRATEGIES if name != "sliding"])
@pytest.mark.parametrize("contextual", [True, False])
def test_a_table_over_a_chunk_is_cut_between_rows_with_its_header_repeated(strategy: Any, contextual: bool) -> None:
    table = ["name | dose | when", *(f"drug{number} | {number} mg | twice a day" for number in range(60))]
    elements = [*section(("Doses",), "Take them with water."), Element("Table", "\n".join(table), ("Doses",))]
    limits = ChunkingSettings(strategy=strategy, max_tokens=64, contextual=contextual)
    chunks = chunk_document(document(elements), limits, wordpiece())
    lines = [line for chunk in chunks for line in chunk.embedded_part.split("\n") if "|" in line]
    assert lines == table
    later = [chunk for chunk in chunks if "drug" in chunk.embedded_part and "dose" not in chunk.embedded_part]
    assert len(later) >= 2
    assert {chunk.context.split("\n")[-1] for chunk in later} == {"name | dose | when"}
