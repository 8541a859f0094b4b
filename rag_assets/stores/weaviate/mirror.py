"""Is the mirror equal to the rows? Everything is compared: ids, texts, payloads, vectors; and each sampled row is searched for."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rag_assets.database.generations import Generation
from rag_assets.stores.protocol import Connection
from rag_assets.stores.weaviate import rows
from rag_assets.stores.weaviate.connection import WeaviateConnection
from rag_assets.stores.weaviate.objects import SHOWN_PROPERTIES, VECTOR, Entry, entry_of, object_id, same

if TYPE_CHECKING:
    from weaviate.collections import Collection

LOOKED_UP = 200
"""Rows whose own vector is searched for."""
_HITS = 10
_PAGE = 500


@dataclass(frozen=True, slots=True)
class Difference:
    """How the mirror differs from the rows."""

    missing: frozenset[str] = frozenset()
    """Chunk ids of rows that have no object."""
    wrong: frozenset[str] = frozenset()
    """Chunk ids of rows whose object says otherwise."""
    extra: Mapping[str, str] = field(default_factory=dict)
    """Object id -> the chunk id it states, of objects that no row asks for."""

    @property
    def size(self) -> int:
        """All of them together."""
        return len(self.missing) + len(self.wrong) + len(self.extra)


def compare(
    connection: Connection, generation: Generation, server: WeaviateConnection, collection: "Collection[Any, Any]"
) -> Difference:
    """Read every object and every row; objects are compared page by page."""
    absent = set(rows.all_ids(connection, generation))
    wrong: set[str] = set()
    extra: dict[str, str] = {}
    for page in _pages(server, collection):
        wanted = rows.read(connection, generation, [entry.chunk_id for entry in page.values()])
        for name, entry in page.items():
            row = wanted.get(entry.chunk_id)
            if row is None or name != object_id(entry.chunk_id):
                extra[name] = entry.chunk_id
                continue
            absent.discard(entry.chunk_id)
            if not same(entry, row):
                wrong.add(entry.chunk_id)
    return Difference(frozenset(absent), frozenset(wrong), extra)


def unreachable(
    connection: Connection, generation: Generation, server: WeaviateConnection, collection: "Collection[Any, Any]"
) -> tuple[list[str], int]:
    """(chunk ids that a search for their own vector does not find, rows looked up); equal texts stand for each other."""
    sampled = rows.sample(connection, generation, LOOKED_UP)
    missed = []
    for entry in sampled.values():
        with server.explained(f"answer from {generation.name}"):
            answer = collection.query.near_vector(
                entry.vector.tolist(), target_vector=VECTOR, limit=_HITS, return_properties=["chunk_id", "text_hash"]
            )
        if entry.text_hash not in {str(found.properties.get("text_hash")) for found in answer.objects}:
            missed.append(entry.chunk_id)
    return missed, len(sampled)


def _pages(server: WeaviateConnection, collection: "Collection[Any, Any]") -> Iterator[dict[str, Entry]]:
    """Object id -> what it holds, of every object."""
    last = None
    while True:
        with server.explained("list its objects"):
            answer = collection.query.fetch_objects(
                limit=_PAGE, after=last, include_vector=[VECTOR], return_properties=SHOWN_PROPERTIES
            )
        if not answer.objects:
            return
        yield {str(found.uuid): entry_of(found) for found in answer.objects}
        last = answer.objects[-1].uuid
