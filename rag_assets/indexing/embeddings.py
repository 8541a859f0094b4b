"""``embeddings``: every text of the shard that has no vector under this fingerprint gets one, once.

The table is addressed by content, so batches are committed as they come: a killed run loses at most two batches, and two
runs that embed the same text write the same row.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from psycopg import sql

from rag_assets.database.ledger import Connection
from rag_assets.embedding import quantised
from rag_assets.errors import ConfigurationError, RagAssetsError
from rag_assets.failpoints import failpoint
from rag_assets.indexing.results import StageResult, combined
from rag_assets.models import Embedder, ServedEmbedder, Spent, TokenEmbedder
from rag_assets.runtime import Recipe, Runtime
from rag_assets.stores import token_vectors

BATCH = 256
"""Texts embedded between two commits: a few seconds of work on a small machine."""
TOKEN_BATCH = 64
"""The same for the vectors of tokens, which take a hundred times the room."""
WORTH_MEASURING = 50
"""Fewer texts than this say more about loading the model than about its speed."""
LOOK_SECONDS = 0.2
"""While documents are being cut and too few texts wait, it is looked for more after so long."""

Cutting = Callable[[float], bool]
"""Waits until the shard's documents are cut, so many seconds at most; True while they are not."""


def all_cut(_: float) -> bool:
    """For a shard whose documents were cut before."""
    return False


_CHUNKS = sql.SQL("""
    FROM chunk c JOIN chunked k USING (chunker_fp, doc_id)
    WHERE k.chunker_fp = %(chunker)s AND k.collection = %(collection)s AND k.bucket %% %(shards)s = %(shard)s
""")
_MISSING = sql.SQL("""
    SELECT c.text_hash, max(c.tokens) AS tokens {}
      AND NOT EXISTS (SELECT 1 FROM embedding e WHERE e.embedder_fp = %(embedder)s AND e.text_hash = c.text_hash)
    GROUP BY c.text_hash ORDER BY tokens, c.text_hash
""").format(_CHUNKS)
_WITHOUT_TOKENS = sql.SQL("""
    SELECT c.text_hash {}
      AND NOT EXISTS (SELECT 1 FROM token_vectors t WHERE t.embedder_fp = %(embedder)s AND t.text_hash = c.text_hash)
    GROUP BY c.text_hash ORDER BY max(c.tokens), c.text_hash
""").format(_CHUNKS)
_TEXTS = """
    SELECT DISTINCT ON (text_hash) text_hash,
        CASE context WHEN '' THEN '' ELSE context || E'\\n' END || coalesce(embedded, text)
    FROM chunk WHERE chunker_fp = %s AND text_hash = ANY(%s)
"""


def materialize(runtime: Runtime, collection: str, shard: int, cutting: Cutting = all_cut) -> StageResult:
    """Embed the shard's texts that have no vector yet; with ``cutting`` also those that come meanwhile.

    Raises:
        RagAssetsError: the embedder returned another number of vectors, another dimension, or unusable ones.
    """
    return combined(
        [_update(runtime, collection, shard, recipe, cutting) for recipe in runtime.recipes(collection)],
        summed=("computed", "tokens_embedded"),
    )


def _update(runtime: Runtime, collection: str, shard: int, recipe: Recipe, cutting: Cutting) -> StageResult:
    started = time.perf_counter()
    embedder = recipe.embedder
    parameters = {
        "collection": collection,
        "shards": runtime.settings.sync.shards,
        "shard": shard,
        "chunker": recipe.key.chunker_fp,
        "embedder": recipe.key.embedder_fp,
    }
    before = embedder.spent if isinstance(embedder, ServedEmbedder) else None
    missing, tokens, waited = _embed_missing(runtime, parameters, embedder, cutting)
    if runtime.settings.index.token_vectors and embedder.fingerprint == runtime.embedder.fingerprint:
        _keep_token_vectors(runtime, parameters, embedder)
    with runtime.database.transaction(snapshot=True) as connection:
        seconds = time.perf_counter() - started - waited
        result = _result(connection, collection, shard, parameters, missing, tokens, seconds)
    if before is None or not isinstance(embedder, ServedEmbedder):
        return result
    return replace(result, facts={**result.facts, **_bill(before, embedder.spent)})


def _bill(before: Spent, after: Spent) -> dict[str, Any]:
    """What a server was asked for meanwhile; without a cost where no price is known."""
    known = before.cost_usd is not None and after.cost_usd is not None
    return {
        "server_requests": after.requests - before.requests,
        "server_tokens": after.tokens - before.tokens,
        "cost_usd": round((after.cost_usd or 0) - (before.cost_usd or 0), 6) if known else None,
    }


def embed_lost(runtime: Runtime, collection: str, recipe: Recipe) -> int:
    """Embed the texts of all shards that have chunks but no vector; returns how many there were."""
    parameters = {
        "collection": collection,
        "shards": 1,
        "shard": 0,
        "chunker": recipe.key.chunker_fp,
        "embedder": recipe.key.embedder_fp,
    }
    return _embed_missing(runtime, parameters, recipe.embedder)[0]


def _embed_missing(
    runtime: Runtime, parameters: dict[str, Any], embedder: Embedder, cutting: Cutting = all_cut
) -> tuple[int, int, float]:
    """Embed what has no vector, a batch a transaction; returns how many texts and tokens, and the seconds spent waiting.

    While documents are being cut only whole batches are taken: what is left waits for texts of its length.
    """
    count, tokens, embedding_seconds, waited, pause = 0, 0, 0.0, 0.0, LOOK_SECONDS
    while True:
        began = time.perf_counter()
        # Asked before the texts are read: the last look sees all of them.
        more = cutting(pause)
        waited += time.perf_counter() - began
        with runtime.database.transaction() as connection:
            missing: list[tuple[str, int]] = connection.execute(_MISSING, parameters).fetchall()
        if more:
            del missing[len(missing) // BATCH * BATCH :]
            if missing:
                # Texts of a sync that was killed: the stage before this one may not have had to.
                runtime.prove(parameters["collection"])
        embedding_seconds += _embed_all(runtime, parameters, embedder, [row[0] for row in missing])
        tokens += sum(row[1] for row in missing)
        count += len(missing)
        if not more:
            break
        pause = 0.0 if missing else LOOK_SECONDS
    if count >= WORTH_MEASURING:
        _note_throughput(runtime, embedder.fingerprint, tokens / embedding_seconds)
    return count, tokens, waited


def _embed_all(runtime: Runtime, parameters: dict[str, Any], embedder: Embedder, wanted: Sequence[str]) -> float:
    """Embed texts by their hashes and store them; returns the seconds that the embedder took.

    One thread reads the next batch and writes the last one while a batch is embedded, so that the model waits for neither.
    """
    seconds, stored = 0.0, 0
    batches = [list(wanted[start : start + BATCH]) for start in range(0, len(wanted), BATCH)]
    with ThreadPoolExecutor(1, thread_name_prefix="embeddings") as aside:
        read = [aside.submit(_read, runtime, parameters, batch) for batch in batches[:1]]
        writing: Future[None] | None = None
        for number, batch in enumerate(batches):
            texts = read.pop().result()
            read += [
                aside.submit(_read, runtime, parameters, following) for following in batches[number + 1 : number + 2]
            ]
            began = time.perf_counter()
            vectors = checked(embedder.embed_documents(list(texts.values())), len(texts), embedder)
            seconds += time.perf_counter() - began
            failpoint("embeddings.computed")
            if writing is not None:
                writing.result()
            writing = aside.submit(_write, runtime, embedder.fingerprint, list(texts), vectors)
            stored += len(batch)
            runtime.progress("embed", stored, len(wanted))
        if writing is not None:
            writing.result()
    return seconds


def _read(runtime: Runtime, parameters: dict[str, Any], hashes: list[str]) -> dict[str, str]:
    """The texts that are still there, by hash, in the order of ``hashes``."""
    with runtime.database.transaction() as connection:
        texts = dict(connection.execute(_TEXTS, (parameters["chunker"], hashes)).fetchall())
    return {digest: texts[digest] for digest in hashes if digest in texts}


def _write(runtime: Runtime, embedder_fp: str, hashes: list[str], vectors: npt.NDArray[np.float32]) -> None:
    with runtime.database.transaction(brief=True) as connection:
        _store(connection, embedder_fp, hashes, vectors)
        failpoint("embeddings.written")


def _keep_token_vectors(runtime: Runtime, parameters: dict[str, Any], embedder: Embedder) -> None:
    """Give every text its token vectors, a batch a transaction.

    Raises:
        ConfigurationError: the embedder gives none.
    """
    if not isinstance(embedder, TokenEmbedder):
        raise ConfigurationError(
            f"The embedder {embedder.name!r} gives no token vectors. Set index.token_vectors = false, or use another embedder."
        )
    with runtime.database.transaction() as connection:
        missing = [row[0] for row in connection.execute(_WITHOUT_TOKENS, parameters).fetchall()]
    for start in range(0, len(missing), TOKEN_BATCH):
        batch = missing[start : start + TOKEN_BATCH]
        with runtime.database.transaction() as connection:
            texts = dict(connection.execute(_TEXTS, (parameters["chunker"], batch)).fetchall())
        found = embedder.embed_document_tokens(list(texts.values()))
        packed = {digest: quantised.pack(vectors) for digest, vectors in zip(texts, found, strict=True)}
        with runtime.database.transaction() as connection:
            token_vectors.write(connection, embedder.fingerprint, packed)
        runtime.progress("tokens", start + len(batch), len(missing))


def _note_throughput(runtime: Runtime, embedder_fp: str, tokens_per_second: float) -> None:
    with runtime.database.transaction() as connection:
        connection.execute(
            "INSERT INTO throughput VALUES (%s, %s) ON CONFLICT (embedder_fp) DO UPDATE"
            " SET tokens_per_second = EXCLUDED.tokens_per_second",
            (embedder_fp, tokens_per_second),
        )


def checked(vectors: npt.NDArray[np.float32], expected: int, embedder: Embedder) -> npt.NDArray[np.float32]:
    """The vectors, if they are what was asked for: ``expected`` finite rows of the model's dimension and unit length.

    Raises:
        RagAssetsError: naming the model and what is wrong; nothing is stored then.
    """
    name = embedder.name
    if vectors.shape != (expected, embedder.dimension):
        raise RagAssetsError(
            f"The embedder {name!r} returned an array of shape {vectors.shape} for {expected} texts of dimension "
            f"{embedder.dimension}. Nothing of it was stored."
        )
    norms = np.linalg.norm(vectors, axis=1)
    if not np.all(np.isfinite(norms)) or np.any(np.abs(norms - 1) > 1e-3):
        raise RagAssetsError(f"The embedder {name!r} returned vectors that are not finite and of unit length.")
    return vectors


# Whoever deletes one of these chunks waits, and sees the vector; a chunk that is being deleted counts as gone.
_STILL_WANTED = """
    SELECT wanted.text_hash FROM unnest(%s::text[]) AS wanted (text_hash) CROSS JOIN LATERAL (
        SELECT 1 FROM chunk c WHERE c.text_hash = wanted.text_hash LIMIT 1 FOR KEY SHARE SKIP LOCKED) held
"""


def _store(connection: Connection, embedder_fp: str, hashes: list[str], vectors: npt.NDArray[np.float32]) -> None:
    """Write vectors, but none of a text that was forgotten while it was computed.

    They are sent before anything is locked: the server waits without end for a process that is frozen in the middle of a COPY.
    """
    connection.execute("CREATE TEMP TABLE incoming (LIKE embedding) ON COMMIT DROP")
    with connection.cursor().copy("COPY incoming (embedder_fp, text_hash, vector) FROM STDIN (FORMAT BINARY)") as copy:
        copy.set_types(["text", "text", "vector"])
        for digest, vector in zip(hashes, vectors, strict=True):
            copy.write_row((embedder_fp, digest, vector))
    wanted = [row[0] for row in connection.execute(_STILL_WANTED, (hashes,)).fetchall()]
    connection.execute(
        "INSERT INTO embedding SELECT * FROM incoming WHERE text_hash = ANY(%s) ORDER BY text_hash ON CONFLICT DO NOTHING",
        (wanted,),
    )


def _result(
    connection: Connection,
    collection: str,
    shard: int,
    parameters: dict[str, Any],
    computed: int,
    tokens: int,
    seconds: float,
) -> StageResult:
    row: Any = connection.execute(
        sql.SQL(
            "SELECT count(DISTINCT c.text_hash),"
            " coalesce(md5(string_agg(DISTINCT c.text_hash, ',' ORDER BY c.text_hash)), 'empty') {}"
        ).format(_CHUNKS),
        parameters,
    ).fetchone()
    return StageResult(
        stage="embeddings",
        collection=collection,
        shard=shard,
        data_version=f"{row[1]}-{parameters['embedder'][:12]}",
        code_version=parameters["embedder"],
        counts={"computed": computed, "reused": row[0] - computed, "tokens_embedded": tokens, "texts": row[0]},
        seconds=seconds,
        facts={"texts_per_second": round(computed / seconds, 1) if computed else None},
    )
