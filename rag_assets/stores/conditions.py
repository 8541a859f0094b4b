"""Filters as SQL on the payload of a generation's rows.

Fields and values travel as parameters, as text or inside JSON; no part of a statement or of a JSON path is made from them. What a stored value
and a written one have in common:

* equality: a text equals the same text, a number the same number (7 is 7.0), a truth value ``true`` or ``false``;
* ranges: numbers compare as numbers; ISO 8601 dates and times as text, as precisely as the filter is written (``<=2024`` has
  all of 2024; time zones are not converted). Everything else never matches a range;
* prefixes: of texts, character by character.

Objects, and lists inside lists, equal nothing.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from psycopg import sql
from psycopg.types.json import Jsonb

from rag_assets.models import Condition

_NUMBER = re.compile(r"[+-]?[0-9]{1,18}(\.[0-9]{1,18})?")
_DATE = "[0-9]{4}(-[0-9]{2}(-[0-9]{2}(T[0-9]{2}[0-9:.Z+-]*)?)?)?"
# What "after 2024" and "up to 2024" mean for 2024-05-01: a date that begins with the other is the same at its precision.
_DATES = {
    "<": "@ < $date",
    "<=": "(@ <= $date || @ starts with $date)",
    ">": "(@ > $date && !(@ starts with $date))",
    ">=": "@ >= $date",
}
DOCUMENT_CHARACTERS = 200
"""How much of a document's name is in the index of names: an entry of it may not have more than 2,704 bytes."""

_EQUAL = sql.SQL("payload @> ANY({equal}::jsonb[])")
_DOCUMENT = sql.SQL(
    "(left(payload ->> 'document', {characters}) LIKE {pattern} AND starts_with(payload ->> 'document', {prefix}))"
)
# Strict: the lax mode of a JSON path looks into lists inside lists.
_PATH = sql.SQL(
    "CASE jsonb_typeof(payload -> {field}::text)"
    " WHEN 'array' THEN jsonb_path_exists(payload -> {field}::text, {members}::jsonpath, {known}::jsonb)"
    " ELSE jsonb_path_exists(payload -> {field}::text, {itself}::jsonpath, {known}::jsonb) END"
)


@dataclass(frozen=True, slots=True)
class Clause:
    """Part of a WHERE, and its named parameters."""

    sql: sql.Composable
    parameters: dict[str, Any]


def number(text: str) -> Decimal | None:
    """A written value as a number, if it is one."""
    return Decimal(text) if _NUMBER.fullmatch(text) else None


def date(text: str) -> str | None:
    """A written value as an ISO 8601 date or time, if it is one: a year, a month, a day or a moment."""
    moment = text.replace(" ", "T", 1)
    return moment if re.fullmatch(_DATE, moment) else None


def indexed(conditions: Sequence[Condition]) -> bool:
    """Whether an index of the payload finds the rows that pass (or few more) without reading all."""
    return any(c.operator == "=" or (c.operator == "^=" and c.field == "document") for c in conditions)


def clause(conditions: Sequence[Condition]) -> Clause:
    """That the payload of a row passes all conditions."""
    made = _Maker()
    return Clause(sql.SQL(" AND ").join([made.part(condition) for condition in conditions]), made.parameters)


class _Maker:
    """Collects parameters under names of their own."""

    def __init__(self) -> None:
        self.parameters: dict[str, Any] = {}

    def _hold(self, value: Any) -> sql.Placeholder:
        name = f"filter_{len(self.parameters)}"
        self.parameters[name] = value
        return sql.Placeholder(name)

    def part(self, condition: Condition) -> sql.Composable:
        if condition.operator == "=":
            return _EQUAL.format(equal=self._hold(_equal(condition)))
        if condition.operator == "!=":
            return sql.SQL("NOT {}").format(_EQUAL.format(equal=self._hold(_equal(condition))))
        if condition.operator == "^=" and condition.field == "document":
            parts = [self._document(prefix) for prefix in condition.values]
            return sql.SQL("({})").format(sql.SQL(" OR ").join(parts))
        test, known = _prefix(condition.values) if condition.operator == "^=" else _range(condition)
        return _PATH.format(
            field=self._hold(condition.field),
            members=self._hold(f"strict $[*] ? ({test})"),
            itself=self._hold(f"strict $ ? ({test})"),
            known=self._hold(known),
        )

    def _document(self, prefix: str) -> sql.Composable:
        pattern = re.sub(r"([\\%_])", r"\\\1", prefix[:DOCUMENT_CHARACTERS]) + "%"
        return _DOCUMENT.format(
            characters=sql.Literal(DOCUMENT_CHARACTERS), pattern=self._hold(pattern), prefix=self._hold(prefix)
        )


def _equal(condition: Condition) -> list[Jsonb]:
    """Objects one of which a payload contains exactly if it has the field with one of the values."""
    key, found = json.dumps(condition.field), []
    for value in condition.values:
        as_number = number(value)
        scalars = [json.dumps(value)]
        scalars += [str(as_number)] if as_number is not None else []
        scalars += [value] if value in ("true", "false") else []
        for scalar in scalars:
            found += [f"{{{key}: {scalar}}}", f"{{{key}: [{scalar}]}}"]
    return [Jsonb(item, dumps=str) for item in found]


def _prefix(values: Sequence[str]) -> tuple[str, Jsonb]:
    test = " || ".join(f"@ starts with $p{number}" for number in range(len(values)))
    return test, Jsonb({f"p{number}": value for number, value in enumerate(values)})


def _range(condition: Condition) -> tuple[str, Jsonb]:
    (value,) = condition.values
    tests, known = [], {}
    if (as_number := number(value)) is not None:
        tests.append(f"@ {condition.operator} $number")
        known["number"] = str(as_number)
    if (as_date := date(value)) is not None:
        tests.append(f'({_DATES[condition.operator]} && @ like_regex "^{_DATE}$")')
        known["date"] = json.dumps(as_date)
    written = ", ".join(f'"{name}": {text}' for name, text in known.items())
    return " || ".join(tests), Jsonb(f"{{{written}}}", dumps=str)
