"""``status``: what there is, in the shape scripts rely on."""

from typing import Any

from rag_assets.database import generations, ledger
from rag_assets.database.ledger import Connection
from rag_assets.runtime import Runtime
from rag_assets.settings.source_urls import described
from rag_assets.stores import pgvector


def describe(runtime: Runtime, first: str) -> dict[str, Any]:
    """Every collection (``first`` first), the database and the embedder."""
    names = sorted(runtime.settings.collections, key=lambda name: (name != first, name))
    with runtime.database.transaction(snapshot=True) as connection:
        collections = [_collection(connection, runtime, name) for name in names]
        server: Any = connection.execute(
            "SELECT current_setting('server_version'), (SELECT extversion FROM pg_extension WHERE extname = 'vector'),"
            " pg_database_size(current_database())"
        ).fetchone()
    return {
        "collections": collections,
        "database": {
            "kind": "PostgreSQL server" if runtime.settings.postgres_url else "embedded",
            "version": server[0],
            "pgvector": server[1],
            "bytes": server[2],
        },
        "embedder": {
            "backend": runtime.embedder.resolved["backend"],
            "model": runtime.embedder.name,
            "fingerprint": runtime.embedder.fingerprint,
            "max_tokens": runtime.embedder.max_tokens,
        },
        "home": str(runtime.settings.home),
    }


def _collection(connection: Connection, runtime: Runtime, name: str) -> dict[str, Any]:
    live = generations.live(connection, name)
    documents: Any = connection.execute("SELECT count(*) FROM document WHERE collection = %s", (name,)).fetchone()
    shards: Any = connection.execute(
        "SELECT bucket %% %s AS shard, count(*) FROM document WHERE collection = %s GROUP BY 1 ORDER BY 1",
        (runtime.settings.sync.shards, name),
    ).fetchall()
    unusable = dict([*ledger.problems(connection, name), *ledger.quarantined(connection, name)])
    return {
        "name": name,
        "source": described(runtime.settings.collection(name).source),
        "documents": documents[0],
        "chunks": pgvector.count(connection, live) if live else 0,
        "store": runtime.settings.store_of(name),
        "live_generation": live.name if live else None,
        "generations": _generations(connection, runtime, name),
        "shards": {f"{shard:02d}": count for shard, count in shards},
        "quarantined": [{"document": uri, "reason": reason} for uri, reason in sorted(unusable.items())],
    }


def generation_rows(runtime: Runtime, collection: str) -> list[dict[str, Any]]:
    """Every retained generation of a collection, newest first, as rows for people."""
    with runtime.database.transaction(snapshot=True) as connection:
        return _generations(connection, runtime, collection)


def _generations(connection: Connection, runtime: Runtime, collection: str) -> list[dict[str, Any]]:
    """``ef_search`` is shown where a generation needs a wider beam than the setting, and then of all."""
    found = generations.all_generations(connection, collection)
    beams = [runtime.beam_of(generation) for generation in found]
    widened = any(beam > runtime.settings.index.ef_search for beam in beams)
    return [
        {**_generation(connection, generation), **({"ef_search": beam} if widened else {})}
        for generation, beam in zip(found, beams, strict=True)
    ]


def _generation(connection: Connection, generation: generations.Generation) -> dict[str, Any]:
    return {
        "id": generation.id,
        "generation": generation.name,
        "state": generation.state,
        "chunks": pgvector.count(connection, generation),
        "bytes": pgvector.size_bytes(connection, generation),
        "created": generation.created_at.isoformat(timespec="seconds"),
        "promoted": generation.promoted_at.isoformat(timespec="seconds") if generation.promoted_at else None,
        "reason": generation.reason,
    }
