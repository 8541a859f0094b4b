"""``hnsw_index``: the graph over a generation's rows, built once after load and maintained by later inserts."""

import time
from typing import Any

from rag_assets.database import generations
from rag_assets.database.generations import Generation
from rag_assets.errors import RagAssetsError
from rag_assets.failpoints import failpoint
from rag_assets.fingerprint import fingerprint
from rag_assets.indexing.results import StageResult
from rag_assets.runtime import Runtime
from rag_assets.stores import pgvector


def materialize(runtime: Runtime, collection: str) -> StageResult:
    """Build the index of the target generation if it has none, and merge what its shards wrote of the lexical one.

    Raises:
        RagAssetsError: no shard has been indexed yet.
    """
    started = time.perf_counter()
    generation = existing_target(runtime, collection)
    runtime.progress("index", 0, 1)
    store = runtime.store_of(generation)
    store.catch_up(runtime.database, generation)
    with runtime.database.transaction() as connection:
        built = store.build(connection, generation, runtime.settings.index)
        failpoint("hnsw_index.built")
        rows = pgvector.count(connection, generation)
        if built:
            generations.note_built(connection, generation.id, rows)
        size = pgvector.size_bytes(connection, generation)
        contents = contents_hash(connection, generation)
    runtime.progress("index", 1, 1)
    return StageResult(
        stage="hnsw_index",
        collection=collection,
        shard=None,
        data_version=fingerprint([contents, generation.key.index_fp]),
        code_version=generation.key.index_fp,
        counts={"rows": rows, "built": int(built), "bytes": size},
        seconds=time.perf_counter() - started,
        facts={"generation": generation.name, "state": generation.state, **generation.config["index"]},
    )


def existing_target(runtime: Runtime, collection: str) -> Generation:
    """The generation the configuration asks for.

    Raises:
        RagAssetsError: it has not been begun.
    """
    generation = runtime.target(collection)
    if generation is None:
        raise RagAssetsError(
            f"Collection {collection!r} has no rows under the current configuration. "
            "Materialize its shards first (`rag-assets sync` does everything)."
        )
    return generation


def contents_hash(connection: Any, generation: Generation) -> str:
    """Hash of which version of which document the generation holds: equal hashes mean equal rows."""
    row = connection.execute(
        "SELECT coalesce(md5(string_agg(doc_id || document_hash, ',' ORDER BY doc_id)), 'empty')"
        " FROM indexed WHERE generation_id = %s",
        (generation.id,),
    ).fetchone()
    return fingerprint([row[0], generation.key.chunker_fp, generation.key.embedder_fp])
