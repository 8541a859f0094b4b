"""``chunks``: documents whose parsed form is newer than their chunks are cut again."""

import time
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from psycopg import sql
from psycopg.types.json import Jsonb

from rag_assets.chunking import chunk_document, identify
from rag_assets.chunking.identity import Chunk
from rag_assets.database import ledger
from rag_assets.database.ledger import Connection
from rag_assets.failpoints import failpoint
from rag_assets.fingerprint import bucket_of
from rag_assets.indexing.results import StageResult, combined
from rag_assets.models import Element, ParsedDocument
from rag_assets.runtime import Recipe, Runtime

BATCH = 32
"""Documents cut between two commits."""
READ_BYTES = 4_000_000
"""Compressed bytes of parsed text that are read at once; a larger document is read alone."""

_STALE = """
    SELECT d.doc_id FROM document d
    LEFT JOIN chunked c ON c.doc_id = d.doc_id AND c.chunker_fp = %(chunker)s
    WHERE d.collection = %(collection)s AND d.bucket %% %(shards)s = %(shard)s
      AND c.document_hash IS DISTINCT FROM d.document_hash
    ORDER BY d.doc_id
"""
_GONE = """
    SELECT DISTINCT c.doc_id FROM chunked c
    WHERE c.collection = %(collection)s AND c.bucket %% %(shards)s = %(shard)s
      AND NOT EXISTS (SELECT 1 FROM document d WHERE d.doc_id = c.doc_id)
"""
_SIZES = "SELECT doc_id, pg_column_size(elements) FROM document WHERE doc_id = ANY(%s)"
_OF_SHARD = sql.SQL(
    "FROM chunk c JOIN chunked k USING (chunker_fp, doc_id) JOIN source_file s USING (doc_id)"
    " WHERE k.chunker_fp = %(chunker)s AND k.collection = %(collection)s AND k.bucket %% %(shards)s = %(shard)s"
)
_TOTALS = sql.SQL(
    "SELECT count(*), coalesce(sum(tokens), 0), coalesce(array_agg(tokens), '{{}}'),"
    # The id stands for what is embedded; where that is a part of what is shown, the rest can change without it.
    " coalesce(md5(string_agg(c.chunk_id || c.position || CASE WHEN c.embedded IS NULL THEN '' ELSE md5(c.text) END,"
    " ',' ORDER BY c.chunk_id)), 'empty') {}"
).format(_OF_SHARD)
_SAMPLES = sql.SQL("SELECT s.uri, c.headings, c.tokens, c.text {} ORDER BY s.uri, c.position LIMIT 5").format(_OF_SHARD)


def materialize(runtime: Runtime, collection: str, shard: int) -> StageResult:
    """Cut the shard's stale documents, for the wanted index and for the live one; drop the chunks of what is gone.

    Raises:
        Superseded: another run wrote the shard meanwhile; nothing was written.
        ConfigurationError: the chunk size is more than the embedder reads.
    """
    recipes = {recipe.key.chunker_fp: recipe for recipe in runtime.recipes(collection)}
    return combined([_update(runtime, collection, shard, recipe) for recipe in recipes.values()])


def _update(runtime: Runtime, collection: str, shard: int, recipe: Recipe) -> StageResult:
    started = time.perf_counter()
    shards, chunker_fp = runtime.settings.sync.shards, recipe.key.chunker_fp
    parameters = {"collection": collection, "shards": shards, "shard": shard, "chunker": chunker_fp}
    with runtime.database.transaction() as connection:
        lease = ledger.take_lease(connection, collection, shards, shard)
        stale = [row[0] for row in connection.execute(_STALE, parameters).fetchall()]
        gone = [row[0] for row in connection.execute(_GONE, parameters).fetchall()]
    if stale:
        runtime.prove(collection)
    counts = {"added": 0, "removed": 0, "unchanged": 0, "documents": len(stale)}
    done, cut = 0, _cut(runtime, recipe, stale)
    while batch := list(islice(cut, BATCH)):
        failpoint("chunks.cut")
        with runtime.database.transaction(brief=True) as connection:
            # Sent before anything is locked: the server waits without end for a process that is frozen in the middle of a COPY.
            connection.execute("CREATE TEMP TABLE cut (LIKE chunk) ON COMMIT DROP")
            copy_chunks(connection, chunker_fp, [chunk for _, _, chunks in batch for chunk in chunks], into="cut")
            lease = ledger.spend_lease(connection, lease)
            _replace(connection, collection, chunker_fp, batch, counts)
            failpoint("chunks.written")
        done += len(batch)
        runtime.progress("chunk", done, len(stale))
    with runtime.database.transaction() as connection:
        if gone:
            ledger.spend_lease(connection, lease)
            counts["removed"] += _drop(connection, chunker_fp, gone)
        return _result(connection, collection, shard, parameters, counts, time.perf_counter() - started)


def _cut(runtime: Runtime, recipe: Recipe, doc_ids: Sequence[str]) -> Iterator[tuple[str, str, list[Chunk]]]:
    """What each document is cut into: computed outside any transaction, for a large document takes long."""
    for doc_id, document, document_hash in _documents(runtime, doc_ids):
        yield doc_id, document_hash, identify(doc_id, chunk_document(document, recipe.chunking, recipe.embedder))


def _documents(runtime: Runtime, doc_ids: Sequence[str]) -> Iterator[tuple[str, ParsedDocument, str]]:
    """(id, document, its version), several a statement, as many as need little memory; none for what was dropped meanwhile:
    the lease will say so.
    """
    with runtime.database.transaction(snapshot=True) as connection:
        sizes = dict(connection.execute(_SIZES, (list(doc_ids),)).fetchall())
    batch: list[str] = []
    size = 0
    for doc_id in doc_ids:
        if batch and (len(batch) == BATCH or size + sizes.get(doc_id, 0) > READ_BYTES):
            yield from _read(runtime, batch)
            batch, size = [], 0
        batch.append(doc_id)
        size += sizes.get(doc_id, 0)
    if batch:
        yield from _read(runtime, batch)


def _read(runtime: Runtime, doc_ids: Sequence[str]) -> list[tuple[str, ParsedDocument, str]]:
    with runtime.database.transaction(snapshot=True) as connection:
        return read_documents(connection, doc_ids)


def read_documents(connection: Connection, doc_ids: Sequence[str]) -> list[tuple[str, ParsedDocument, str]]:
    """(id, parsed document, its hash) of those documents that there are, in no particular order."""
    rows = connection.execute(
        "SELECT doc_id, title, elements, metadata, document_hash FROM document WHERE doc_id = ANY(%s)", (list(doc_ids),)
    ).fetchall()
    found = []
    for doc_id, title, elements, metadata, document_hash in rows:
        parts = tuple(Element(kind, text, tuple(headings), page) for kind, text, headings, page in elements)
        found.append((doc_id, ParsedDocument(title, parts, metadata), document_hash))
    return found


def read_document(connection: Connection, doc_id: str) -> tuple[ParsedDocument, str] | None:
    """A parsed document and its hash, as stored; None when there is none of that id."""
    found = read_documents(connection, [doc_id])
    return found[0][1:] if found else None


def _replace(
    connection: Connection,
    collection: str,
    chunker_fp: str,
    cut: Sequence[tuple[str, str, Sequence[Chunk]]],
    counts: dict[str, int],
) -> None:
    doc_ids = [doc_id for doc_id, _, _ in cut]
    rows = connection.execute(
        "SELECT chunk_id FROM chunk WHERE chunker_fp = %s AND doc_id = ANY(%s)", (chunker_fp, doc_ids)
    ).fetchall()
    before, after = {row[0] for row in rows}, {chunk.chunk_id for _, _, chunks in cut for chunk in chunks}
    counts["added"] += len(after - before)
    counts["removed"] += len(before - after)
    counts["unchanged"] += len(before & after)
    connection.execute("DELETE FROM chunked WHERE chunker_fp = %s AND doc_id = ANY(%s)", (chunker_fp, doc_ids))
    connection.execute(
        "INSERT INTO chunked (chunker_fp, doc_id, collection, bucket, document_hash, chunks)"
        " SELECT %s, doc_id, %s, bucket, document_hash, chunks"
        " FROM unnest(%s::text[], %s::int[], %s::text[], %s::int[]) AS cut (doc_id, bucket, document_hash, chunks)",
        (
            chunker_fp,
            collection,
            doc_ids,
            [bucket_of(doc_id) for doc_id in doc_ids],
            [document_hash for _, document_hash, _ in cut],
            [len(chunks) for _, _, chunks in cut],
        ),
    )
    connection.execute("INSERT INTO chunk SELECT * FROM cut")


def copy_chunks(connection: Connection, chunker_fp: str, chunks: Sequence[Chunk], *, into: str = "chunk") -> None:
    """Write chunks as rows of the table ``chunk``, or of one like it."""
    statement = sql.SQL(
        "COPY {} (chunker_fp, chunk_id, doc_id, position, text_hash, text, context, start_offset, end_offset,"
        " headings, page, kinds, tokens, embedded) FROM STDIN (FORMAT BINARY)"
    )
    with connection.cursor().copy(statement.format(sql.Identifier(into))) as copy:
        copy.set_types(
            [
                *("text", "text", "text", "int4", "text", "text", "text", "int4", "int4"),
                *("jsonb", "int4", "jsonb", "int4", "text"),
            ]
        )
        for chunk in chunks:
            draft = chunk.draft
            copy.write_row(
                (
                    chunker_fp,
                    chunk.chunk_id,
                    chunk.doc_id,
                    chunk.position,
                    chunk.text_hash,
                    draft.text,
                    draft.context,
                    draft.start,
                    draft.end,
                    Jsonb(list(draft.headings)),
                    draft.page,
                    Jsonb(list(draft.kinds)),
                    draft.tokens,
                    draft.embedded_part if draft.embedded_span else None,
                )
            )


def _drop(connection: Connection, chunker_fp: str, doc_ids: Sequence[str]) -> int:
    row: Any = connection.execute(
        "SELECT count(*) FROM chunk WHERE chunker_fp = %s AND doc_id = ANY(%s)", (chunker_fp, list(doc_ids))
    ).fetchone()
    connection.execute("DELETE FROM chunked WHERE doc_id = ANY(%s)", (list(doc_ids),))
    return int(row[0])


def _result(
    connection: Connection,
    collection: str,
    shard: int,
    parameters: dict[str, Any],
    counts: dict[str, int],
    seconds: float,
) -> StageResult:
    row: Any = connection.execute(_TOTALS, parameters).fetchone()
    samples = connection.execute(_SAMPLES, parameters).fetchall()
    return StageResult(
        stage="chunks",
        collection=collection,
        shard=shard,
        data_version=row[3],
        code_version=parameters["chunker"],
        counts={**counts, "chunks": row[0], "tokens": int(row[1])},
        seconds=seconds,
        samples=tuple(
            {"text": s[3][:200], "tokens": s[2], "document": s[0], "headings": " › ".join(s[1])} for s in samples
        ),
        lengths=tuple(row[2]),
    )
