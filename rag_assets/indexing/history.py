"""What Dagster's history shows of a document – sample rows on asset pages – and how it is blacked out.

Dagster keeps events as JSON in its own tables, which live in the schema ``dagster`` of the project's database. It has no
interface for changing one, so the tables are changed: every string beside a forgotten document's name is replaced, and so
is the Markdown of every report that quotes it.
"""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from psycopg import sql

from rag_assets.database.ledger import Connection

FORGOTTEN = "(forgotten)"
# (table, its key, the JSON column): events, and the copies of the last one of each asset and check.
_PLACES = (
    ("event_logs", "id", "event"),
    ("asset_keys", "id", "last_materialization"),
    ("asset_check_executions", "id", "evaluation_event"),
)


def black_out_history(connection: Connection, document: str, reports: Iterable[Path] = ()) -> int:
    """Replace what Dagster's history says of a document; returns how many records were changed.

    ``reports`` are the folders of the evaluation reports that quote it: their summaries stand in the history, too.
    """
    changed = 0
    for table, key, column in _PLACES:
        if connection.execute("SELECT to_regclass(%s)", (f"dagster.{table}",)).fetchone() == (None,):
            continue
        names = {
            "table": sql.Identifier("dagster", table),
            "key": sql.Identifier(key),
            "column": sql.Identifier(column),
        }
        changed += _rewrite(connection, names, document, lambda value: _black_out(value, document))
        for folder in reports:
            changed += _rewrite(connection, names, str(folder), _black_out_markdown)
    return changed


def _rewrite(
    connection: Connection, names: dict[str, sql.Identifier], text: str, black_out: Callable[[Any], bool]
) -> int:
    """Apply ``black_out`` to the records that have ``text`` anywhere; returns how many it changed."""
    select = sql.SQL("SELECT {key}, {column}::text FROM {table} WHERE strpos({column}::text, %s) > 0").format(**names)
    update = sql.SQL("UPDATE {table} SET {column} = %s WHERE {key} = %s").format(**names)
    changed = 0
    # Dagster writes JSON in ASCII.
    for row_id, record in connection.execute(select, (json.dumps(text)[1:-1],)).fetchall():
        value = json.loads(record)
        if black_out(value):
            connection.execute(update, (json.dumps(value), row_id))
            changed += 1
    return changed


def _black_out(value: Any, document: str) -> bool:
    """Replace every string of the objects that name the document, and of theirs; returns whether any did."""
    if isinstance(value, list):
        return sum(_black_out(item, document) for item in value) > 0
    if not isinstance(value, dict):
        return False
    if value.get("document") == document:
        value.update({key: FORGOTTEN for key, item in value.items() if isinstance(item, str)})
        return True
    return sum(_black_out(item, document) for item in value.values()) > 0


def _black_out_markdown(value: Any) -> bool:
    """Replace every Markdown text; returns whether there was any."""
    if isinstance(value, list):
        return sum(_black_out_markdown(item) for item in value) > 0
    if not isinstance(value, dict):
        return False
    if isinstance(value.get("md_str"), str):
        value["md_str"] = FORGOTTEN
        return True
    return sum(_black_out_markdown(item) for item in value.values()) > 0
