"""``reconcile``: compare the real index with the ledger, both ways, and repair what differs in one go.

The ledger can only be wrong about the index if something other than this project wrote to the database, or a fault we do
not know of; this is how either is found, and how it ends.
"""

from dataclasses import dataclass

from psycopg import sql

from rag_assets.database import generations
from rag_assets.database.generations import Generation
from rag_assets.database.ledger import Connection
from rag_assets.fingerprint import shard_of
from rag_assets.indexing import chunks, embeddings, index_entries, mirroring
from rag_assets.indexing.embeddings import embed_lost
from rag_assets.indexing.integrity import LOST_CHUNKS, Integrity, inspect
from rag_assets.runtime import Runtime
from rag_assets.stores import pgvector


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """What was wrong with a generation, and what is wrong with it after the repair."""

    generation: Generation
    before: Integrity
    after: Integrity
    repaired_documents: int
    """Documents whose rows were written again from their chunks and vectors."""
    rebuilt_index: bool
    """True when the HNSW graph was built again because rows could not be reached through it."""
    rebuilt_lexical: bool = False
    """True when posting lists were made again because they were not what the rows' texts give."""


# Documents with any row that is missing, extra or different. Extra rows may belong to no document at all.
_SUSPECT = """
    SELECT k.doc_id FROM chunked k JOIN chunk c USING (chunker_fp, doc_id)
    LEFT JOIN embedding v ON v.embedder_fp = %(embedder)s AND v.text_hash = c.text_hash
    LEFT JOIN {table} e ON e.chunk_id = c.chunk_id
    LEFT JOIN indexed i ON i.generation_id = %(generation)s AND i.doc_id = c.doc_id
    LEFT JOIN document d ON d.doc_id = c.doc_id AND d.document_hash = i.document_hash
    LEFT JOIN source_file s ON s.doc_id = d.doc_id
    WHERE k.chunker_fp = %(chunker)s AND k.collection = %(collection)s
      AND (e.chunk_id IS NULL OR e.text <> c.text OR e.text_hash <> c.text_hash OR e.doc_id <> c.doc_id
           OR v.vector IS NULL OR e.embedding <> v.vector::halfvec
           OR (d.doc_id IS NOT NULL AND e.payload <> {payload}))
    UNION
    SELECT e.doc_id FROM {table} e
    WHERE NOT EXISTS (SELECT 1 FROM chunk c WHERE c.chunker_fp = %(chunker)s AND c.chunk_id = e.chunk_id)
"""


def reconcile(runtime: Runtime, generation: Generation) -> Reconciliation:
    """Make a generation's rows equal to the chunks and vectors the ledger holds; documents that are behind stay a sync's work.

    Vectors that were lost are computed again. Rows of suspect documents are deleted and written again in one transaction,
    so readers see the old rows or the new ones.

    Raises:
        RagAssetsError: the generation's model is not what it was.
    """
    store = runtime.store_of(generation)
    before = inspect(runtime, generation)
    repaired, rebuilt = 0, False
    if before.lost_chunks:
        repaired += _cut_again(runtime, generation)
        before_rewrite = inspect(runtime, generation)
    else:
        before_rewrite = before
    if before_rewrite.missing or before_rewrite.wrong:
        embed_lost(runtime, generation.collection, runtime.recipe_of(generation))
    if before_rewrite.missing or before_rewrite.extra or before_rewrite.wrong:
        with runtime.database.transaction() as connection:
            repaired += _rewrite(runtime, connection, generation)
    if before.unreachable:
        with runtime.database.transaction() as connection:
            store.rebuild_index(connection, generation)
            generations.note_built(connection, generation.id, before.rows)
        rebuilt = True
    if before.faults:
        store.resync(runtime.database, generation)
    after = inspect(runtime, generation) if before.faults else before
    rebuilt_lexical = after.lexical > 0
    if rebuilt_lexical:
        with runtime.database.transaction() as connection:
            store.rebuild_words(connection, generation)
        after = inspect(runtime, generation)
    return Reconciliation(generation, before, after, repaired, rebuilt, rebuilt_lexical)


def _cut_again(runtime: Runtime, generation: Generation) -> int:
    """Cut, embed and index the documents again whose chunks were lost; returns how many."""
    collection, shards = generation.collection, runtime.settings.sync.shards
    parameters = {"chunker": generation.key.chunker_fp, "collection": collection}
    with runtime.database.transaction() as connection:
        lost = [row[0] for row in connection.execute(LOST_CHUNKS, parameters).fetchall()]
        connection.execute(
            "DELETE FROM indexed i USING generation g WHERE g.id = i.generation_id AND g.chunker_fp = %s"
            " AND i.doc_id = ANY(%s)",
            (generation.key.chunker_fp, lost),
        )
        connection.execute(
            "DELETE FROM chunked WHERE chunker_fp = %s AND doc_id = ANY(%s)", (generation.key.chunker_fp, lost)
        )
    for shard in sorted({shard_of(doc_id, shards) for doc_id in lost}):
        for stage in (chunks, embeddings, index_entries):
            stage.materialize(runtime, collection, shard)
    return len(lost)


def _rewrite(runtime: Runtime, connection: Connection, generation: Generation) -> int:
    parameters = {
        "collection": generation.collection,
        "chunker": generation.key.chunker_fp,
        "embedder": generation.key.embedder_fp,
        "generation": generation.id,
    }
    table = pgvector.table(generation)
    rows = connection.execute(
        sql.SQL(_SUSPECT).format(table=table, payload=sql.SQL(pgvector.PAYLOAD)), parameters
    ).fetchall()
    suspects = [row[0] for row in rows]
    runtime.store_of(generation).rewrite(connection, generation, suspects)
    # What the generation is noted to hold must be what it holds: a suspect without chunks is not in it.
    connection.execute(
        "DELETE FROM indexed i WHERE generation_id = %s AND doc_id = ANY(%s)"
        " AND NOT EXISTS (SELECT 1 FROM document d WHERE d.doc_id = i.doc_id)",
        (generation.id, suspects),
    )
    return len(suspects)


def reconcile_live(runtime: Runtime, collection: str) -> Reconciliation | None:
    """Reconcile what answers queries; None when nothing is live."""
    with runtime.database.transaction() as connection:
        live = generations.live(connection, collection)
    if live is None:
        return None
    done = reconcile(runtime, live)
    mirroring.catch_up(runtime, collection)
    return done
