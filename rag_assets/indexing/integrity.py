"""Does the index hold exactly what the ledger says it should? Counted in the database, both ways."""

from dataclasses import dataclass
from typing import Any

from psycopg import sql

from rag_assets.database.generations import Generation
from rag_assets.errors import RagAssetsError
from rag_assets.runtime import Runtime
from rag_assets.stores import pgvector


@dataclass(frozen=True, slots=True)
class Integrity:
    """Faults found in one generation; all zero is a pass."""

    rows: int
    missing: int
    """Chunks that have no row, and rows that a mirror of them does not have."""
    extra: int
    """Rows that have no chunk, and what a mirror has though there is no row."""
    wrong: int
    """Rows whose text, vector or payload is not the chunk's and its document's, or that a mirror has otherwise."""
    stale_documents: int
    """Documents whose current version is not in the generation, or is not cut, or whose parsed form is gone."""
    unreachable: int
    """Rows that no search for their own vector finds, however widely it looks."""
    looked_up: int
    """Rows that were looked up for that."""
    lost_chunks: int = 0
    """Documents that have not the chunks they were cut into."""
    lexical: int = 0
    """Rows that have no posting lists, or other ones than their text gives, and posting lists that have no row."""

    truncated: int = 0
    """Chunks of more tokens than the model reads, whose end is therefore in no vector."""

    @property
    def faults(self) -> int:
        """All of them together."""
        rows = self.missing + self.extra + self.wrong + self.stale_documents
        return rows + self.unreachable + self.lost_chunks + self.lexical + self.truncated


_MISSING = """
    SELECT count(*) FROM chunk c JOIN chunked k USING (chunker_fp, doc_id)
    WHERE k.chunker_fp = %(chunker)s AND k.collection = %(collection)s
      AND NOT EXISTS (SELECT 1 FROM {table} e WHERE e.chunk_id = c.chunk_id)
"""
_EXTRA = """
    SELECT count(*) FROM {table} e WHERE NOT EXISTS (
        SELECT 1 FROM chunk c WHERE c.chunker_fp = %(chunker)s AND c.chunk_id = e.chunk_id)
"""
_WRONG = """
    SELECT count(*) FROM {table} e
    JOIN chunk c ON c.chunker_fp = %(chunker)s AND c.chunk_id = e.chunk_id
    LEFT JOIN embedding v ON v.embedder_fp = %(embedder)s AND v.text_hash = c.text_hash
    LEFT JOIN indexed i ON i.generation_id = %(generation)s AND i.doc_id = c.doc_id
    LEFT JOIN document d ON d.doc_id = c.doc_id AND d.document_hash = i.document_hash
    LEFT JOIN source_file s ON s.doc_id = d.doc_id
    WHERE e.text <> c.text OR e.text_hash <> c.text_hash OR e.doc_id <> c.doc_id
       OR v.vector IS NULL OR e.embedding <> v.vector::halfvec
       OR (d.doc_id IS NOT NULL AND e.payload <> {payload})
"""
_STALE = """
    SELECT count(*) FROM source_file s
    LEFT JOIN document d USING (doc_id)
    LEFT JOIN indexed i ON i.doc_id = s.doc_id AND i.generation_id = %(generation)s
    LEFT JOIN chunked k ON k.doc_id = s.doc_id AND k.chunker_fp = %(chunker)s
    WHERE s.collection = %(collection)s AND s.state = 'parsed'
      AND (d.doc_id IS NULL OR d.document_hash IS DISTINCT FROM i.document_hash
           OR d.document_hash IS DISTINCT FROM k.document_hash)
"""
_TRUNCATED = """
    SELECT count(*) FROM {table} e
    LEFT JOIN chunk c ON c.chunker_fp = %(chunker)s AND c.chunk_id = e.chunk_id
    WHERE greatest(c.tokens, (e.payload ->> 'tokens')::int) > %(reads)s
"""
LOST_CHUNKS = """
    SELECT k.doc_id FROM chunked k
    WHERE k.chunker_fp = %(chunker)s AND k.collection = %(collection)s AND k.chunks IS NOT NULL
      AND k.chunks <> (SELECT count(*) FROM chunk c WHERE c.chunker_fp = k.chunker_fp AND c.doc_id = k.doc_id)
"""


def inspect(runtime: Runtime, generation: Generation) -> Integrity:
    """Compare a generation with the ledger, the chunks and the vectors, in one snapshot."""
    parameters = {
        "collection": generation.collection,
        "chunker": generation.key.chunker_fp,
        "embedder": generation.key.embedder_fp,
        "generation": generation.id,
        "reads": _reads(runtime, generation),
    }
    names = {
        "table": pgvector.table(generation),
        "payload": sql.SQL(pgvector.PAYLOAD),
    }
    with runtime.database.transaction(snapshot=True) as connection:

        def count(statement: str) -> Any:
            return connection.execute(sql.SQL(statement).format(**names), parameters).fetchone()

        rows = pgvector.count(connection, generation)
        missing, extra, wrong, stale = (count(text)[0] for text in (_MISSING, _EXTRA, _WRONG, _STALE))
        truncated = count(_TRUNCATED)[0]
        lost = len(connection.execute(LOST_CHUNKS, parameters).fetchall())
        found = runtime.store_of(generation).faults(connection, generation)
    return Integrity(
        rows=rows,
        missing=missing + found.missing,
        extra=extra + found.extra,
        wrong=wrong + found.wrong,
        stale_documents=stale,
        unreachable=found.unreachable,
        looked_up=found.looked_up,
        lost_chunks=lost,
        lexical=found.lexical,
        truncated=truncated,
    )


def _reads(runtime: Runtime, generation: Generation) -> int | None:
    """Tokens the generation's model reads; None where that model is gone: no question is answered then."""
    try:
        return runtime.embedder_of(generation).max_tokens
    except RagAssetsError:
        return None
