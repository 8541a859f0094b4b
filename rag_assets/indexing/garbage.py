"""``gc``: what nobody can reach any more is deleted – generations, the chunks only they had, the vectors only those had."""

from dataclasses import dataclass

from psycopg import sql

from rag_assets.database import generations
from rag_assets.database.generations import Generation
from rag_assets.database.ledger import Connection
from rag_assets.failpoints import failpoint
from rag_assets.indexing import mirroring
from rag_assets.indexing.forgetting import delete_unreferenced
from rag_assets.indexing.promotion import drop
from rag_assets.runtime import Runtime

_IS_UNUSED = sql.SQL(
    "k.collection = %(collection)s AND k.chunker_fp <> %(wanted)s"
    " AND k.chunker_fp NOT IN (SELECT chunker_fp FROM generation WHERE collection = %(collection)s)"
)
_UNFINISHED = ("building", "ready", "refused", "withdrawn")


@dataclass(frozen=True, slots=True)
class Collected:
    """What was deleted."""

    generations: tuple[str, ...]
    """Names of generations that were neither live, nor kept for rollback, nor what the configuration asks for."""
    chunks: int
    """Chunks cut in a way that no remaining generation uses."""
    outside: tuple[str, ...]
    """What stood in a store outside PostgreSQL and belonged to no generation."""
    vectors: int
    """Vectors of texts that no chunk and no generation has, or of models that no generation uses."""


def collect_garbage(runtime: Runtime, collection: str) -> Collected:
    """Delete what is unreachable in one collection, and unreferenced vectors of all.

    A run that needs a deleted vector computes it again. Collections that are not configured at present are left alone.
    """
    dropped = [*drop(runtime, _abandoned(runtime, collection))]
    live = runtime.live(collection)
    if live is not None:
        with runtime.database.transaction() as connection:
            runtime.store_of(live).optimise(connection, live)
    with runtime.database.transaction() as connection:
        chunks = _drop_chunks(connection, collection, runtime.chunker_fp(collection))
        failpoint("garbage.chunks")
        vectors = _drop_models(connection, runtime.embedder.fingerprint) + delete_unreferenced(connection)
        known = generations.all_generations(connection, collection)
    outside = mirroring.sweep(runtime, collection, known)
    return Collected(tuple(generation.name for generation in dropped), chunks, tuple(outside), vectors)


def _abandoned(runtime: Runtime, collection: str) -> list[Generation]:
    """Retired generations beyond those kept for rollback, and unfinished ones that the configuration does not ask for."""
    key = runtime.key(collection)
    with runtime.database.transaction() as connection:
        live = generations.live(connection, collection)
        found = generations.superfluous(connection, collection, runtime.settings.sync.keep_retired)
        for generation in generations.all_generations(connection, collection):
            same = generation.key == key
            outdated = same and live is not None and live.key == key and generation.state in ("building", "refused")
            if generation.state in _UNFINISHED and (not same or (outdated and not generation.rebuild)):
                found.append(generation)
    return found


def _drop_chunks(connection: Connection, collection: str, wanted: str) -> int:
    parameters = {"collection": collection, "wanted": wanted}
    count = connection.execute(
        sql.SQL("SELECT count(*) FROM chunk c JOIN chunked k USING (chunker_fp, doc_id) WHERE {}").format(_IS_UNUSED),
        parameters,
    ).fetchone()
    connection.execute(sql.SQL("DELETE FROM chunked k WHERE {}").format(_IS_UNUSED), parameters)
    return int(count[0]) if count else 0


def _drop_models(connection: Connection, wanted: str) -> int:
    connection.execute(
        "DELETE FROM embedder_reference WHERE embedder_fp <> %s AND embedder_fp NOT IN (SELECT embedder_fp FROM generation)",
        (wanted,),
    )
    return connection.execute(
        "DELETE FROM embedding WHERE embedder_fp <> %s AND embedder_fp NOT IN (SELECT embedder_fp FROM generation)",
        (wanted,),
    ).rowcount
