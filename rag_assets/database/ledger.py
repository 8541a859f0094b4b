"""The ledger: what was seen of the sources, and which version of each document is where.

Every function takes an open connection and leaves the transaction to its caller.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import psycopg

from rag_assets.errors import Superseded
from rag_assets.fingerprint import bucket_of
from rag_assets.models import SkippedFile, SourceFile
from rag_assets.plan import RETRY, FileState, Have

Connection = psycopg.Connection[Any]


@dataclass(frozen=True, slots=True)
class ShardLease:
    """The version of a shard that a writer has read: its fencing token."""

    collection: str
    shards: int
    shard: int
    version: int
    otherwise_sharded: int
    """Writes to the collection under other numbers of shards: a run from before a re-sharding is fenced off by it."""


@dataclass(frozen=True, slots=True)
class FileOutcome:
    """What became of one file that was read."""

    doc_id: str
    path: bytes
    uri: str
    size: int
    changed_ns: int
    content_hash: str | None
    parser_fp: str
    reason: str | None = None
    """Why it is quarantined; None when it was parsed."""


def ensure_collection(connection: Connection, collection: str) -> None:
    """Make the collection's row if it is not there."""
    connection.execute("INSERT INTO collection (name) VALUES (%s) ON CONFLICT DO NOTHING", (collection,))


def read_have(connection: Connection, collection: str, chunker_fp: str, generation_id: int | None) -> Have:
    """What exists of a collection, judged against one chunker and one generation (None: none exists yet)."""
    rows = connection.execute(
        """
        SELECT s.doc_id, s.path, s.uri, s.size, s.changed_ns,
               CASE WHEN s.state = 'quarantined' OR d.doc_id IS NOT NULL THEN s.content_hash END,
               s.state = 'quarantined', s.parser_fp,
               CASE WHEN d.doc_id IS NULL THEN i.doc_id IS NOT NULL OR c.doc_id IS NOT NULL
                    ELSE d.document_hash IS DISTINCT FROM c.document_hash
                      OR d.document_hash IS DISTINCT FROM i.document_hash END
        FROM source_file s
        LEFT JOIN document d USING (doc_id)
        LEFT JOIN chunked c ON c.doc_id = s.doc_id AND c.chunker_fp = %(chunker)s
        LEFT JOIN indexed i ON i.doc_id = s.doc_id AND i.generation_id = %(generation)s
        WHERE s.collection = %(collection)s
        """,
        {"collection": collection, "chunker": chunker_fp, "generation": generation_id},
    ).fetchall()
    orphans = connection.execute(
        """
        SELECT doc_id FROM indexed WHERE generation_id = %(generation)s
          AND NOT EXISTS (SELECT 1 FROM source_file s WHERE s.doc_id = indexed.doc_id)
        UNION
        SELECT doc_id FROM chunked WHERE collection = %(collection)s
          AND NOT EXISTS (SELECT 1 FROM source_file s WHERE s.doc_id = chunked.doc_id)
        """,
        {"generation": generation_id, "collection": collection},
    ).fetchall()
    return Have(
        files={row[0]: FileState(*row) for row in rows},
        orphans=frozenset(row[0] for row in orphans),
    )


def take_lease(connection: Connection, collection: str, shards: int, shard: int) -> ShardLease:
    """Read the shard's version before doing its work."""
    ensure_collection(connection, collection)
    connection.execute(
        "INSERT INTO shard (collection, shards, shard) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING",
        (collection, shards, shard),
    )
    row = connection.execute(
        """
        SELECT (SELECT version FROM shard WHERE (collection, shards, shard) = (%(collection)s, %(shards)s, %(shard)s)),
               (SELECT coalesce(sum(version), 0) FROM shard WHERE collection = %(collection)s AND shards <> %(shards)s)
        """,
        {"collection": collection, "shards": shards, "shard": shard},
    ).fetchone()
    assert row is not None
    return ShardLease(collection, shards, shard, row[0], int(row[1]))


def spend_lease(connection: Connection, lease: ShardLease) -> ShardLease:
    """Claim the right to write the shard, in the writing transaction; held by the row lock until it ends.

    Returns:
        The lease for the same writer's next transaction.

    Raises:
        Superseded: another run wrote the shard since the lease was taken.
    """
    key = (lease.collection, lease.shards, lease.shard)
    row = connection.execute(
        "UPDATE shard SET version = version + 1"
        " WHERE (collection, shards, shard) = (%s, %s, %s) AND version = %s RETURNING version",
        (*key, lease.version),
    ).fetchone()
    if row is None or _otherwise_sharded(connection, lease) != lease.otherwise_sharded:
        raise Superseded(
            f"Shard {lease.shard} of {lease.collection!r} was written by another run meanwhile. "
            "What this run had not written yet is dropped; run it again if the shard is still out of date."
        )
    return replace(lease, version=row[0])


def writes(connection: Connection, collection: str, shards: int, among: Sequence[int]) -> int:
    """How often some of a collection's shards have been written: it grows while runs are at work on them.

    Runs under another number of shards count whichever shard they write: it may hold the same documents.
    """
    row = connection.execute(
        "SELECT coalesce(sum(version), 0) FROM shard WHERE collection = %s AND (shards <> %s OR shard = ANY(%s))",
        (collection, shards, list(among)),
    ).fetchone()
    assert row is not None
    return int(row[0])


def _otherwise_sharded(connection: Connection, lease: ShardLease) -> int:
    """The locks make two runs under different numbers of shards wait for each other; a deadlock ends one of them."""
    try:
        rows = connection.execute(
            "SELECT version FROM shard WHERE collection = %s AND shards <> %s ORDER BY shards, shard FOR SHARE",
            (lease.collection, lease.shards),
        ).fetchall()
    except psycopg.errors.DeadlockDetected:
        return -1
    return sum(int(row[0]) for row in rows)


def record_files(connection: Connection, collection: str, outcomes: Sequence[FileOutcome]) -> None:
    """Write what became of files."""
    connection.cursor().executemany(
        """
        INSERT INTO source_file
            (doc_id, collection, bucket, path, uri, size, changed_ns, content_hash, state, reason, parser_fp)
        VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
        ON CONFLICT (doc_id) DO UPDATE SET
            uri = EXCLUDED.uri, size = EXCLUDED.size, changed_ns = EXCLUDED.changed_ns,
            content_hash = EXCLUDED.content_hash, state = EXCLUDED.state, reason = EXCLUDED.reason,
            parser_fp = EXCLUDED.parser_fp
        """,
        [
            (
                outcome.doc_id,
                collection,
                bucket_of(outcome.doc_id),
                outcome.path,
                outcome.uri,
                outcome.size,
                outcome.changed_ns,
                outcome.content_hash,
                "parsed" if outcome.reason is None else "quarantined",
                outcome.reason,
                outcome.parser_fp,
            )
            for outcome in outcomes
        ],
    )


def forget_files(connection: Connection, doc_ids: Sequence[str]) -> None:
    """Drop documents from the ledger, and with them what was parsed of them."""
    connection.execute("DELETE FROM source_file WHERE doc_id = ANY(%s)", (list(doc_ids),))


def refresh_stats(connection: Connection, doc_ids: Iterable[tuple[str, SourceFile]]) -> None:
    """Note the size and time of files whose content is unchanged, so that they are not hashed again."""
    connection.cursor().executemany(
        "UPDATE source_file SET size = %s, changed_ns = %s WHERE doc_id = %s",
        [(file.size, file.changed_ns, doc_id) for doc_id, file in doc_ids],
    )


def record_problems(connection: Connection, collection: str, problems: Sequence[SkippedFile]) -> None:
    """Replace the collection's listing problems; writes nothing when they are the same as before."""
    wanted = {(item.path, item.uri, item.reason, item.unreadable) for item in problems}
    rows = connection.execute(
        "SELECT path, uri, reason, unreadable FROM listing_problem WHERE collection = %s", (collection,)
    ).fetchall()
    have = {(bytes(path), uri, reason, unreadable) for path, uri, reason, unreadable in rows}
    cursor = connection.cursor()
    cursor.executemany(
        "DELETE FROM listing_problem WHERE collection = %s AND path = %s",
        [(collection, row[0]) for row in have - wanted],
    )
    cursor.executemany(
        "INSERT INTO listing_problem (collection, path, uri, reason, unreadable) VALUES (%s, %s, %s, %s, %s)",
        [(collection, *row) for row in sorted(wanted - have)],
    )


def quarantined(
    connection: Connection, collection: str, bucket: tuple[int, int] | None = None
) -> list[tuple[str, str]]:
    """(uri, reason) of every file that is not indexed; with ``bucket`` = (shards, shard) of one shard's files only."""
    shards, shard = bucket or (1, 0)
    rows = connection.execute(
        "SELECT uri, reason FROM source_file"
        " WHERE collection = %s AND state = 'quarantined' AND bucket %% %s = %s ORDER BY uri",
        (collection, shards, shard),
    ).fetchall()
    return [(row[0], row[1]) for row in rows]


def problems(connection: Connection, collection: str) -> list[tuple[str, str]]:
    """(uri, reason) of everything the last listing could not use."""
    rows = connection.execute(
        "SELECT uri, reason FROM listing_problem WHERE collection = %s ORDER BY uri", (collection,)
    ).fetchall()
    return [(row[0], row[1]) for row in rows]


def forgotten(connection: Connection, collection: str) -> dict[str, str | None]:
    """Content hash, by id, of the documents a person had removed."""
    rows = connection.execute(
        "SELECT doc_id, content_hash FROM forgotten WHERE collection = %s", (collection,)
    ).fetchall()
    return {row[0]: row[1] for row in rows}


def ask_retry(connection: Connection, collection: str, uris: Sequence[str] | None) -> list[str]:
    """Have quarantined files tried again by the next plan, all of them or those named; returns which."""
    rows = connection.execute(
        "UPDATE source_file SET parser_fp = %(retry)s WHERE collection = %(collection)s AND state = 'quarantined'"
        " AND (%(all)s OR uri = ANY(%(uris)s)) RETURNING uri",
        {"retry": RETRY, "collection": collection, "all": uris is None, "uris": list(uris or ())},
    ).fetchall()
    return sorted(row[0] for row in rows)


def source_version(connection: Connection) -> tuple[str, int]:
    """(hash, number) of every file known, over all collections: the version of the source as it was last read."""
    row = connection.execute(
        "SELECT coalesce(md5(string_agg(doc_id || coalesce(content_hash, ''), ',' ORDER BY doc_id)), 'empty'), count(*)"
        " FROM source_file"
    ).fetchone()
    assert row is not None
    return row[0], row[1]
