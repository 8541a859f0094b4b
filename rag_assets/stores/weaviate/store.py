"""``store = "weaviate"``: one collection for each generation, an alias for the live one, queries answered by the server alone."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rag_assets.database.generations import Generation
from rag_assets.database.pool import Database
from rag_assets.errors import RagAssetsError
from rag_assets.settings import IndexSettings, Settings
from rag_assets.stores import pgvector
from rag_assets.stores.protocol import Applied, Connection, Faults, Row, Vector
from rag_assets.stores.weaviate import mirror, rows
from rag_assets.stores.weaviate.connection import WeaviateConnection
from rag_assets.stores.weaviate.objects import VECTOR, alias_name, create_collection, object_id, own_prefix
from rag_assets.stores.weaviate.searching import WeaviateSearcher
from rag_assets.stores.weaviate.sending import send_noted, silence

if TYPE_CHECKING:
    from weaviate.collections import Collection

NAME = "weaviate"


class WeaviateStore:
    """A mirror on a Weaviate server of the rows PostgreSQL wants."""

    name = NAME
    beam_is_fixed = True

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._server = WeaviateConnection(settings.weaviate)
        self._installation: str | None = None
        self._languages: dict[int, Mapping[int, int]] = {}

    def check(self) -> str:
        """Connects, or asks again what it is connected to."""
        self._server.check()
        return f"Weaviate {'.'.join(map(str, self._server.version))} at {self._settings.weaviate.url}"

    def create(self, connection: Connection, generation: Generation) -> None:
        """The partition of wanted rows, without an index; the collection is made when the first rows are sent."""
        pgvector.create(connection, generation)

    def drop(self, connection: Connection, generation: Generation) -> None:
        """The wanted rows, and the generation's record; the collection belongs to nothing then."""
        pgvector.drop(connection, generation)

    def apply(self, connection: Connection, generation: Generation, doc_ids: Sequence[str]) -> Applied:
        """Change the wanted rows, and note which."""
        applied = pgvector.apply(connection, generation, doc_ids)
        rows.note(connection, generation, [*applied.added_ids, *applied.updated_ids, *applied.removed_ids])
        return applied

    def rewrite(self, connection: Connection, generation: Generation, doc_ids: Sequence[str]) -> None:
        """Delete the wanted rows and write them again, and note which."""
        deleted = pgvector.delete(connection, generation, doc_ids)
        applied = pgvector.apply(connection, generation, doc_ids)
        rows.note(connection, generation, [*deleted, *applied.added_ids])

    def forget(self, connection: Connection, generation: Generation, doc_id: str, chunk_ids: Sequence[str]) -> None:
        """Delete every object of the document before the transaction commits: if that fails, nothing is forgotten.

        Whoever is just sending is waited for, and its rows are noted, to be deleted once more.
        """
        from weaviate.classes.query import Filter

        rows.lock(connection, generation, seconds=silence(self._server))
        rows.note(connection, generation, chunk_ids)
        with self._server.explained(f"forget a document of {generation.name}"):
            if not self._server.client.collections.exists(self._name(connection, generation)):
                return
            collection = self._collection(connection, generation)
            # The server deletes at most 10,000 objects at once.
            while (answer := collection.data.delete_many(Filter.by_property("doc_id").equal(doc_id))).successful:
                pass
        if answer.failed:
            raise RagAssetsError(
                f"Weaviate could not delete {answer.failed} objects of the document in {generation.name}. Nothing was forgotten; "
                "try again."
            )

    def left_of(self, database: Database, generation: Generation, doc_id: str) -> Mapping[str, int]:
        """Objects of the document, counted on the server."""
        from weaviate.classes.query import Filter

        with database.transaction() as connection:
            name = self._name(connection, generation)
            collection = self._collection(connection, generation)
        with self._server.explained(f"look for a document in {generation.name}"):
            if not self._server.client.collections.exists(name):
                return {NAME: 0}
            found = collection.query.fetch_objects(
                filters=Filter.by_property("doc_id").equal(doc_id), limit=1000, return_properties=["doc_id"]
            )
        return {NAME: len(found.objects)}

    def settle(self, database: Database, generation: Generation) -> None:
        """Send what the change noted."""
        self.catch_up(database, generation)

    def catch_up(self, database: Database, generation: Generation) -> None:
        """Make the collection if it is not there, bring its settings up to date, and send everything noted."""
        with database.transaction() as connection:
            rows.lock(connection, generation, seconds=silence(self._server))
            self._ensure(connection, generation)
            collection = self._collection(connection, generation)
        if send_noted(database, generation, self._server, collection):
            self._languages.pop(generation.id, None)

    def resync(self, database: Database, generation: Generation) -> int:
        """Compare every object with its row, note what differs, and send that."""
        from weaviate.classes.query import Filter

        with database.transaction() as connection:
            rows.lock(connection, generation, seconds=silence(self._server))
            self._ensure(connection, generation)
            collection = self._collection(connection, generation)
            found = mirror.compare(connection, generation, self._server, collection)
            ours = [chunk_id for name, chunk_id in found.extra.items() if name == object_id(chunk_id)]
            rows.note(connection, generation, [*found.missing, *found.wrong, *ours])
            foreign = [name for name, chunk_id in found.extra.items() if name != object_id(chunk_id)]
            for start in range(0, len(foreign), 1000):
                with self._server.explained("delete objects that nobody asked for"):
                    collection.data.delete_many(Filter.by_id().contains_any(foreign[start : start + 1000]))
        self.catch_up(database, generation)
        return found.size

    def build(self, connection: Connection, generation: Generation, settings: IndexSettings) -> bool:
        """The server builds the graph while objects come; it counts as built when the first load is done."""
        return generation.built_rows == 0

    def has_index(self, connection: Connection, generation: Generation) -> bool:
        """Whether the collection is there: a collection always has its graph."""
        with self._server.explained("say whether a collection is there"):
            return self._server.client.collections.exists(self._name(connection, generation))

    def rebuild_index(self, connection: Connection, generation: Generation) -> None:
        """Take the objects out that searches do not find, so that they are added to the graph anew."""
        from weaviate.classes.query import Filter

        collection = self._collection(connection, generation)
        lost, _ = mirror.unreachable(connection, generation, self._server, collection)
        rows.note(connection, generation, lost)
        if lost:
            with self._server.explained("delete objects that can't be found"):
                collection.data.delete_many(Filter.by_id().contains_any([object_id(chunk_id) for chunk_id in lost]))

    def rebuild_words(self, connection: Connection, generation: Generation) -> None:
        """The server keeps its own posting lists."""

    def optimise(self, connection: Connection, generation: Generation) -> None:
        """The server does that by itself."""

    def faults(self, connection: Connection, generation: Generation) -> Faults:
        """Everything compared; some rows searched for."""
        if not self.has_index(connection, generation):
            return Faults(missing=pgvector.count(connection, generation))
        collection = self._collection(connection, generation)
        found = mirror.compare(connection, generation, self._server, collection)
        lost, looked_up = mirror.unreachable(connection, generation, self._server, collection)
        # A row that is not there is missing, and can't be unreachable as well.
        lost = [chunk_id for chunk_id in lost if chunk_id not in found.missing | found.wrong]
        return Faults(
            unreachable=len(lost),
            looked_up=looked_up,
            missing=len(found.missing),
            extra=len(found.extra),
            wrong=len(found.wrong),
        )

    def announce(self, database: Database, collection: str, live: Generation | None) -> None:
        """Point the collection's alias to the live generation; take it away where another store is live."""
        with database.transaction() as connection:
            own = self._own(connection)
            target = self._name(connection, live) if live else None
        alias = alias_name(self._settings.weaviate.prefix, collection)
        with self._server.explained(f"point the alias {alias} to {live.name if live else 'nothing'}"):
            aliases = self._server.client.alias
            found = aliases.get(alias_name=alias)
            if found is not None and not found.collection.startswith(own):
                if target is None:
                    return
                raise RagAssetsError(
                    f"The alias {alias} on Weaviate at {self._settings.weaviate.url} points to {found.collection}, which is not "
                    "ours. Delete it there, or set another weaviate.prefix. Queries of this project do not use it."
                )
            if target is None and found is not None:
                aliases.delete(alias_name=alias)
            elif target is not None and found is None:
                aliases.create(alias_name=alias, target_collection=target)
            elif target is not None and found is not None and found.collection != target:
                aliases.update(alias_name=alias, new_target_collection=target)

    def sweep(self, database: Database) -> Sequence[str]:
        """Delete collections of this installation whose generation is gone."""
        with database.transaction() as connection:
            own = self._own(connection)
        with self._server.explained("list its collections"):
            # Before the generations: one that is made meanwhile is among those.
            present = [name for name in self._server.client.collections.list_all() if name.startswith(own)]
        with database.transaction() as connection:
            known = {f"{own}{row[0]}" for row in connection.execute("SELECT id FROM generation").fetchall()}
        strays = sorted(name for name in present if name not in known)
        for name in strays:
            with self._server.explained(f"delete the collection {name}"):
                for alias in self._server.client.alias.list_all(collection=name):
                    self._server.client.alias.delete(alias_name=alias)
                self._server.client.collections.delete(name)
        return strays

    def tables(self, generation: Generation) -> Sequence[str]:
        """Answered elsewhere."""
        return ()

    def searcher(self, connection: Connection, generation: Generation) -> WeaviateSearcher:
        """The connection looks up what the server can't filter by, and searches exactly."""
        collection = self._collection(connection, generation)
        return WeaviateSearcher(connection, generation, self._server, collection, self._languages)

    def nearest_if_live(
        self, database: Database, generation: Generation, vector: Vector, k: int, *, ef_search: int
    ) -> Sequence[Row]:
        """There is no such way: what is live is known elsewhere."""
        return ()

    def close(self) -> None:
        """Close the client."""
        self._server.close()

    def _own(self, connection: Connection) -> str:
        if self._installation is None:
            self._installation = rows.installation(connection)
        return own_prefix(self._settings.weaviate.prefix, self._installation)

    def _name(self, connection: Connection, generation: Generation) -> str:
        return f"{self._own(connection)}{generation.id}"

    def _collection(self, connection: Connection, generation: Generation) -> "Collection[Any, Any]":
        from weaviate.classes.config import ConsistencyLevel

        level = ConsistencyLevel(self._settings.weaviate.consistency_level)
        made = self._server.client.collections.use(self._name(connection, generation)).with_consistency_level(level)
        return made.with_tenant(generation.collection) if generation.config["store"]["multi_tenancy"] else made

    def _ensure(self, connection: Connection, generation: Generation) -> None:
        """The collection as the settings want it; of one that is not there, or no longer, every row is sent."""
        name, client = self._name(connection, generation), self._server.client
        with self._server.explained(f"make the collection {name}"):
            if not (client.collections.exists(name) and self._adjusted(name)):
                client.collections.delete(name)
                create_collection(client, name, generation, self._settings.index, self._settings.lexical)
                rows.note_all(connection, generation)
            if generation.config["store"]["multi_tenancy"]:
                tenants = client.collections.use(name).tenants
                if generation.collection not in tenants.get_by_names([generation.collection]):
                    tenants.create(generation.collection)
                    rows.note_all(connection, generation)

    def _adjusted(self, name: str) -> bool:
        """What PostgreSQL decides for each query is a setting of a collection: ``ef_search``, ``k1`` and ``b``.

        False: the server made the collection up by itself when objects came for one that was gone.
        """
        from weaviate.classes.config import Reconfigure

        index, lexical = self._settings.index, self._settings.lexical
        config = self._server.client.collections.use(name).config
        found = config.get()
        vectors = (found.vector_config or {}).get(VECTOR)
        if vectors is None:
            return False
        if getattr(vectors.vector_index_config, "ef", None) != index.ef_search:
            beam = Reconfigure.VectorIndex.hnsw(ef=index.ef_search)
            config.update(vector_config=Reconfigure.Vectors.update(name=VECTOR, vector_index_config=beam))
        if (found.inverted_index_config.bm25.k1, found.inverted_index_config.bm25.b) != (lexical.k1, lexical.b):
            config.update(inverted_index_config=Reconfigure.inverted_index(bm25_k1=lexical.k1, bm25_b=lexical.b))
        return True
