"""Filters as the server takes them, with exactly what they pass in PostgreSQL.

Equality asks for facts (:func:`objects.facts`), ranges of the whole-number fields for their properties. What the server can't
express like PostgreSQL – ranges of other fields, prefixes, and before 1.33 negations – is looked up there, and becomes a
list of documents, or where a field differs inside a document, of chunks.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from psycopg import sql

from rag_assets.database.generations import Generation
from rag_assets.models import Condition
from rag_assets.stores import pgvector
from rag_assets.stores.conditions import clause, number
from rag_assets.stores.protocol import Connection
from rag_assets.stores.weaviate.connection import NOT
from rag_assets.stores.weaviate.objects import NUMBERS, fact, number_fact

if TYPE_CHECKING:
    from weaviate.collections.classes.filters import _Filters

_OF_CHUNKS = {"headings", "kinds", *NUMBERS}
"""Fields that differ inside a document."""


def made_of(
    connection: Connection, generation: Generation, conditions: Sequence[Condition], version: tuple[int, ...]
) -> "list[_Filters] | None":
    """Filters all of which must hold; None: nothing passes."""
    found: list[_Filters] = []
    looked_up: list[Condition] = []
    for condition in conditions:
        if condition.operator == "=":
            equal = _equal(condition)
            if equal is None:
                return None
            found.append(equal)
        elif condition.operator == "!=" and version >= NOT:
            equal = _equal(condition)
            found += [~equal] if equal is not None else []
        elif condition.field in NUMBERS and condition.operator not in ("^=", "!="):
            bounded = _range(condition)
            if bounded is None:
                return None
            found.append(bounded)
        else:
            looked_up.append(condition)
    if looked_up:
        listed = _looked_up(connection, generation, looked_up)
        if listed is None:
            return None
        found.append(listed)
    return found


def _equal(condition: Condition) -> "_Filters | None":
    """None: no row can be equal."""
    from weaviate.classes.query import Filter

    if condition.field in NUMBERS:
        numbers = [value for text in condition.values if (value := number(text)) is not None]
        whole = [int(value) for value in numbers if value == value.to_integral_value() and abs(value) < 2**53]
        parts = [Filter.by_property(condition.field).equal(value) for value in whole]
        return Filter.any_of(parts) if parts else None
    facts = [fact(condition.field, "text", value) for value in condition.values]
    facts += [fact(condition.field, "truth", value) for value in condition.values if value in ("true", "false")]
    facts += [number_fact(condition.field, value) for text in condition.values if (value := number(text)) is not None]
    return Filter.by_property("facts").contains_any(facts)


def _range(condition: Condition) -> "_Filters | None":
    """Of a field that holds whole numbers; a bound between two is moved to the one that says the same."""
    from weaviate.classes.query import Filter

    bound = number(condition.values[0])
    if bound is None:
        return None
    held = Filter.by_property(condition.field)
    if condition.operator == "<":
        return held.less_than(math.ceil(bound))
    if condition.operator == "<=":
        return held.less_or_equal(math.floor(bound))
    if condition.operator == ">":
        return held.greater_than(math.floor(bound))
    return held.greater_or_equal(math.ceil(bound))


def _looked_up(connection: Connection, generation: Generation, conditions: Sequence[Condition]) -> "_Filters | None":
    from weaviate.classes.query import Filter

    key = "chunk_id" if any(condition.field in _OF_CHUNKS for condition in conditions) else "doc_id"
    condition = clause(conditions)
    statement = sql.SQL("SELECT DISTINCT {} FROM {} WHERE {}").format(
        sql.Identifier(key), pgvector.table(generation), condition.sql
    )
    ids = [row[0] for row in connection.execute(statement, condition.parameters).fetchall()]
    return Filter.by_property(key).contains_any(ids) if ids else None
