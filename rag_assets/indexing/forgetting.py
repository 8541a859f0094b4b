"""``forget``: one document leaves every table, generation and cache, and what is left of it is counted as evidence."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from psycopg import sql

from rag_assets.database import generations, judgements, ledger
from rag_assets.database.generations import Generation
from rag_assets.database.ledger import Connection
from rag_assets.errors import ConfigurationError
from rag_assets.failpoints import failpoint
from rag_assets.fingerprint import shard_of
from rag_assets.indexing import mirroring
from rag_assets.indexing.history import black_out_history
from rag_assets.runtime import Runtime

_TABLES = ("source_file", "document", "chunked", "chunk", "indexed", "index_entry")


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What was removed, and the proof that nothing is left."""

    collection: str
    document: str
    removed: Mapping[str, int]
    """Rows by table; ``embedding`` counts vectors of texts that nothing else has, earlier versions included."""
    left: Mapping[str, int]
    """Rows found afterwards by looking again: all zero."""
    evaluations: int
    """Stored evaluations whose passages of the document were blacked out."""
    reports: tuple[str, ...]
    """Report folders that were deleted because they quote it."""
    events: int
    """Records of Dagster's history whose rows about it were blacked out."""
    still_in_source: bool
    """True when the file is still in the source; it is kept out of the index until it is allowed again."""


def forget(runtime: Runtime, collection: str, document: str) -> Forgotten:
    """Remove a document everywhere, in one transaction, and keep it out, also under another name.

    A run that is just writing the document's shard is fenced off: what it has read of it is not written.

    Raises:
        ConfigurationError: no document of that name is known.
    """
    source = runtime.source(collection)
    shards = runtime.settings.sync.shards
    with runtime.database.transaction() as connection:
        row = connection.execute(
            "SELECT doc_id, path, content_hash FROM source_file WHERE collection = %s AND uri = %s",
            (collection, document),
        ).fetchone()
        if row is None:
            raise ConfigurationError(
                f"Collection {collection!r} knows no document {document!r}. Names are paths relative to the source; "
                "`rag-assets search` shows them."
            )
        doc_id, path, content_hash = row[0], bytes(row[1]), row[2]
        ledger.spend_lease(connection, ledger.take_lease(connection, collection, shards, shard_of(doc_id, shards)))
        known = generations.all_generations(connection, collection)
        removed = _remove(runtime, connection, known, doc_id)
        failpoint("forget.removed")
        connection.execute(
            "INSERT INTO forgotten (doc_id, collection, uri, content_hash) VALUES (%s, %s, %s, %s) ON CONFLICT DO NOTHING",
            (doc_id, collection, document, content_hash),
        )
        removed["judgement"] = judgements.forget(connection, collection, document)
        evaluations, reports = _black_out(connection, collection, document)
        events = black_out_history(connection, document, reports)
    for folder in reports:
        _delete_report(folder)
    # A collection that belongs to no generation may hold the document as well.
    mirroring.sweep(runtime, collection, known)
    with runtime.database.transaction(snapshot=True) as connection:
        left = {table: _count(connection, table, doc_id) for table in _TABLES}
        left["judgement"] = judgements.count(connection, collection, document)
    for generation in known:
        for place, count in runtime.store_of(generation).left_of(runtime.database, generation, doc_id).items():
            left[place] = left.get(place, 0) + count
            removed.setdefault(place, 0)
    return Forgotten(
        collection=collection,
        document=document,
        removed=removed,
        left=left,
        evaluations=evaluations,
        reports=tuple(str(folder) for folder in reports),
        events=events,
        still_in_source=source.is_there(path),
    )


def remember(runtime: Runtime, collection: str, document: str) -> bool:
    """Let a forgotten document back in with the next sync; returns whether it was forgotten."""
    with runtime.database.transaction() as connection:
        return bool(
            connection.execute(
                "DELETE FROM forgotten WHERE collection = %s AND uri = %s", (collection, document)
            ).rowcount
        )


def _count(connection: Connection, table: str, doc_id: str) -> int:
    row: Any = connection.execute(
        sql.SQL("SELECT count(*) FROM {} WHERE doc_id = %s").format(sql.Identifier(table)), (doc_id,)
    ).fetchone()
    return int(row[0])


def _remove(runtime: Runtime, connection: Connection, known: Sequence[Generation], doc_id: str) -> dict[str, int]:
    removed = {table: _count(connection, table, doc_id) for table in _TABLES}
    rows = connection.execute(
        "DELETE FROM index_entry WHERE doc_id = %s RETURNING generation_id, chunk_id", (doc_id,)
    ).fetchall()
    for generation in known:
        mine = [row[1] for row in rows if row[0] == generation.id]
        runtime.store_of(generation).forget(connection, generation, doc_id, mine)
    for statement in (
        "DELETE FROM indexed WHERE doc_id = %s",
        "DELETE FROM chunked WHERE doc_id = %s",
        "DELETE FROM source_file WHERE doc_id = %s",
    ):
        connection.execute(statement, (doc_id,))
    # Of all texts, not of the present chunks alone: a vector of an earlier version of the document goes, too.
    removed["embedding"] = delete_unreferenced(connection)
    return removed


def delete_unreferenced(connection: Connection) -> int:
    """Delete the vectors of texts that no chunk and no generation has; returns how many."""
    return connection.execute(
        """
        DELETE FROM embedding e
        WHERE NOT EXISTS (SELECT 1 FROM chunk c WHERE c.text_hash = e.text_hash)
          AND NOT EXISTS (SELECT 1 FROM index_entry i WHERE i.text_hash = e.text_hash)
        """
    ).rowcount


def _black_out(connection: Connection, collection: str, document: str) -> tuple[int, list[Path]]:
    """Empty the passages and quotes of a document in stored evaluations; returns how many, and the reports to delete."""
    rows = connection.execute(
        "SELECT id, result, report FROM evaluation_run WHERE collection = %s AND result::text LIKE %s",
        (collection, f"%{_like(json.dumps(document, ensure_ascii=False)[1:-1])}%"),
    ).fetchall()
    for run_id, result, _ in rows:
        for question in result.get("questions", ()):
            names = {hit["document"] for hit in question.get("retrieved", ())}
            names |= {citation["document"] for citation in question.get("citations", ())}
            for item in (*question.get("retrieved", ()), *question.get("citations", ()), *question.get("relevant", ())):
                if item.get("document") == document:
                    item.update({key: "(forgotten)" for key in ("text", "quote") if item.get(key)})
            if document in names and question.get("answer"):
                question["answer"] = "(forgotten)"
        result.get("documents", {}).pop(document, None)
        connection.execute(
            "UPDATE evaluation_run SET result = %s, report = NULL WHERE id = %s", (json.dumps(result), run_id)
        )
    return len(rows), [Path(report).parent for _, _, report in rows if report]


def _like(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def _delete_report(folder: Path) -> None:
    for name in ("report.html", "report.md", "scores.json", "evaluation.json"):
        (folder / name).unlink(missing_ok=True)
