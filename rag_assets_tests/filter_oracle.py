"""What a filter means, in plain Python: what the store is judged by."""

import operator
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from rag_assets.models import Condition

_COMPARE = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
_NUMBER = re.compile(r"[+-]?[0-9]{1,18}(\.[0-9]{1,18})?")
_DATE = re.compile(r"\d{4}(-\d\d(-\d\d(T\d\d[0-9:.Z+-]*)?)?)?", re.ASCII)


def passes(payload: Mapping[str, Any], conditions: Sequence[Condition]) -> bool:
    return all(_passes(payload.get(condition.field), condition) for condition in conditions)


def _passes(stored: Any, condition: Condition) -> bool:
    members = stored if isinstance(stored, list) else [stored]
    pairs = [(member, written) for member in members for written in condition.values]
    if condition.operator == "=":
        return any(_equal(*pair) for pair in pairs)
    if condition.operator == "!=":
        return not any(_equal(*pair) for pair in pairs)
    if condition.operator == "^=":
        return any(isinstance(member, str) and member.startswith(written) for member, written in pairs)
    return any(_in_range(condition.operator, *pair) for pair in pairs)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _equal(stored: Any, written: str) -> bool:
    if isinstance(stored, bool):
        return written == str(stored).lower()
    if _is_number(stored):
        return bool(_NUMBER.fullmatch(written)) and Decimal(repr(stored)) == Decimal(written)
    return isinstance(stored, str) and stored == written


def _in_range(name: str, stored: Any, written: str) -> bool:
    if _is_number(stored):
        return bool(_NUMBER.fullmatch(written)) and bool(_COMPARE[name](Decimal(repr(stored)), Decimal(written)))
    written = written.replace(" ", "T", 1)
    if not (isinstance(stored, str) and _DATE.fullmatch(stored) and _DATE.fullmatch(written)):
        return False
    return bool(_COMPARE[name](stored[: len(written)], written))
