"""What judge models replied, kept by what they were asked. Replies quote documents, and go with any one of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psycopg

Connection = psycopg.Connection[Any]


@dataclass(frozen=True, slots=True)
class StoredReply:
    """One reply of a judge."""

    model: str
    """``model_name`` of the model that replied."""
    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float | None
    """None: no price is known."""


def find(connection: Connection, key: str) -> StoredReply | None:
    """The reply kept under a key."""
    row = connection.execute(
        "SELECT model, reply, finish_reason, prompt_tokens, completion_tokens, cost_usd FROM judgement WHERE key = %s",
        (key,),
    ).fetchone()
    return StoredReply(*row) if row else None


def keep(connection: Connection, key: str, reply: StoredReply, collection: str, documents: Sequence[str]) -> bool:
    """Keep a reply with the documents it may quote; not one of a document that was forgotten meanwhile.

    Returns whether it is kept.
    """
    # Waits for a ``forget`` that is at work, and sees what it forgot.
    connection.execute("LOCK TABLE judgement IN ROW EXCLUSIVE MODE")
    if connection.execute(
        "SELECT 1 FROM forgotten WHERE collection = %s AND uri = ANY(%s) LIMIT 1", (collection, list(documents))
    ).fetchone():
        return False
    connection.execute(
        "INSERT INTO judgement (key, model, reply, finish_reason, prompt_tokens, completion_tokens, cost_usd)"
        " VALUES (%s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
        (
            key,
            reply.model,
            # PostgreSQL has no place for NUL in a text.
            reply.text.replace("\0", "\ufffd"),
            reply.finish_reason,
            reply.prompt_tokens,
            reply.completion_tokens,
            reply.cost_usd,
        ),
    )
    connection.execute(
        "INSERT INTO judgement_source (key, collection, document) SELECT %s, %s, unnest(%s::text[])"
        " ON CONFLICT DO NOTHING",
        (key, collection, sorted(set(documents))),
    )
    return True


def forget(connection: Connection, collection: str, document: str) -> int:
    """Delete every reply that may quote a document; returns how many.

    Those of documents that are gone go with them: one may be this document under an earlier name.
    """
    connection.execute("LOCK TABLE judgement IN SHARE ROW EXCLUSIVE MODE")
    return connection.execute(
        """
        DELETE FROM judgement WHERE key IN (
            SELECT q.key FROM judgement_source q WHERE q.collection = %s AND (q.document = %s OR NOT EXISTS (
                SELECT 1 FROM source_file s WHERE s.collection = q.collection AND s.uri = q.document)))
        """,
        (collection, document),
    ).rowcount


def count(connection: Connection, collection: str, document: str) -> int:
    """Replies that may quote a document."""
    row: Any = connection.execute(
        "SELECT count(*) FROM judgement_source WHERE collection = %s AND document = %s", (collection, document)
    ).fetchone()
    return int(row[0])
