import pytest

from rag_assets.generation.extractive import MAX_SENTENCE_CHARACTERS, extract_answer, terms
from rag_assets.generation.prompt import ABSTENTION, parse_citations

from .fakes import embed

LEAVE = "Employees get 25 days of annual leave. The canteen opens at noon. Unused leave expires in March."
PARKING = "The garage has forty parking spaces. Bicycles stand in the yard."


def test_the_sentence_that_answers_is_quoted_with_the_number_of_its_passage() -> None:
    answer = extract_answer("How many parking spaces does the garage have?", [LEAVE, PARKING], embed)
    assert answer.text == "The garage has forty parking spaces. [2]"
    assert [(quote.text, quote.passage) for quote in answer.quotes] == [("The garage has forty parking spaces.", 2)]


def test_further_sentences_are_quoted_in_reading_order_when_they_add_to_it() -> None:
    passages = ["Unused annual leave expires in March.", "Annual leave is 25 days. The canteen opens at noon."]
    answer = extract_answer("When does unused annual leave expire?", passages, embed)
    assert answer.text == "Unused annual leave expires in March. [1]"
    passages = ["Annual leave is 25 days.", "Unused annual leave expires in March. The canteen opens at noon."]
    both = extract_answer("When does annual leave expire?", passages, embed)
    assert [quote.passage for quote in both.quotes] == [1, 2]
    assert "canteen" not in both.text


def test_no_more_than_three_sentences_are_quoted() -> None:
    text = " ".join(f"The reactor in hall {name} is safe." for name in ("north", "south", "east", "west", "centre"))
    assert len(extract_answer("Which reactor is safe in which hall?", [text], embed).quotes) == 3


def test_a_repeated_sentence_is_quoted_once() -> None:
    answer = extract_answer("How many parking spaces does the garage have?", [PARKING, PARKING], embed)
    assert [quote.passage for quote in answer.quotes] == [1]


def test_the_better_ranked_passage_wins_between_equal_sentences() -> None:
    passages = ["The north garage has parking spaces.", "The south garage has parking spaces."]
    answer = extract_answer("Which garage has parking spaces?", passages, embed)
    assert answer.quotes[0].passage == 1


@pytest.mark.parametrize("question", ["Who won the football world cup in Uruguay?", "and the of", "", "???"])
def test_it_abstains_when_the_passages_do_not_bear_on_the_question(question: str) -> None:
    answer = extract_answer(question, [LEAVE, PARKING], embed)
    assert (answer.text, answer.quotes) == (ABSTENTION, ())


def test_without_passages_it_abstains_and_embeds_nothing() -> None:
    def never(texts: object) -> object:
        raise AssertionError("embedded")

    assert extract_answer("Why?", [], never).text == ABSTENTION  # type: ignore[arg-type]
    assert extract_answer("Why not today?", ["  \n "], never).text == ABSTENTION  # type: ignore[arg-type]


def test_table_rows_and_list_items_count_as_sentences() -> None:
    table = "| office | phone |\n| Berlin | 4711 |\n| Paris | 4712 |\n- Rome has no phone"
    answer = extract_answer("What is the phone of the Berlin office?", [table], embed)
    assert "| Berlin | 4711 | [1]" in answer.text
    assert "Paris" not in answer.text


def test_the_answer_reads_back_as_its_quotes_even_without_full_stops() -> None:
    table = "| Berlin office | phone 4711 |\n| Paris office | phone 4712 |"
    answer = extract_answer("Which office has which phone?", [table, "- Rome office: no phone"], embed)
    assert [(quote.text, (quote.passage,)) for quote in answer.quotes] == [
        (sentence.text, sentence.passages) for sentence in parse_citations(answer.text, 2)
    ]
    assert len(answer.quotes) == 3


def test_a_long_text_without_full_stops_is_quoted_in_whole_words() -> None:
    words = [f"item{number}" for number in range(400)]
    long = " ".join([*words, "reactor", "temperature", "limit", "900"])
    answer = extract_answer("What is the reactor temperature limit?", [long], embed)
    assert "reactor temperature limit 900" in answer.text
    assert all(len(quote.text) <= MAX_SENTENCE_CHARACTERS for quote in answer.quotes)
    assert all(set(quote.text.split()) <= set(long.split()) for quote in answer.quotes)


def test_a_question_in_a_passage_hands_over_to_the_sentence_after_it() -> None:
    faq = "How do I reset my badge? Hold it against the terminal for ten seconds. The canteen opens at noon."
    answer = extract_answer("How do I reset my badge?", [faq], embed)
    assert answer.text == "Hold it against the terminal for ten seconds. [1]"


def test_marks_inside_a_quote_are_not_taken_for_citations() -> None:
    text = "The garage has forty parking spaces since 1990.[2]"
    answer = extract_answer("How many parking spaces does the garage have?", [text, LEAVE], embed)
    assert {number for sentence in parse_citations(answer.text, 2) for number in sentence.passages} == {1}


def test_terms_ignore_case_stop_words_and_inflection() -> None:
    assert terms("The batteries were CHARGED") == terms("charging a battery")
    assert terms("surrendered") == terms("surrender")
    assert terms("naïve Straße 文字") == {"naïv", "strass", "文", "字"}


def test_a_passage_counts_by_its_rank_not_by_where_it_stands() -> None:
    passages = [
        f"The garage has {count} parking spaces {word}."
        for count, word in zip(
            ("forty", "fifty", "sixty", "ninety"), ("outside", "below", "above", "beside"), strict=True
        )
    ]
    for left_out in range(4):
        ranks = [[(0, 4 if place == left_out else 1)] for place in range(4)]
        quotes = extract_answer("How many parking spaces does the garage have?", passages, embed, ranks).quotes
        assert [quote.passage - 1 for quote in quotes] == [place for place in range(4) if place != left_out]
        joined, starts = " ".join(passages), [sum(len(text) + 1 for text in passages[:place]) for place in range(4)]
        parts = [(start, rank) for start, [(_, rank)] in zip(starts, ranks, strict=True)]
        texts = [
            quote.text
            for quote in extract_answer(
                "How many parking spaces does the garage have?", [joined], embed, [parts]
            ).quotes
        ]
        assert texts == [text for place, text in enumerate(passages) if place != left_out]
