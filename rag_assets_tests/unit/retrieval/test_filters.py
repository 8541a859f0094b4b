"""Filters as people write them."""

from typing import Any

import pytest

from rag_assets.errors import ConfigurationError
from rag_assets.models import Condition
from rag_assets.retrieval.filters import checked_fields, filters_of, parse_filters


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("type=pdf", ("type", "=", ("pdf",))),
        (" type = pdf ", ("type", "=", ("pdf",))),
        ("type=", ("type", "=", ("",))),
        ("type=pdf,docx", ("type", "=", ("pdf", "docx"))),
        ("type=pdf, docx,pdf", ("type", "=", ("pdf", "docx"))),
        ("type!=pdf,docx", ("type", "!=", ("pdf", "docx"))),
        (r"title=Hello\, World", ("title", "=", ("Hello, World",))),
        (r"path=C:\docs\\,b", ("path", "=", ("C:\\docs\\", "b"))),
        ("page>=3", ("page", ">=", ("3",))),
        ("page<-2.5", ("page", "<", ("-2.5",))),
        ("date<=2024-06", ("date", "<=", ("2024-06",))),
        ("date>2024-06-30 12:00", ("date", ">", ("2024-06-30 12:00",))),
        ("document^=guides/", ("document", "^=", ("guides/",))),
        ("document^=a/,b/", ("document", "^=", ("a/", "b/"))),
        ("formula=a=b>c", ("formula", "=", ("a=b>c",))),
        ("two words=x\ny", ("two words", "=", ("x\ny",))),
    ],
)
def test_the_command_line_form(written: str, expected: tuple[Any, ...]) -> None:
    assert parse_filters([written]) == (Condition(*expected),)


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("word", "'word' can't be used: it has no operator"),
        ("=pdf", "it names no field"),
        ("type=a,,b", "one of its values is empty"),
        ("document^=", "everything begins with nothing"),
        ("page>three", "'three' is neither"),
        ("page>=", "'' is neither"),
        ("page>1e999999999", "is neither"),
        ("page<1,2", "is neither"),
        ("a\x00=b", "NUL"),
        ("a=\ud800", "surrogate"),
        ("a=" + "x" * 1001, "more than 1,000 characters"),
        ("a=" + ",".join(map(str, range(1001))), "1,001 values; 1,000 are allowed"),
    ],
)
def test_what_is_no_filter_is_refused_with_the_reason_and_the_operators(written: str, words: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        parse_filters(["type=pdf", written])
    assert words in str(raised.value)
    assert "FIELD^=PREFIX" in str(raised.value)


def test_more_filters_than_anybody_writes_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="51 filters; 50 are allowed"):
        parse_filters([f"a{n}=b" for n in range(51)])


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        (None, []),
        ({"type": "a,b"}, [("type", "=", ("a,b",))]),
        ({"page": 7, "draft": False, "score": 0.5}, [("page", "=", ("7",)), ("draft", "=", ("false",)), ("score", "=", ("0.5",))]),
        ({"score": {">": 1e-7}}, [("score", ">", ("0.0000001",))]),
        ({"type": ["a", 2]}, [("type", "=", ("a", "2"))]),
        ({"type": {"in": ["a", "b"]}}, [("type", "=", ("a", "b"))]),
        ({"page": {">=": 3, "<": 9}}, [("page", ">=", ("3",)), ("page", "<", ("9",))]),
        ({"type": {"!=": ["a", "b"]}, "document": {"^=": "x/"}}, [("type", "!=", ("a", "b")), ("document", "^=", ("x/",))]),
    ],
)  # fmt: skip
def test_the_json_form(stated: Any, expected: list[Any]) -> None:
    assert filters_of(stated) == tuple(Condition(*one) for one in expected)


@pytest.mark.parametrize(
    ("stated", "words"),
    [
        ({"type": None}, "no text, number or truth value"),
        ({"type": [["a"]]}, "no text, number or truth value"),
        ({"type": float("nan")}, "no text, number or truth value"),
        ({"type": []}, "it has no value"),
        ({"type": {}}, "it has no operator"),
        ({"type": {"like": "a"}}, "there is no operator 'like'"),
        ({"page": {"<": [1, 2]}}, "compares with one value, not 2"),
        ({"": "a"}, "it names no field"),
    ],
)
def test_json_that_is_no_filter_is_refused(stated: Any, words: str) -> None:
    with pytest.raises(ConfigurationError, match=r"can't be used: ") as raised:
        filters_of(stated)
    assert words in str(raised.value)


def test_an_unknown_field_names_the_known_ones_and_the_nearest() -> None:
    filters = parse_filters(["author=x", "langauge=de"])
    checked_fields(filters, ["author", "langauge"], why="Fields")
    with pytest.raises(ConfigurationError, match=r"'langauge'.*'language'\?.*Fields: author, language\."):
        checked_fields(filters, ["language", "author"], why="Fields")
