import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_assets.documents.normalise import decode_text, normalise_text

ANY_TEXT = st.text(st.characters(exclude_categories=[]))
AWKWARD_TEXT = st.text(st.sampled_from(" \t\r\n\x00\x0b\x0c\x1b\x85\u00ad\u0301\u0316\u2028\u3000\ud800\ufeffae"))


@given(ANY_TEXT | AWKWARD_TEXT, st.booleans())
def test_normalising_twice_is_normalising_once(text: str, keep_spaces: bool) -> None:
    once = normalise_text(text, keep_spaces=keep_spaces)
    assert normalise_text(once, keep_spaces=keep_spaces) == once


@given(ANY_TEXT | AWKWARD_TEXT)
def test_normalised_text_is_text_that_postgres_accepts(text: str) -> None:
    normalised = normalise_text(text)
    normalised.encode("utf-8")
    assert unicodedata.is_normalized("NFC", normalised)
    assert all(char >= " " or char in "\n\t" for char in normalised)
    assert "\n\n\n" not in normalised
    assert "  " not in normalised


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\x00b", "a\ufffdb"),
        ("a\ud800b", "a\ufffdb"),
        ("a\r\nb\rc\u2028d", "a\nb\nc\nd"),
        ("e\u0301", "\u00e9"),
        ("a\x07b\x1b", "ab"),
        ("a  b\u00a0\u00a0c\td", "a b c\td"),
        ("a \n\n\n\n b", "a\n\n b"),
        ("hyphen\u00adation", "hyphenation"),
    ],
)
def test_each_rule_of_normalisation(text: str, expected: str) -> None:
    assert normalise_text(text) == expected


def test_code_keeps_its_indentation() -> None:
    assert normalise_text("def f():\n    return  1", keep_spaces=True) == "def f():\n    return  1"


def test_a_million_combining_marks_are_cut_to_thirty() -> None:
    assert len(normalise_text("a" + "\u0316\u0301" * 500_000)) <= 31


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "utf-16-le", "utf-16-be"])
def test_unicode_files_are_read_with_or_without_a_byte_order_mark(encoding: str) -> None:
    assert decode_text("Hello Wörld, this is text.".encode(encoding)) == "Hello Wörld, this is text."


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("Déjà vu: un café crème à 5°C, naïve façade.", "latin-1"),
        ("It\u2019s \u201cfine\u201d \u2013 50 \u20ac.", "cp1252"),
        ("Привет, мир. Это простой текст на русском языке. " * 3, "cp1251"),
        ("これは日本語のテキストです。" * 10, "shift_jis"),
        ("Wczoraj poszedłem do sklepu, żeby kupić świeży chleb i trochę masła. Pogoda była ładna. " * 2, "cp1250"),
    ],
)
def test_files_of_before_unicode_are_recognised(text: str, encoding: str) -> None:
    assert decode_text(text.encode(encoding)) == text


def test_a_bad_byte_in_utf8_spoils_only_itself() -> None:
    assert decode_text(
        "café \xff crème".encode("latin-1").replace(b"\xe9", "é".encode()).replace(b"\xe8", b"\xc3\xa8")
    ) == ("café \ufffd crème")


@given(st.binary(max_size=200))
def test_decoding_never_fails(data: bytes) -> None:
    normalise_text(decode_text(data)).encode("utf-8")
