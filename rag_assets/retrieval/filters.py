"""Metadata filters as people write them: on the command line, and as JSON in golden questions.

===========================  ================================  =========================================================
command line                 JSON                              passes
===========================  ================================  =========================================================
``type=pdf``                 ``{"type": "pdf"}``               equal (of a list: any member)
``type=pdf,docx``            ``{"type": ["pdf", "docx"]}``     equal to one of them
``type!=pdf``                ``{"type": {"!=": "pdf"}}``       not equal (of a list: no member), or missing
``page>=3`` ``date<2024-06`` ``{"page": {">=": 3, "<": 9}}``   numbers as numbers, ISO 8601 dates as dates
``document^=guides/``        ``{"document": {"^=": "…"}}``     begins with it
===========================  ================================  =========================================================

A comma or a backslash that is meant is written ``\\,`` and ``\\\\``. What values have in common: :mod:`rag_assets.stores.conditions`.
"""

import difflib
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, get_args

from rag_assets.errors import ConfigurationError
from rag_assets.models import Condition, Operator
from rag_assets.stores.conditions import date, number

BUILT_IN = ("document", "title", "headings", "page", "kinds", "position", "start", "end", "tokens")
"""Fields that every passage has, whatever its document's metadata."""
MOST_CONDITIONS = 50
MOST_VALUES = 1000
MOST_CHARACTERS = 1000
_OPERATORS: tuple[Operator, ...] = get_args(Operator)
_SEVERAL = ("=", "!=", "^=")
_WRITTEN = re.compile(r"([^=!<>^]*)(!=|<=|>=|\^=|=|<|>)(.*)", re.DOTALL)
_HELP = (
    "Write FIELD=VALUE (several values: FIELD=A,B), FIELD!=VALUE, FIELD<VALUE, FIELD<=VALUE, FIELD>VALUE, FIELD>=VALUE, "
    r"or FIELD^=PREFIX; a comma that is meant is written \, ."
)


def parse_filters(written: Sequence[str]) -> tuple[Condition, ...]:
    """``["type=pdf,docx", "page>=3"]`` as conditions, all of which must hold.

    Raises:
        ConfigurationError: one of them is no filter; says which, why, and what is one.
    """
    conditions = []
    for text in written:
        found = _WRITTEN.fullmatch(text)
        if found is None:
            raise _mistake(text, "it has no operator")
        field, operator, rest = found.group(1).strip(), found.group(2), found.group(3).strip()
        values = _split(rest) if operator in _SEVERAL else [rest]
        if len(values) > 1 and "" in values:
            raise _mistake(text, "one of its values is empty")
        conditions.append(_condition(text, field, operator, values))
    return _bounded(conditions)


def filters_of(stated: Mapping[str, Any] | None) -> tuple[Condition, ...]:
    """The JSON form: an object of field → value, list of values, or object of operator → value or list.

    Raises:
        ConfigurationError: as :func:`parse_filters`.
    """
    return _bounded([condition for field, value in (stated or {}).items() for condition in _stated(field, value)])


def checked_fields(conditions: Sequence[Condition], allowed: Collection[str], *, why: str) -> None:
    """Refuse a field that nobody may filter by, or that does not exist.

    Raises:
        ConfigurationError: names the field, those there are, and the nearest of them; ``why`` says where they come from.
    """
    for condition in conditions:
        if condition.field in allowed:
            continue
        near = difflib.get_close_matches(condition.field, allowed, n=1)
        meant = f" Did you mean {near[0]!r}?" if near else ""
        raise ConfigurationError(
            f"There is no field {condition.field!r} to filter by.{meant} {why}: {', '.join(sorted(allowed)) or 'none'}."
        )


def _stated(field: str, value: Any) -> Iterator[Condition]:
    text = f"{field}: {value!r}"
    if not isinstance(value, Mapping):
        yield _condition(text, field, "=", _texts(text, value))
        return
    if not value:
        raise _mistake(text, "it has no operator")
    for operator, item in value.items():
        yield _condition(text, field, "=" if operator == "in" else operator, _texts(text, item))


def _texts(text: str, value: Any) -> list[str]:
    """JSON scalars as the command line would have them."""
    if isinstance(value, list | tuple):
        return [one for item in value for one in _texts(text, item if not isinstance(item, list | tuple) else None)]
    if isinstance(value, bool):
        return ["true" if value else "false"]
    if isinstance(value, str | int):
        return [str(value)]
    if isinstance(value, float) and value == value and abs(value) < 1e18:
        return [f"{value:.18f}".rstrip("0").rstrip(".") if "e" in repr(value) else repr(value)]
    raise _mistake(text, "its value is no text, number or truth value, nor a list of those")


def _condition(text: str, field: str, operator: str, values: Sequence[str]) -> Condition:
    if operator not in _OPERATORS:
        raise _mistake(text, f"there is no operator {operator!r}; there are {' '.join(_OPERATORS)} and in")
    if not field:
        raise _mistake(text, "it names no field")
    if not values:
        raise _mistake(text, "it has no value")
    if len(values) > MOST_VALUES:
        raise _mistake(text, f"it has {len(values):,} values; {MOST_VALUES:,} are allowed")
    for item in (field, *values):
        if len(item) > MOST_CHARACTERS:
            raise _mistake(text, f"it has a name or value of more than {MOST_CHARACTERS:,} characters")
        if "\x00" in item or any("\ud800" <= character <= "\udfff" for character in item):
            raise _mistake(text, "it has a character that no text has (NUL, or half of a surrogate pair)")
    if operator == "^=" and "" in values:
        raise _mistake(text, "everything begins with nothing")
    if operator not in _SEVERAL:
        if len(values) > 1:
            raise _mistake(text, f"{operator} compares with one value, not {len(values)}")
        if number(values[0]) is None and date(values[0]) is None:
            raise _mistake(
                text, f"{operator} compares numbers (3, -2.5) and ISO dates (2024-06-30), and {values[0]!r} is neither"
            )
    return Condition(field, operator, tuple(dict.fromkeys(values)))


def _split(text: str) -> list[str]:
    r"""At commas, but not at ``\,``; ``\\`` is a backslash, and any other backslash is itself."""
    parts = [""]
    for piece in re.findall(r"\\[\\,]|.", text, re.DOTALL):
        if piece == ",":
            parts.append("")
        else:
            parts[-1] += piece[1] if len(piece) == 2 else piece
    return [part.strip() for part in parts]


def _bounded(conditions: Sequence[Condition]) -> tuple[Condition, ...]:
    if len(conditions) > MOST_CONDITIONS:
        raise ConfigurationError(f"There are {len(conditions)} filters; {MOST_CONDITIONS} are allowed.")
    return tuple(conditions)


def _mistake(text: str, reason: str) -> ConfigurationError:
    shown = text if len(text) <= 100 else text[:100] + "…"
    return ConfigurationError(f"The filter {shown!r} can't be used: {reason}. {_HELP}")
