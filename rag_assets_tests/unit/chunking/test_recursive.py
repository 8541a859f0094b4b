"""Where the recursive strategy cuts, and where it does not."""

from collections.abc import Sequence
from itertools import pairwise

import pytest

from rag_assets.chunking import chunk_document
from rag_assets.errors import ConfigurationError
from rag_assets.models import ChunkDraft, Element
from rag_assets.settings import ChunkingSettings

from .counters import CharacterCounter, document, prose, section, wordpiece, words

ANIMALS = ["cat", "dog", "cow", "pig", "horse", "bird", "fish", "wolf", "bear", "lion", "tiger", "mouse"]

PLAIN = ChunkingSettings(max_tokens=64, overlap_tokens=0, contextual=False)
"""62 tokens of text: ``words(31)``."""


def cut(elements: list[Element], limits: ChunkingSettings = PLAIN, title: str = "") -> list[ChunkDraft]:
    return chunk_document(document(elements, title), limits, wordpiece())


def test_a_document_without_text_has_no_chunks() -> None:
    assert cut([]) == cut(prose("  \n ")) == []


def test_large_sections_are_chunks_of_their_own() -> None:
    chunks = cut([*section(("Cats",), words(15, "cat")), *section(("Dogs",), words(15, "dog"))])
    assert [chunk.headings for chunk in chunks] == [("Cats",), ("Dogs",)]
    assert [chunk.text.split()[0] for chunk in chunks] == ["Cats", "Dogs"]


def test_ten_small_sections_are_not_ten_chunks() -> None:
    page = [Element("Title", "Page", ("Page",))]
    for number in range(10):
        page += section(("Page", f"Part {number}"), "A handful of words.")
    chunks = cut(page)
    assert 1 < len(chunks) <= 3
    assert {chunk.headings for chunk in chunks} == {("Page",)}


def test_the_tail_of_one_chapter_does_not_join_the_next() -> None:
    chunks = cut(
        [
            *section(("One",), words(30, "one")),
            *section(("One", "Notes"), "A short note."),
            *section(("Two",), "Something else."),
        ]
    )
    assert [chunk.text for chunk in chunks[1:]] == ["Notes\n\nA short note.", "Two\n\nSomething else."]


def test_a_heading_stays_with_the_text_it_heads() -> None:
    chunks = cut([*section(("Guide",)), *section(("Guide", "Setup"), f"{words(15, 'cat')} {words(16, 'dog')}")])
    assert chunks[0].text.startswith("Guide\n\nSetup\n\nCat, cat, ")
    assert chunks[0].headings == ("Guide",)
    assert chunks[1].headings == ("Guide", "Setup")


def test_paragraphs_stay_whole_when_they_fit() -> None:
    paragraphs = [f"{words(6, animal)} {words(6, animal)}" for animal in ANIMALS[:5]]
    chunks = cut(prose(*paragraphs))
    assert [chunk.text for chunk in chunks] == ["\n\n".join(pair) for pair in (paragraphs[:2], paragraphs[2:4])] + [
        paragraphs[4]
    ]


def test_a_long_paragraph_is_cut_between_sentences() -> None:
    chunks = cut(prose(" ".join(words(9, animal) for animal in ANIMALS[:8])))
    assert len(chunks) > 2
    assert all(chunk.text.endswith(".") and chunk.text[0].isupper() for chunk in chunks)


def test_a_long_sentence_is_cut_between_words() -> None:
    sentence = words(200)
    chunks = cut(prose(sentence))
    assert len(chunks) > 3
    assert " ".join(chunk.text for chunk in chunks) == sentence


def test_an_over_long_word_is_cut_between_letters_but_not_between_a_letter_and_its_accents() -> None:
    chunks = chunk_document(document(prose("e\u0301\u0300\u0302\u0308" * 100)), PLAIN, CharacterCounter())
    assert len(chunks) > 5
    assert all(chunk.text[0] == "e" for chunk in chunks)


def test_no_chunk_begins_with_closing_punctuation() -> None:
    chunks = chunk_document(document(prose("漢字、「漢」" * 100)), PLAIN, CharacterCounter())
    assert len(chunks) > 5
    assert not {chunk.text[0] for chunk in chunks} & {"、", "」"}


def test_no_tiny_last_chunk_is_left_over() -> None:
    chunks = cut(prose(" ".join([*(words(6, animal) for animal in ANIMALS[:5]), "Stop here."])))
    assert len(chunks) == 2
    assert min(chunk.tokens for chunk in chunks) > PLAIN.max_tokens // 4


@pytest.mark.parametrize("max_tokens", range(40, 80, 5))
def test_a_table_is_cut_between_rows_and_carries_its_header_as_context(max_tokens: int) -> None:
    rows = [f"drug{number} | {number} mg | twice a day" for number in range(20)]
    table = Element("Table", "\n".join(["name | dose | when", *rows]), ("Doses",))
    chunks = cut([*section(("Doses",)), table], ChunkingSettings(max_tokens=max_tokens, overlap_tokens=20), "Guide")
    assert len(chunks) > 2
    assert [line for chunk in chunks for line in chunk.text.split("\n")] == ["Doses", "", "name | dose | when", *rows]
    assert chunks[0].context == "Guide"
    assert {chunk.context for chunk in chunks[1:]} == {"Guide > Doses\nname | dose | when"}


def test_code_is_cut_between_lines_and_keeps_its_indentation() -> None:
    lines = [f"    total += compute(value_{number})" for number in range(20)]
    chunks = cut([Element("CodeSnippet", "\n".join(["def main():", *lines]))])
    assert len(chunks) > 3
    assert [line for chunk in chunks for line in chunk.text.split("\n")] == ["def main():", *lines]


def test_a_line_of_code_after_a_blank_one_keeps_its_indentation() -> None:
    lines = [line for number in range(20) for line in (f"    total += compute(value_{number})", "")]
    chunks = cut([Element("CodeSnippet", "\n".join(["def main():", *lines]).rstrip())])
    assert len(chunks) > 3
    assert all(chunk.text.startswith(("def", "    total")) for chunk in chunks)


def test_only_a_row_over_the_budget_is_cut_inside() -> None:
    rows = ["a | b", words(80, "cell"), "c | d"]
    chunks = cut([Element("Table", "\n".join(rows))])
    assert chunks[0].text.startswith("a | b\nCell, cell")
    assert chunks[-1].text.endswith("cell.\nc | d")
    assert all(not chunk.text.startswith("|") for chunk in chunks)


def test_whole_sentences_of_the_previous_chunk_are_repeated() -> None:
    sentences = [words(5, animal) for animal in ANIMALS[:12]]
    chunks = cut(prose(" ".join(sentences)), PLAIN.model_copy(update={"overlap_tokens": 15}))
    assert len(chunks) > 2
    for before, after in pairwise(chunks):
        repeated = before.text[after.start - before.start :]
        assert repeated in sentences
        assert after.text.startswith(repeated)


class FourSentencesAreTooMany:
    """One token a word; four sentences together are longer than the sum of their words."""

    max_tokens = 64

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return [len(text.split()) + 2 + (64 if text.count(".") > 3 else 0) for text in texts]


def test_rows_are_not_repeated_and_repeat_nothing() -> None:
    before = prose(" ".join(words(6, animal) for animal in ANIMALS[:5]))
    table = Element("Table", "\n".join(f"drug{number} | {number} mg | once" for number in range(20)))
    after = prose(" ".join(words(24, animal) for animal in ANIMALS[:2]))
    chunks = cut([*before, table, *after], PLAIN.model_copy(update={"overlap_tokens": 15}))
    assert "|" not in chunks[0].text
    assert "|" not in chunks[-1].text
    assert all(before.end <= after.start for before, after in pairwise(chunks))


def test_an_overlap_over_half_a_chunk_is_cut_down_to_that() -> None:
    sentences = [words(5, animal) for animal in ANIMALS]
    chunks = cut(prose(" ".join(sentences)), PLAIN.model_copy(update={"overlap_tokens": 2048}))
    assert all(after.end - before.end > 2 * min(map(len, sentences)) for before, after in pairwise(chunks))


def test_an_overlap_that_would_hold_a_whole_chunk_is_dropped() -> None:
    """The first four sentences turn out too long and are cut in two, after the fifth was given two of them."""
    sentences = [words(15, animal) for animal in ("cat", "dog", "cow", "pig", "bird")]
    limits = PLAIN.model_copy(update={"overlap_tokens": 30})
    chunks = chunk_document(document(prose(" ".join(sentences))), limits, FourSentencesAreTooMany())
    assert [chunk.text for chunk in chunks] == [" ".join(sentences[:2]), " ".join(sentences[2:4]), sentences[4]]


def test_a_chunk_that_turns_out_too_long_gives_up_its_overlap_before_it_is_cut() -> None:
    first = " ".join([words(25, "cat"), words(25, "dog"), words(10, "cow")])
    second = " ".join([words(17, "pig"), words(17, "horse"), words(17, "bird")])
    limits = PLAIN.model_copy(update={"overlap_tokens": 10})
    chunks = chunk_document(document(prose(f"{first} {second}")), limits, FourSentencesAreTooMany())
    assert [chunk.text for chunk in chunks] == [first, second]


def test_nothing_is_repeated_across_sections_or_without_overlap() -> None:
    text = " ".join(words(5, animal) for animal in ANIMALS[:8])
    elements = [*section(("One",), text), *section(("Two",), text)]
    chunks = cut(elements, PLAIN.model_copy(update={"overlap_tokens": 15}))
    second = next(chunk for chunk in chunks if chunk.headings == ("Two",))
    assert second.text.startswith("Two\n\n")
    assert sum(len("".join(chunk.text.split())) for chunk in cut(elements)) == len(
        "".join(document(elements).text.split())
    )


def test_the_context_is_the_title_and_the_headings_that_do_not_open_the_chunk() -> None:
    limits = ChunkingSettings(max_tokens=64, overlap_tokens=0)
    text = " ".join(words(9, animal) for animal in ANIMALS[:8])
    chunks = cut(section(("Guide", "Setup"), text), limits, title="Manual")
    assert chunks[0].context == "Manual > Guide"
    assert chunks[0].embedded_text.startswith("Manual > Guide\nSetup\n\nCat, cat, ")
    assert {chunk.context for chunk in chunks[1:]} == {"Manual > Guide > Setup"}


def test_the_context_does_not_repeat_a_title_that_is_the_first_heading() -> None:
    chunks = cut(prose("Some words.", headings=("GUIDE", "Setup")), ChunkingSettings(), title="Guide")
    assert chunks[0].context == "GUIDE > Setup"


def test_the_context_takes_at_most_a_quarter_of_the_budget() -> None:
    title = "An extraordinarily long and winding title " * 20
    chunk = cut(prose("Some words."), ChunkingSettings(max_tokens=64), title=title)[0]
    assert 8 < wordpiece().count_tokens([chunk.context])[0] - 2 <= 16
    assert f"{title} ".startswith(f"{chunk.context} ")


def test_there_is_no_context_when_it_is_turned_off() -> None:
    assert cut(prose("Some words.", headings=("Setup",)), title="Guide")[0].embedded_text == "Some words."


def test_chunks_say_their_pages_and_kinds() -> None:
    elements = [Element("Title", "Guide", ("Guide",), 3), Element("ListItem", "One.", ("Guide",), 3)]
    chunk = cut([*elements, Element("ListItem", "Two.", ("Guide",), 4)])[0]
    assert (chunk.page, chunk.kinds) == (3, ("Title", "ListItem"))


def test_a_budget_over_the_limit_of_the_model_is_refused_with_the_cure() -> None:
    with pytest.raises(ConfigurationError, match=r"chunking.max_tokens = 512 .* \(256 tokens\).* to 256 or less"):
        cut(prose("Words."), ChunkingSettings(max_tokens=512))
