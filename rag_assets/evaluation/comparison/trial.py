"""An index to be measured and forgotten: made by the product's own code, in a transaction that is never committed.

The tables it writes are temporary ones of the same names, which hide the real ones from this session alone; documents are read
from the real ones. So the live index and the stored vectors are not touched, nobody waits, and nothing is left behind, however
the process ends.
"""

import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import psycopg
from psycopg import sql

from rag_assets.chunking import Chunk, chunk_document, chunker_fingerprint, identify
from rag_assets.database.generations import Generation, GenerationKey
from rag_assets.database.migrate import SCHEMA
from rag_assets.database.pool import Database
from rag_assets.indexing.chunks import copy_chunks, read_document
from rag_assets.indexing.embeddings import BATCH, checked
from rag_assets.models import Embedder, Vectors
from rag_assets.runtime import Runtime
from rag_assets.settings import ChunkingSettings
from rag_assets.stores import lexical, pgvector
from rag_assets.stores.postgres import PostgresStore
from rag_assets.stores.protocol import Store

Connection = psycopg.Connection[Any]


@dataclass(frozen=True, slots=True)
class Cut:
    """A collection cut and embedded anew."""

    key: GenerationKey
    chunks: Sequence[Chunk]
    tokens: dict[str, int]
    """Tokens by the hash of the text: every text that was embedded."""
    vectors: Vectors
    """Of those texts, in their order."""
    border_texts: int
    """Texts that were embedded only to find where to cut …"""
    border_tokens: int
    """… and their tokens."""
    cut_seconds: float
    embed_seconds: float


def documents_of(runtime: Runtime, collection: str) -> list[str]:
    """Ids of the collection's parsed documents."""
    with runtime.database.transaction(snapshot=True) as connection:
        rows = connection.execute(
            "SELECT doc_id FROM document WHERE collection = %s ORDER BY doc_id", (collection,)
        ).fetchall()
    return [row[0] for row in rows]


def cut_and_embed(runtime: Runtime, collection: str, doc_ids: Sequence[str], settings: ChunkingSettings) -> Cut:
    """Cut documents and embed every different text, without any vector that is stored: what that costs is part of the result."""
    embedder = runtime.embedder
    embedder.warm()
    counting = _CountingEncoder(embedder)
    chunks: list[Chunk] = []
    cut_seconds = 0.0
    for number, doc_id in enumerate(doc_ids):
        with runtime.database.transaction(snapshot=True) as connection:
            found = read_document(connection, doc_id)
        if found is not None:
            began = time.perf_counter()
            chunks += identify(doc_id, chunk_document(found[0], settings, counting))
            cut_seconds += time.perf_counter() - began
        runtime.progress("chunk", number + 1, len(doc_ids))
    texts = {chunk.text_hash: chunk.draft for chunk in chunks}
    # Of equal length together, as everywhere: little is padded then.
    ordered = sorted(texts, key=lambda digest: (texts[digest].tokens, digest))
    vectors: list[Vectors] = []
    began = time.perf_counter()
    for start in range(0, len(ordered), BATCH):
        batch = [texts[digest].embedded_text for digest in ordered[start : start + BATCH]]
        vectors.append(checked(embedder.embed_documents(batch), len(batch), embedder))
        runtime.progress("embed", start + len(batch), len(ordered))
    return Cut(
        GenerationKey(chunker_fingerprint(settings, embedder), embedder.fingerprint, runtime.key(collection).index_fp),
        chunks,
        {digest: texts[digest].tokens for digest in ordered},
        np.concatenate(vectors) if vectors else np.empty((0, embedder.dimension), np.float32),
        counting.texts,
        counting.tokens,
        cut_seconds,
        time.perf_counter() - began,
    )


@contextmanager
def trial_index(runtime: Runtime, collection: str, cut: Cut) -> Iterator[tuple[Runtime, Generation]]:
    """An index of what was cut, and a runtime that finds it: give both to ``search``, with ``exact``, for it has no graph."""
    generation = Generation(
        id=-1 - secrets.randbelow(2**31 - 1),
        collection=collection,
        sequence=0,
        key=cut.key,
        config=runtime.config(collection),
        dimension=runtime.embedder.dimension,
        state="building",
        reason=None,
        created_at=datetime.now(UTC),
        promoted_at=None,
        built_rows=0,
        churned_rows=0,
        rebuild=False,
    )
    with runtime.database.transaction() as connection:
        _hide_tables(connection, generation)
        copy_chunks(connection, cut.key.chunker_fp, cut.chunks)
        _copy_vectors(connection, cut)
        connection.execute("ANALYZE chunk, embedding")
        pgvector.apply(connection, generation, sorted({chunk.doc_id for chunk in cut.chunks}))
        lexical.rebuild(connection, generation)
        yield _TrialRuntime(runtime, connection), generation
        raise psycopg.Rollback


def _hide_tables(connection: Connection, generation: Generation) -> None:
    """Temporary tables in place of those an index is written to."""
    # A plan made before would go on reading the real ones.
    connection.execute("DISCARD PLANS")
    # Analysing and reranking take long between two statements; no row lock is held meanwhile.
    connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
    rows = pgvector.table(generation)
    for name, model in (
        (sql.Identifier("chunk"), "chunk"),
        (sql.Identifier("embedding"), "embedding"),
        (rows, "index_entry"),
        (sql.Identifier("lexical_segment"), "lexical_segment"),
        (sql.Identifier(f"lexical_posting_g{generation.id}"), "lexical_posting"),
    ):
        connection.execute(
            sql.SQL("CREATE TEMP TABLE {} (LIKE {} INCLUDING ALL) ON COMMIT DROP").format(
                name, sql.Identifier(SCHEMA, model)
            )
        )
    connection.execute(sql.SQL("CREATE TEMP VIEW index_entry AS SELECT * FROM {}").format(rows))


def _copy_vectors(connection: Connection, cut: Cut) -> None:
    with connection.cursor().copy("COPY embedding (embedder_fp, text_hash, vector) FROM STDIN (FORMAT BINARY)") as copy:
        copy.set_types(["text", "text", "vector"])
        for digest, vector in zip(cut.tokens, cut.vectors, strict=True):
            copy.write_row((cut.key.embedder_fp, digest, vector))


class _CountingEncoder:
    """An encoder that remembers how much it embedded."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self.max_tokens = embedder.max_tokens
        self.texts = self.tokens = 0

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return self._embedder.count_tokens(texts)

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        self.texts += len(texts)
        self.tokens += sum(self._embedder.count_tokens(texts))
        return self._embedder.embed_documents(texts)


class _OneTransaction(Database):
    """A database whose every transaction is part of one that is open."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @contextmanager
    def transaction(
        self, *, snapshot: bool = False, brief: bool = False, pipelined: bool = False
    ) -> Iterator[Connection]:
        """A savepoint; ``snapshot`` is implied, for nobody else can see the tables, and so nobody waits. Never a pipeline."""
        with self._connection.transaction():
            yield self._connection

    def close(self) -> None:
        """Whoever opened the connection closes it."""


class _TrialRuntime(Runtime):
    """The runtime that searches see."""

    def __init__(self, runtime: Runtime, connection: Connection) -> None:
        super().__init__(runtime.settings, embedder=runtime.embedder, progress=runtime.progress)
        self.__dict__["database"] = _OneTransaction(connection)

    def store_of(self, generation: Generation) -> Store:
        """PostgreSQL: the tables of a trial are nowhere else."""
        return PostgresStore()
