"""Where each of the other strategies cuts, and where it does not."""

from itertools import pairwise
from typing import Any

import pytest

from rag_assets.chunking import STRATEGIES, chunk_document
from rag_assets.errors import ConfigurationError, RagAssetsError
from rag_assets.models import ChunkDraft, Element
from rag_assets.settings import ChunkingSettings

from .counters import document, prose, section, wordpiece, words

ANIMALS = ["cat", "dog", "cow", "pig", "horse", "bird", "fish", "wolf", "bear", "lion", "tiger", "mouse"]


def cut(elements: list[Element], strategy: Any, title: str = "", **changed: Any) -> list[ChunkDraft]:
    chosen = {"max_tokens": 64, "overlap_tokens": 0, "contextual": False, **changed}
    return chunk_document(document(elements, title), ChunkingSettings(strategy=strategy, **chosen), wordpiece())


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_document_without_text_has_no_chunks(strategy: str) -> None:
    assert cut([], strategy) == cut(prose("  \n "), strategy) == []


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_short_document_is_embedded_once_and_whole(strategy: str) -> None:
    (chunk,) = cut(section(("Guide",), "A short text. It says little."), strategy)
    assert chunk.text == chunk.embedded_text == "Guide\n\nA short text. It says little."


def test_a_document_that_only_counts_can_t_be_cut_by_meaning() -> None:
    class OnlyCounts:
        max_tokens = 256

        def count_tokens(self, texts: list[str]) -> list[int]:
            return [len(text) for text in texts]

    with pytest.raises(RagAssetsError, match="needs an embedder"):
        chunk_document(document(prose("Words.")), ChunkingSettings(strategy="semantic"), OnlyCounts())


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_budget_over_the_limit_of_the_model_is_refused_with_both_numbers(strategy: str) -> None:
    with pytest.raises(ConfigurationError, match=r"chunking.max_tokens = 512 .* \(256 tokens\).* to 256 or less"):
        cut(prose("Words."), strategy, max_tokens=512)


def test_sliding_windows_are_full_and_repeat_whole_words() -> None:
    text = " ".join(words(9, animal) for animal in ANIMALS)
    chunks = cut(prose(text), "sliding", overlap_tokens=16)
    assert len(chunks) > 4
    # A word and its comma are the two tokens at which a window ends or a repetition begins.
    assert all(63 <= chunk.tokens <= 64 for chunk in chunks[:-1])
    for before, after in pairwise(chunks):
        repeated = before.text[after.start - before.start :]
        assert 15 <= wordpiece().count_tokens([repeated])[0] - 2 <= 16
        assert text[after.start - 1] == " "


def test_sliding_windows_without_overlap_repeat_nothing_and_cut_no_word() -> None:
    text = " ".join(words(9, animal) for animal in ANIMALS)
    assert " ".join(chunk.text for chunk in cut(prose(text), "sliding")) == text


def test_sliding_windows_look_at_no_heading() -> None:
    elements = [*section(("One",), words(10, "one")), *section(("Two",), words(10, "two"))]
    (chunk,) = cut(elements, "sliding")
    assert chunk.text.startswith("One\n\nOne, one")
    assert chunk.headings == ()


def test_a_sentence_is_embedded_and_shown_with_its_neighbours() -> None:
    sentences = [words(9, animal) for animal in ANIMALS]
    chunks = cut(prose(" ".join(sentences)), "sentence-window", sentence_tokens=20)
    assert [chunk.embedded_part for chunk in chunks] == sentences
    middle = chunks[5]
    assert middle.text == " ".join(sentences[4:7])
    assert middle.embedded_text == sentences[5]
    assert middle.tokens == 20 == wordpiece().count_tokens([sentences[5]])[0]
    assert chunks[0].text == " ".join(sentences[:3])
    assert chunks[-1].text == " ".join(sentences[-3:])


def test_neighbouring_sentences_are_embedded_together_up_to_their_budget() -> None:
    sentences = [words(4, animal) for animal in ANIMALS]
    chunks = cut(prose(" ".join(sentences)), "sentence-window", sentence_tokens=24)
    assert [chunk.embedded_part for chunk in chunks] == [
        " ".join(sentences[at : at + 3]) for at in range(0, len(sentences), 3)
    ]


def test_sentences_of_two_sections_are_not_embedded_together_and_headings_go_with_what_follows() -> None:
    elements = [*section(("One",), "First words."), *section(("Two",), "Second words.")]
    chunks = cut(elements, "sentence-window")
    assert [chunk.embedded_part for chunk in chunks] == ["One\n\nFirst words.", "Two\n\nSecond words."]
    assert {chunk.text for chunk in chunks} == {document(elements).text}


def test_the_heading_of_the_next_section_does_not_end_a_window() -> None:
    elements = [*section(("One",), words(20, "one")), *section(("Two",), words(20, "two"))]
    first, second = cut(elements, "sentence-window")
    assert first.text.endswith("one.")
    assert second.text.startswith("Two\n\n")


def test_meaning_is_cut_where_it_changes() -> None:
    """The fake's vectors are counts of letters: sentences about cats are alike, and unlike those about dogs."""
    cats, dogs = ([f"{word} {word} {n}." for n in range(8)] for word in ("Cat", "Dog"))
    chunks = cut(prose(" ".join([*cats, *dogs])), "semantic", breakpoint_percentile=90)
    assert [chunk.text for chunk in chunks] == [" ".join(cats), " ".join(dogs)]


def test_meaning_that_does_not_change_is_cut_by_the_budget_with_overlap() -> None:
    sentences = [words(9, "cat")] * 12
    chunks = cut(prose(" ".join(sentences)), "semantic", overlap_tokens=20)
    assert len(chunks) > 4
    assert all(after.start < before.end for before, after in pairwise(chunks))


def test_a_heading_is_not_cut_off_from_what_it_heads_by_meaning() -> None:
    elements = [*section(("Xxx",), words(16, "cat")), *section(("Zzz",), words(16, "dog"))]
    chunks = cut(elements, "semantic", breakpoint_percentile=0)
    assert [chunk.text.split("\n")[0] for chunk in chunks] == ["Xxx", "Zzz"]


def test_a_document_is_one_chunk_up_to_what_the_model_reads() -> None:
    """A word and its comma are two tokens; the budget of 64 in the settings says nothing here."""
    elements = [*section(("One",), words(60, "one")), *section(("Two",), words(60, "two"))]
    (chunk,) = cut(elements, "whole")
    assert chunk.text == document(elements).text
    assert chunk.tokens == 2 + 2 * 121


def test_a_longer_document_is_cut_into_as_few_parts_as_its_sentences_allow() -> None:
    sentences = [words(20, ANIMALS[number % 12]) for number in range(25)]
    chunks = cut(prose(" ".join(sentences)), "whole")
    assert [chunk.text for chunk in chunks] == [" ".join(sentences[at : at + 6]) for at in range(0, 25, 6)]


def test_the_heading_of_the_next_part_opens_it() -> None:
    elements = [*section(("One",), words(120, "one")), *section(("Two",), words(120, "two"))]
    chunks = cut(elements, "whole")
    assert [chunk.text.split("\n")[0] for chunk in chunks] == ["One", "Two"]


@pytest.mark.parametrize("strategy", [name for name in STRATEGIES if name != "sliding"])
def test_code_with_blank_lines_that_fits_a_chunk_is_in_one(strategy: str) -> None:
    code = "def one():\n    return 1\n\n\ndef two():\n\n    return 2"
    elements = [
        *section(("Code",), words(25, "cat")),
        Element("CodeSnippet", code, ("Code",)),
        *prose(words(25, "dog")),
    ]
    chunks = cut(elements, strategy)
    assert sum(code in chunk.embedded_part for chunk in chunks) == 1
    assert sum("def" in chunk.embedded_part for chunk in chunks) == 1


def test_sliding_windows_do_cut_inside_code() -> None:
    code = "\n".join(f"    call_{number}(value)" for number in range(8))
    chunks = cut([*prose(words(25, "cat")), Element("CodeSnippet", code)], "sliding")
    assert sum("call" in chunk.text for chunk in chunks) == 2
