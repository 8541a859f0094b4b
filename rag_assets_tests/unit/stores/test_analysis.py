"""Texts of any script as terms: equal to bm25s in English, deterministic, and never a failure."""

import unicodedata

import bm25s
import pytest
import Stemmer
from hypothesis import given, settings
from hypothesis import strategies as st

from rag_assets.settings import LexicalSettings
from rag_assets.stores import analysis
from rag_assets.stores.analysis import LATIN_LANGUAGES, MAX_TERM_CHARACTERS, UNKNOWN, analyzer, analyzer_fingerprint

AUTO = analyzer(LexicalSettings())

SENTENCES = {
    "english": "The children were playing in the gardens while it was raining, and they did not want to go home.",
    "german": "Die Kinder haben in den Gärten gespielt, während es geregnet hat, und sie wollten nicht nach Hause gehen.",
    "french": "Les enfants ont joué dans les jardins pendant qu'il pleuvait, et ils ne voulaient pas rentrer à la maison.",
    "spanish": "Los niños jugaban en los jardines mientras llovía, y no querían volver a su casa porque les gustaba.",
    "italian": "I bambini giocavano nei giardini mentre pioveva, e non volevano tornare a casa perché erano con gli amici.",
    "portuguese": "As crianças brincavam nos jardins enquanto chovia, e não queriam voltar para a casa com os seus pais.",
    "dutch": "De kinderen speelden in de tuinen terwijl het regende, en zij wilden niet naar huis gaan omdat het leuk was.",
    "swedish": "Barnen lekte i trädgårdarna medan det regnade, och de ville inte gå hem eftersom det var roligt för dem.",
    "danish": "Børnene legede i haverne, mens det regnede, og de ville ikke gå hjem, fordi det havde været sjovt for dem.",
    "finnish": "Lapset leikkivät puutarhoissa, kun satoi, ja he eivät halunneet mennä kotiin, koska se oli hauskaa.",
    "hungarian": "A gyerekek a kertekben játszottak, amikor esett az eső, és nem akartak hazamenni, mert az jó volt.",
    "turkish": "Çocuklar bahçede çok oynadılar ve eve gitmek için hiç acele etmediler, çünkü bu oyun da daha güzeldi.",
}


def terms(text: str, **options: object) -> list[str]:
    return analyzer(LexicalSettings(**options)).analyze(text).terms  # type: ignore[arg-type]


def english(text: str) -> list[str]:
    """What bm25s makes of it."""
    stemmer = Stemmer.Stemmer("english")
    (found,) = bm25s.tokenize([text], stopwords="en", stemmer=stemmer, return_ids=False, show_progress=False)
    return list(found)


@pytest.mark.parametrize(
    "text",
    [
        SENTENCES["english"],
        "TGF-β1 and 17α-hydroxylase, 10² µm, naïve café: it's the user's e-mail_address v2.0",
        "Running runs RUN; a I 5 x 42",
        "",
    ],
)
def test_english_is_what_bm25s_makes_of_it(text: str) -> None:
    assert terms(text) == terms(text, language="english") == english(text)


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(max_codepoint=0x24F), max_size=200).map(lambda text: unicodedata.normalize("NFC", text)))
def test_a_named_language_is_what_bm25s_makes_of_any_latin_text(text: str) -> None:
    text = text.replace("\u00ad", "").replace("İ", "")
    assert terms(text, language="english") == english(text)


@pytest.mark.parametrize("language", SENTENCES)
def test_a_passage_is_stemmed_in_its_own_language(language: str) -> None:
    found = AUTO.analyze(SENTENCES[language])
    assert LATIN_LANGUAGES[found.language - 1] == language
    assert found.terms == terms(SENTENCES[language], language=language)


@pytest.mark.parametrize("text", ["42 17 3.5", "ACME-9000 XLR PSU", "SELECT x FROM y", "", "😀"])
def test_without_function_words_there_is_no_language_and_it_is_stemmed_as_english(text: str) -> None:
    assert AUTO.analyze(text).language == UNKNOWN
    assert AUTO.analyze(text).terms == english(text)


@pytest.mark.parametrize(
    ("text", "question"),
    [
        ("В домах жили старые люди.", "старый дом"),
        ("Τα παιδιά έπαιζαν στους κήπους.", "παιδί κήπος"),
        ("كان الأولاد يلعبون في الحديقة.", "حديقة"),
        ("बच्चे बगीचों में खेल रहे थे।", "बच्चे बगीचों"),
        ("东京是日本的首都。", "日本首都"),
        ("猫が庭で遊んでいました。", "庭で遊ぶ"),
        ("도서관에서 책을 읽었습니다.", "도서관"),
        ("ห้องสมุดแห่งชาติอยู่ในกรุงเทพ", "ห้องสมุด"),
        ("ילדים שיחקו בגן", "בגן"),
        ("ＡＢＣ１２３ ﾊﾝｶｸ", "abc123 ハンカク"),
    ],
)
def test_a_question_finds_the_words_of_its_script(text: str, question: str) -> None:
    asked = AUTO.analyze_query(question, {UNKNOWN: 1})
    assert set(asked) & set(terms(text)), (asked, terms(text))


def test_scripts_without_spaces_give_pairs_and_single_characters_alone() -> None:
    assert terms("东京是首都") == ["东京", "京是", "是首", "首都"]
    assert terms("猫 and 犬") == ["猫", "犬"]
    assert terms("第3章abc") == ["第", "章", "abc"]


def test_words_keep_their_marks() -> None:
    assert terms("हिन्दी", language="none") == ["हिन्दी"]
    assert len(terms("กรุงเทพ")) == len("กรงเทพ") - 1


@pytest.mark.parametrize("text", ["Zürich café Ångström", "가나다 ガギ", "हिन्दी", "ấ ệ"])
def test_composed_and_decomposed_are_the_same(text: str) -> None:
    assert terms(unicodedata.normalize("NFD", text)) == terms(unicodedata.normalize("NFC", text))


def test_a_question_is_in_the_language_its_own_words_speak_among_those_of_the_passages() -> None:
    german, both = {6: 90}, {1: 50, 6: 50}
    assert AUTO.analyze_query("Gärten gehen", german) == terms("Gärten gehen", language="german")
    assert AUTO.analyze_query("die Gärten", both) == terms("die Gärten", language="german")
    assert AUTO.analyze_query("which gardens were they in", both) == terms("which gardens were they in")
    # A few passages in another language don't make a question one of them.
    assert AUTO.analyze_query("los gardens", {1: 99, 11: 1}) == english("los gardens")


def test_the_turkish_capital_i_is_an_i() -> None:
    assert terms("İstanbul") == terms("istanbul")


def test_stop_words_can_be_kept() -> None:
    assert terms("the cat and the hat", stop_words=False) == ["the", "cat", "and", "the", "hat"]
    assert terms("the cat and the hat") == ["cat", "hat"]


def test_a_very_long_word_stays_one_of_its_own() -> None:
    one, other = terms("a" * 5000 + "x"), terms("a" * 5000 + "y")
    assert len(one) == len(other) == 1
    assert one != other
    assert max(len(term) for term in one + other) <= MAX_TERM_CHARACTERS


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=300), st.sampled_from(["auto", "german", "arabic", "none"]))
def test_no_text_fails_and_every_term_can_be_stored(text: str, language: str) -> None:
    chosen = analyzer(LexicalSettings(language=language))
    found = chosen.analyze(text)
    assert found == chosen.analyze(text)
    assert all(term and "\x00" not in term and len(term) <= MAX_TERM_CHARACTERS for term in found.terms)
    "".join(found.terms).encode("utf-8")
    chosen.analyze_query(text, {1: 3, 6: 2})


def test_memory_of_words_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(analysis, "_REMEMBERED", 10)
    chosen = analysis.Analyzer("auto", stop_words=True)
    for number in range(100):
        assert chosen.analyze(f"word{number}").terms == [f"word{number}"]
    assert all(len(known) <= 10 for known in chosen._terms.values())


def test_the_fingerprint_is_of_what_decides_the_terms() -> None:
    base = analyzer_fingerprint(LexicalSettings())
    assert base == analyzer_fingerprint(LexicalSettings(k1=1.2, b=0.5))
    assert len({base, analyzer_fingerprint(LexicalSettings(language="german")),
                analyzer_fingerprint(LexicalSettings(stop_words=False))}) == 3  # fmt: skip
