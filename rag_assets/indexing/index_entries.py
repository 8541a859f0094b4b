"""``index_entries``: the shard's chunks and vectors become rows of the target generation, by difference, in one transaction."""

import time
from typing import Any

from rag_assets.database import generations, ledger
from rag_assets.database.generations import Generation
from rag_assets.database.ledger import Connection
from rag_assets.errors import NotEmbedded
from rag_assets.failpoints import failpoint
from rag_assets.indexing import mirroring
from rag_assets.indexing.results import StageResult, combined
from rag_assets.runtime import Runtime

_STALE = """
    SELECT d.doc_id, d.document_hash FROM document d
    JOIN chunked c ON c.doc_id = d.doc_id AND c.chunker_fp = %(chunker)s AND c.document_hash = d.document_hash
    LEFT JOIN indexed i ON i.doc_id = d.doc_id AND i.generation_id = %(generation)s
    WHERE d.collection = %(collection)s AND d.bucket %% %(shards)s = %(shard)s
      AND i.document_hash IS DISTINCT FROM d.document_hash
    ORDER BY d.doc_id
"""
_GONE = """
    SELECT i.doc_id FROM indexed i
    WHERE i.generation_id = %(generation)s AND i.bucket %% %(shards)s = %(shard)s
      AND NOT EXISTS (SELECT 1 FROM document d WHERE d.doc_id = i.doc_id)
"""
_UNEMBEDDED = """
    SELECT count(*) FROM chunk c WHERE c.chunker_fp = %(chunker)s AND c.doc_id = ANY(%(documents)s)
      AND NOT EXISTS (SELECT 1 FROM embedding e WHERE e.embedder_fp = %(embedder)s AND e.text_hash = c.text_hash)
"""


def materialize(runtime: Runtime, collection: str, shard: int) -> StageResult:
    """Bring the shard's rows of the target generation, and of the live one, up to date; begins the target if need be.

    Raises:
        Superseded: another run wrote the shard meanwhile; nothing was written.
        NotEmbedded: chunks of the shard have no vector yet (``embeddings`` has to run first).
    """
    generations_ = (target_generation(runtime, collection), *runtime.followed(collection))
    return combined([_update(runtime, collection, shard, generation) for generation in generations_])


def _update(runtime: Runtime, collection: str, shard: int, generation: Generation) -> StageResult:
    started = time.perf_counter()
    store = runtime.store_of(generation)
    shards = runtime.settings.sync.shards
    with runtime.database.transaction() as connection:
        lease = ledger.take_lease(connection, collection, shards, shard)
    parameters: dict[str, Any] = {
        "collection": collection,
        "shards": shards,
        "shard": shard,
        "chunker": generation.key.chunker_fp,
        "embedder": generation.key.embedder_fp,
        "generation": generation.id,
    }
    with runtime.database.transaction() as connection:
        stale = connection.execute(_STALE, parameters).fetchall()
        gone = [row[0] for row in connection.execute(_GONE, parameters).fetchall()]
        documents = [row[0] for row in stale]
        _refuse_unembedded(connection, {**parameters, "documents": documents}, shard)
        if stale or gone:
            ledger.spend_lease(connection, lease)
        applied = store.apply(connection, generation, [*documents, *gone])
        failpoint("index_entries.applied")
        _record(connection, generation, stale, gone, applied.added + applied.updated + applied.removed)
        failpoint("index_entries.recorded")
        counts = {
            "added": applied.added,
            "updated": applied.updated,
            "removed": applied.removed,
            "documents": len(stale) + len(gone),
        }
        result = _result(connection, generation, shard, parameters, counts, time.perf_counter() - started)
    if stale or gone:
        mirroring.settle(runtime, generation)
    return result


def target_generation(runtime: Runtime, collection: str) -> Generation:
    """The generation the configuration asks for: the live one if it fits, else the one being built, else a new one."""
    key = runtime.key(collection)
    with runtime.database.transaction() as connection:
        found = generations.find(connection, collection, key)
        dimension = _known_dimension(connection, key.embedder_fp) if found is None else found.dimension
    if found is not None:
        return found
    dimension = dimension or runtime.embedder.dimension
    with runtime.database.transaction() as connection:
        generation = generations.create(connection, collection, key, runtime.config(collection), dimension)
        failpoint("generation.begun")
        runtime.store_of(generation).create(connection, generation)
        return generation


def _known_dimension(connection: Connection, embedder_fp: str) -> int | None:
    """The model's dimension as the vectors already stored show it, which spares loading the model."""
    row = connection.execute(
        "SELECT vector_dims(vector) FROM embedding WHERE embedder_fp = %s LIMIT 1", (embedder_fp,)
    ).fetchone()
    return int(row[0]) if row else None


def _refuse_unembedded(connection: Connection, parameters: dict[str, Any], shard: int) -> None:
    row: Any = connection.execute(_UNEMBEDDED, parameters).fetchone()
    if row[0]:
        raise NotEmbedded(
            f"{row[0]} chunks of shard {shard} of {parameters['collection']!r} have no vector under the current model. "
            "Materialize `embeddings` of this partition first (`rag-assets sync` does both)."
        )


def _record(connection: Connection, generation: Generation, stale: list[Any], gone: list[str], rows: int) -> None:
    """Note which version of each document the generation holds, in the same transaction as its rows."""
    connection.execute("DELETE FROM indexed WHERE generation_id = %s AND doc_id = ANY(%s)", (generation.id, gone))
    connection.execute(
        """
        INSERT INTO indexed (generation_id, doc_id, bucket, document_hash)
        SELECT %s, doc_id, bucket, document_hash FROM document WHERE doc_id = ANY(%s)
        ON CONFLICT (generation_id, doc_id) DO UPDATE SET document_hash = EXCLUDED.document_hash
        """,
        (generation.id, [row[0] for row in stale]),
    )
    if rows:
        generations.note_churn(connection, generation.id, rows)
    if generation.state in ("ready", "refused") and (stale or gone):
        generations.set_state(connection, generation.id, "building", "its documents changed since it was judged")


def _result(
    connection: Connection,
    generation: Generation,
    shard: int,
    parameters: dict[str, Any],
    counts: dict[str, int],
    seconds: float,
) -> StageResult:
    row: Any = connection.execute(
        "SELECT count(*), coalesce(md5(string_agg(e.chunk_id || md5(e.payload::text), ',' ORDER BY e.chunk_id)), 'empty')"
        " FROM index_entry e JOIN indexed i USING (generation_id, doc_id)"
        " WHERE e.generation_id = %(generation)s AND i.bucket %% %(shards)s = %(shard)s",
        parameters,
    ).fetchone()
    return StageResult(
        stage="index_entries",
        collection=generation.collection,
        shard=shard,
        data_version=row[1],
        code_version=generation.key.index_fp,
        counts={**counts, "unchanged": row[0] - counts["added"] - counts["updated"], "rows": row[0]},
        seconds=seconds,
        facts={"generation": generation.name, "generation_state": generation.state},
    )
