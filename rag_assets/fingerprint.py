"""Hashes: the one place that decides how identity and versions are computed.

All digests are BLAKE2b cut to 128 bits and written as 32 hex digits: collisions are out of reach for any corpus
(2^64 documents for an even chance), and half the width of SHA-256 matters in an index of millions of rows.
"""

import hashlib
import json
from collections.abc import Iterable
from typing import Any

_DIGEST_BYTES = 16


def hash_bytes(data: bytes) -> str:
    """The 32-digit hex digest of ``data``."""
    return hashlib.blake2b(data, digest_size=_DIGEST_BYTES).hexdigest()


def hash_parts(parts: Iterable[str | bytes | int]) -> str:
    """The digest of a sequence of parts; each is length-prefixed, so ``("a", "bc")`` differs from ``("ab", "c")``."""
    digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    for part in parts:
        data = part if isinstance(part, bytes) else str(part).encode("utf-8")
        digest.update(len(data).to_bytes(8, "big"))
        digest.update(data)
    return digest.hexdigest()


def fingerprint(value: Any) -> str:
    """The digest of a JSON-serialisable configuration value; key order does not matter."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, default=str)
    return hash_bytes(text.encode("utf-8"))


def document_id(collection: str, path: bytes) -> str:
    """Identity of a document: its collection and the bytes of its canonical path (never a decoded form of them)."""
    return hash_parts((collection, path))


def text_hash(text: str) -> str:
    """Identity of an embedded text. ``text`` must be normalised (no lone surrogates), else UnicodeEncodeError."""
    return hash_bytes(text.encode("utf-8"))


def chunk_id(doc_id: str, text_digest: str, ordinal: int) -> str:
    """Identity of a chunk: document, text, and ``ordinal`` among equal texts of that document, counted from 0.

    An insertion at the top of a document therefore renames none of the chunks below it.
    """
    return hash_parts((doc_id, text_digest, ordinal))


def bucket_of(doc_id: str) -> int:
    """16 bits of a document id. Stored beside every row, so that changing the number of shards moves nothing."""
    return int(doc_id[:4], 16)


def shard_of(doc_id: str, shards: int) -> int:
    """The shard (0 ≤ shard < ``shards``) of a document."""
    return bucket_of(doc_id) % shards
