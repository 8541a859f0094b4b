"""Bringing the server up to date: what is noted in PostgreSQL is sent in batches, each object's error is handled."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rag_assets.database.generations import Generation
from rag_assets.database.pool import Database
from rag_assets.errors import ConfigurationError, RagAssetsError
from rag_assets.stores.analysis import analyzer
from rag_assets.stores.lexical_segments import settings_of, texts
from rag_assets.stores.protocol import Connection
from rag_assets.stores.weaviate import rows
from rag_assets.stores.weaviate.connection import WeaviateConnection
from rag_assets.stores.weaviate.objects import VECTOR, Entry, object_id, properties

if TYPE_CHECKING:
    from weaviate.collections import Collection

NAMED = 5
"""Objects named in an error."""
_PAUSE = 0.2
"""Seconds before the second attempt; doubled before each further one."""


def send_noted(
    database: Database, generation: Generation, server: WeaviateConnection, collection: "Collection[Any, Any]"
) -> int:
    """Send every noted change; returns how many were. One transaction for each batch, so that what was confirmed stays so.

    Raises:
        RagAssetsError: objects were refused as often as ``attempts`` says, or the server went away. They stay noted.
    """
    last, sent, failed = "", 0, dict[str, str]()
    while True:
        with database.transaction() as connection:
            rows.lock(connection, generation, seconds=silence(server))
            noted = rows.noted(connection, generation, last, server.settings.batch_size)
            if not noted:
                break
            refused = _send(connection, generation, server, collection, list(noted))
            confirmed = {chunk_id: version for chunk_id, version in noted.items() if chunk_id not in refused}
            rows.done(connection, generation, confirmed)
        last = list(noted)[-1]
        sent += len(confirmed)
        failed |= refused
    if failed:
        raise _refusal(generation, server, failed)
    return sent


def silence(server: WeaviateConnection) -> float:
    """The longest a transaction is silent while a batch is sent, in seconds."""
    wanted = server.settings
    # The client itself tries an unavailable server three times, with pauses.
    return 60 + wanted.attempts * 4 * wanted.insert_seconds


def _send(
    connection: Connection,
    generation: Generation,
    server: WeaviateConnection,
    collection: "Collection[Any, Any]",
    chunk_ids: Sequence[str],
) -> dict[str, str]:
    """Upsert the rows that are wanted and delete the others; returns what was refused to the end, and why."""
    wanted = rows.read(connection, generation, chunk_ids)
    waiting = _objects(connection, generation, wanted)
    gone = [chunk_id for chunk_id in chunk_ids if chunk_id not in wanted]
    refused: dict[str, str] = {}
    for attempt in range(server.settings.attempts):
        if attempt:
            time.sleep(_PAUSE * 2 ** (attempt - 1))
        last = attempt + 1 == server.settings.attempts
        refused = _insert(server, collection, list(waiting.values()), last=last)
        refused |= _delete(server, collection, gone, last=last)
        waiting = {chunk_id: made for chunk_id, made in waiting.items() if chunk_id in refused}
        gone = [chunk_id for chunk_id in gone if chunk_id in refused]
        if not refused:
            break
    return refused


def _objects(connection: Connection, generation: Generation, wanted: Mapping[str, Entry]) -> dict[str, Any]:
    from weaviate.classes.data import DataObject

    settings = settings_of(generation)
    assert settings is not None
    analysed = {
        chunk_id: analyzer(settings).analyze(text) for chunk_id, text in texts(connection, generation, list(wanted))
    }
    return {
        chunk_id: DataObject(
            properties=properties(entry, analysed[chunk_id].terms, analysed[chunk_id].language),
            uuid=object_id(chunk_id),
            vector={VECTOR: entry.vector.tolist()},
        )
        for chunk_id, entry in wanted.items()
    }


def _insert(
    server: WeaviateConnection, collection: "Collection[Any, Any]", objects: Sequence[Any], *, last: bool
) -> dict[str, str]:
    """Send objects; returns the chunk ids that were refused, with reasons."""
    from weaviate.exceptions import WeaviateInsertManyAllFailedError

    ids = [made.properties["chunk_id"] for made in objects]

    def send() -> dict[str, str]:
        try:
            answer = collection.data.insert_many(objects)
        except WeaviateInsertManyAllFailedError as error:
            return dict.fromkeys(ids, error.message)
        return {ids[place]: failure.message for place, failure in answer.errors.items()}

    return _attempted(server, f"store {len(ids)} objects", ids, send, last=last)


def _delete(
    server: WeaviateConnection, collection: "Collection[Any, Any]", chunk_ids: Sequence[str], *, last: bool
) -> dict[str, str]:
    from weaviate.classes.query import Filter

    names = {object_id(chunk_id): chunk_id for chunk_id in chunk_ids}

    def send() -> dict[str, str]:
        answer = collection.data.delete_many(Filter.by_id().contains_any(list(names)), verbose=True)
        failed = [item for item in answer.objects or () if not item.successful]
        return {names[str(item.uuid)]: item.error or "not deleted" for item in failed}

    return _attempted(server, f"delete {len(names)} objects", chunk_ids, send, last=last)


def _attempted(
    server: WeaviateConnection,
    what: str,
    chunk_ids: Sequence[str],
    send: Callable[[], dict[str, str]],
    *,
    last: bool,
) -> dict[str, str]:
    """What one request refused. One that failed as a whole may be done by half: all of it is refused, and sent again.

    Raises:
        RagAssetsError: it failed as a whole at the ``last`` attempt, or our credentials are refused.
    """
    if not chunk_ids:
        return {}
    try:
        with server.explained(what, seconds=server.settings.insert_seconds):
            return send()
    except ConfigurationError:
        raise
    except RagAssetsError as error:
        if last:
            raise
        return dict.fromkeys(chunk_ids, str(error))


def _refusal(generation: Generation, server: WeaviateConnection, failed: Mapping[str, str]) -> RagAssetsError:
    shown = "; ".join(f"{chunk_id}: {reason}" for chunk_id, reason in list(failed.items())[:NAMED])
    more = f"; and {len(failed) - NAMED:,} more" if len(failed) > NAMED else ""
    return RagAssetsError(
        f"Weaviate at {server.settings.url} refused {len(failed):,} objects of {generation.name} {server.settings.attempts} times "
        f"({shown}{more}). They stay noted: correct the reason, then run `rag-assets sync` or `rag-assets reconcile`."
    )
