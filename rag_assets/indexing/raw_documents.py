"""``raw_documents``: the bytes of a shard's files become parsed text and elements; what can't be parsed is quarantined."""

import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from psycopg.types.json import Jsonb

from rag_assets.database import ledger
from rag_assets.database.ledger import Connection, FileOutcome
from rag_assets.documents.source import FileContent, FileGone, FileUnreadable
from rag_assets.documents.sources import DocumentSource
from rag_assets.errors import UnparsableDocument
from rag_assets.failpoints import failpoint
from rag_assets.fingerprint import bucket_of, fingerprint, shard_of
from rag_assets.indexing.results import StageResult
from rag_assets.models import ParsedDocument
from rag_assets.plan import Change, Kind, Plan
from rag_assets.runtime import Runtime

BATCH = 32
"""Documents parsed between two commits: what a killed run has to do again."""
READS = (Kind.ADDED, Kind.CHANGED, Kind.RENAMED)
"""Changes whose file is read and parsed."""


def prepare(runtime: Runtime, changes: Iterable[Change]) -> None:
    """Start a parsing process and load the model, in the background, if files will be read: both take a good part of a second."""
    read = [change.uri for change in changes if change.kind in READS]
    if read:
        runtime.parsers.warm(read)
        runtime.prepare(runtime.embedder.warm)


def materialize(runtime: Runtime, plan: Plan, shard: int) -> StageResult:
    """Do the shard's part of ``plan``: parse what is new or changed, forget what is gone.

    Written in small transactions, for each document's row says which version it is of: what a killed run had written is
    not done again. A file that vanishes or becomes unreadable meanwhile is left as it was; the next plan judges it again.
    One that was forgotten since the plan was made is not written, also under another name.

    Raises:
        Superseded: another run wrote the shard meanwhile; what was not written yet is dropped.
        RagAssetsError: the server that would embed what is new can't, or has another model; nothing was written.
    """
    started = time.perf_counter()
    collection, shards = plan.collection, runtime.settings.sync.shards
    with runtime.database.transaction() as connection:
        lease = ledger.take_lease(connection, collection, shards, shard)
    work = [change for change in plan.of_shard(shard) if change.kind in READS]
    if work:
        runtime.prove(collection)
    counts = dict.fromkeys(("added", "changed", "removed", "parsed", "quarantined", "metadata_only", "bytes"), 0)
    done, parsed = 0, _parse(runtime, collection, work)
    while batch := list(islice(parsed, BATCH)):
        failpoint("raw_documents.parsed")
        with runtime.database.transaction(brief=True) as connection:
            lease = ledger.spend_lease(connection, lease)
            # The plan may be older than the lease, which therefore fences off no earlier `forget`.
            forgotten = ledger.forgotten(connection, collection)
            wanted = [
                (change, content, outcome)
                for change, content, outcome in batch
                if content is not None and not {change.doc_id, change.previous_doc_id} & forgotten.keys()
            ]
            _write(connection, runtime, collection, wanted, counts)
            failpoint("raw_documents.written")
        done += len(batch)
        runtime.progress("parse", done, len(work))
    gone = _really_gone(runtime, collection, plan, shard)
    failpoint("raw_documents.looked")
    with runtime.database.transaction() as connection:
        if gone:
            ledger.spend_lease(connection, lease)
            ledger.forget_files(connection, gone)
            failpoint("raw_documents.removed")
        counts["removed"] = len(gone)
        return _result(connection, runtime, collection, shard, counts, time.perf_counter() - started)


def _parse(
    runtime: Runtime, collection: str, work: list[Change]
) -> Iterator[tuple[Change, FileContent | None, ParsedDocument | UnparsableDocument | None]]:
    """Read and parse; yields in the order of ``work``. No content: leave the file as it is."""
    source = runtime.source(collection)
    limit = int(runtime.settings.parsing.max_file_mb * 1_000_000)
    read: list[tuple[Change, FileContent | None, UnparsableDocument | None]] = []

    def contents() -> Iterator[tuple[str, bytes]]:
        for change in work:
            try:
                content = source.read(change.path, limit)
            except (FileGone, FileUnreadable):
                read.append((change, None, None))
            except UnparsableDocument as error:
                read.append((change, _hashed_only(source, change), error))
            else:
                read.append((change, content, None))
                yield change.uri, content.data

    parsed = runtime.parsers.parse_many(contents())
    position = 0
    for outcome in parsed:
        while read[position][1] is None or read[position][2] is not None:
            yield read[position]
            position += 1
        change, content, _ = read[position]
        read[position] = (change, None, None)  # lets go of the bytes
        position += 1
        yield change, content, outcome
    yield from read[position:]


def _hashed_only(source: DocumentSource, change: Change) -> FileContent | None:
    """A file that is too big to read: its hash still says whether it changed."""
    try:
        content_hash, size, changed_ns = source.digest(change.path)
    except (FileGone, FileUnreadable):
        return None
    return FileContent(b"", content_hash, size, changed_ns)


def _write(
    connection: Connection,
    runtime: Runtime,
    collection: str,
    read: Sequence[tuple[Change, FileContent, ParsedDocument | UnparsableDocument | None]],
    counts: dict[str, int],
) -> None:
    """Note what became of each file, and the documents that were parsed of them."""
    files: list[FileOutcome] = []
    documents: list[tuple[FileOutcome, ParsedDocument]] = []
    for change, content, outcome in read:
        parsed = isinstance(outcome, ParsedDocument)
        file = FileOutcome(
            doc_id=change.doc_id,
            path=change.path,
            uri=change.uri,
            size=content.size,
            changed_ns=content.changed_ns,
            content_hash=content.content_hash,
            parser_fp=runtime.parser_fp if parsed else runtime.attempt_fp,
            reason=None if parsed else str(outcome),
        )
        files.append(file)
        if isinstance(outcome, ParsedDocument):
            documents.append((file, outcome))
        counts["changed" if change.kind is Kind.CHANGED else "added"] += 1
        counts["bytes"] += content.size
    ledger.record_files(connection, collection, files)
    unparsed = [file.doc_id for file in files if file.reason is not None]
    if unparsed:
        connection.execute("DELETE FROM document WHERE doc_id = ANY(%s)", (unparsed,))
    counts["metadata_only"] += _write_documents(connection, collection, documents)
    counts["parsed"] += len(documents)
    counts["quarantined"] += len(unparsed)


_UPSERT = """
    INSERT INTO document (doc_id, collection, bucket, content_hash, parser_fp, title, elements, metadata,
                          body_hash, document_hash)
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
    ON CONFLICT (doc_id) DO UPDATE SET
        content_hash = EXCLUDED.content_hash, parser_fp = EXCLUDED.parser_fp, title = EXCLUDED.title,
        elements = EXCLUDED.elements, metadata = EXCLUDED.metadata, body_hash = EXCLUDED.body_hash,
        document_hash = EXCLUDED.document_hash
"""


def _write_documents(
    connection: Connection, collection: str, documents: Sequence[tuple[FileOutcome, ParsedDocument]]
) -> int:
    """Upsert parsed documents; returns of how many only the metadata differs from what was there."""
    ids = [file.doc_id for file, _ in documents]
    before = {
        row[0]: (row[1], row[2])
        for row in connection.execute(
            "SELECT doc_id, body_hash, document_hash FROM document WHERE doc_id = ANY(%s)", (ids,)
        ).fetchall()
    }
    rows, only_metadata = [], 0
    for file, parsed in documents:
        body_hash, document_hash = document_hashes(parsed, file.uri)
        had = before.get(file.doc_id)
        only_metadata += had is not None and had[0] == body_hash and had[1] != document_hash
        rows.append(
            (
                file.doc_id,
                collection,
                bucket_of(file.doc_id),
                file.content_hash,
                file.parser_fp,
                parsed.title,
                Jsonb(_elements(parsed)),
                Jsonb(dict(parsed.metadata)),
                body_hash,
                document_hash,
            )
        )
    connection.cursor().executemany(_UPSERT, rows)
    return only_metadata


def document_hashes(parsed: ParsedDocument, uri: str) -> tuple[str, str]:
    """(hash of what chunks are cut from, hash of everything their rows show)."""
    body_hash = fingerprint([parsed.title, _elements(parsed)])
    return body_hash, fingerprint([body_hash, dict(parsed.metadata), uri])


def _elements(parsed: ParsedDocument) -> list[list[Any]]:
    return [[e.kind, e.text, list(e.headings), e.page] for e in parsed.elements]


def _really_gone(runtime: Runtime, collection: str, plan: Plan, shard: int) -> list[str]:
    """Ids of the documents to forget: the second look, by name, at what the listing did not show."""
    source = runtime.source(collection)
    shards = runtime.settings.sync.shards
    gone = [
        change.doc_id
        for change in plan.of_shard(shard)
        if change.kind is Kind.REMOVED and (change.excluded or not source.is_there(change.path))
    ]
    # A rename's origin: its departure was seen in the listing, its content arrives under another name.
    gone += [
        change.previous_doc_id
        for change in plan.changes
        if change.previous_doc_id is not None
        and change.previous_path is not None
        and shard_of(change.previous_doc_id, shards) == shard
        and (change.excluded or not source.is_there(change.previous_path))
    ]
    return gone


def _result(
    connection: Connection, runtime: Runtime, collection: str, shard: int, counts: dict[str, int], seconds: float
) -> StageResult:
    shards = runtime.settings.sync.shards
    parameters = (collection, shards, shard)
    row: Any = connection.execute(
        "SELECT count(*), coalesce(md5(string_agg(doc_id || document_hash, ',' ORDER BY doc_id)), 'empty')"
        " FROM document WHERE collection = %s AND bucket %% %s = %s",
        parameters,
    ).fetchone()
    samples = connection.execute(
        "SELECT s.uri, d.title, jsonb_array_length(d.elements), s.size FROM document d JOIN source_file s USING (doc_id)"
        " WHERE d.collection = %s AND d.bucket %% %s = %s ORDER BY s.uri LIMIT 5",
        parameters,
    ).fetchall()
    return StageResult(
        stage="raw_documents",
        collection=collection,
        shard=shard,
        data_version=row[1],
        code_version=runtime.parser_fp,
        counts={**counts, "unchanged": max(0, row[0] - counts["parsed"]), "documents": row[0]},
        seconds=seconds,
        samples=tuple({"document": s[0], "title": s[1], "elements": s[2], "bytes": s[3]} for s in samples),
        quarantined=tuple(ledger.quarantined(connection, collection, (shards, shard))),
    )
