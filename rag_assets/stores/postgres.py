"""The store in PostgreSQL itself: HNSW by pgvector, BM25 over posting lists, all in the transaction of the rows."""

from collections.abc import Mapping, Sequence
from weakref import WeakKeyDictionary

from rag_assets.database.generations import Generation
from rag_assets.database.pool import Database
from rag_assets.failpoints import failpoint
from rag_assets.models import Condition
from rag_assets.settings import IndexSettings, LexicalSettings
from rag_assets.stores import filtered, lexical, lexical_integrity, pgvector, reachability, sides, vector_statements
from rag_assets.stores.protocol import Applied, Connection, Faults, Found, HybridQuery, Near, Row, Sides, Vector
from rag_assets.stores.seals import Findings, graph_seal, words_seal

NAME = "pgvector"
_BROUGHT_ALONG = 100
"""Most rows that a search by vector brings whole, so that :meth:`PostgresSearcher.fetch` need not ask for them again."""


class PostgresSearcher:
    """Answers from a generation's partition; call inside a transaction, best one with a snapshot."""

    def __init__(self, connection: Connection, generation: Generation) -> None:
        self._connection, self._generation = connection, generation
        self._brought: tuple[Vector | None, dict[str, Row]] = (None, {})

    @property
    def has_words(self) -> bool:
        """False for a generation of a release before there was a lexical index."""
        return lexical.settings_of(self._generation) is not None

    def nearest(
        self,
        vector: Vector | None,
        k: int,
        *,
        ef_search: int = 100,
        exact: bool = False,
        filters: Sequence[Condition] = (),
    ) -> Near:
        """The ``k`` rows nearest to a unit vector among those that pass."""
        if filters:
            return Near(
                *filtered.find(self._connection, self._generation, vector, k, filters, ef_search=ef_search, exact=exact)
            )
        if vector is None:
            return Near()
        if exact or k > _BROUGHT_ALONG:
            found = pgvector.nearest(self._connection, self._generation, vector, k, ef_search=ef_search, exact=exact)
            return Near(dict(found))
        rows = pgvector.nearest_rows(self._connection, self._generation, vector, k, ef_search=ef_search)
        self._brought = (vector, {row.chunk_id: row for row in rows})
        return Near({row.chunk_id: row.dense for row in rows})

    def words(
        self,
        question: str,
        k: int,
        *,
        settings: LexicalSettings,
        near: Near | None = None,
        filters: Sequence[Condition] = (),
        also: Sequence[str] = (),
    ) -> Found:
        """The ``k`` rows with the highest BM25 score."""
        return lexical.search(
            self._connection,
            self._generation,
            question,
            k,
            settings=settings,
            filters=filters,
            passing=near.passing if near else None,
            share=near.plan.share if near and near.plan else 1.0,
            also=also,
        )

    def both(self, asked: HybridQuery) -> Sides:
        """Side by side unless a filter or a scan has one wait for the other."""
        if asked.vector is None or asked.exact or asked.filters:
            return sides.in_turn(self, asked)
        return sides.at_once(self._connection, self._generation, asked)

    def similarities(self, chunk_ids: Sequence[str], vector: Vector | None) -> Mapping[str, float]:
        """Cosine similarity of rows to a unit vector."""
        return pgvector.similarities(self._connection, self._generation, chunk_ids, vector)

    def fetch(self, chunk_ids: Sequence[str], vector: Vector | None = None) -> Mapping[str, Row]:
        """Rows by id."""
        compared_with, rows = self._brought
        if vector is not None and vector is compared_with and rows.keys() >= set(chunk_ids):
            return {chunk_id: rows[chunk_id] for chunk_id in chunk_ids}
        return pgvector.fetch(self._connection, self._generation, chunk_ids, vector)


class PostgresStore:
    """Rows, graph and posting lists in one database: every change is atomic, so nothing is ever to be caught up with."""

    name = NAME
    beam_is_fixed = False

    def __init__(self) -> None:
        self._findings = Findings()
        self._beams: WeakKeyDictionary[Connection, tuple[int, int]] = WeakKeyDictionary()
        """What each pooled connection was last told to keep, as (rows, ``ef_search``)."""

    def check(self) -> str:
        """The database is looked at when it is opened."""
        return NAME

    def create(self, connection: Connection, generation: Generation) -> None:
        """Make the generation's partition and posting lists."""
        pgvector.create(connection, generation)
        lexical.create(connection, generation)

    def drop(self, connection: Connection, generation: Generation) -> None:
        """Delete both, and the generation's record."""
        lexical.drop(connection, generation)
        pgvector.drop(connection, generation)

    def apply(self, connection: Connection, generation: Generation, doc_ids: Sequence[str]) -> Applied:
        """Rows and posting lists."""
        applied = pgvector.apply(connection, generation, doc_ids)
        lexical.apply(connection, generation, applied.added_ids, applied.removed_ids)
        return applied

    def rewrite(self, connection: Connection, generation: Generation, doc_ids: Sequence[str]) -> None:
        """Readers see the old rows or the new ones."""
        deleted = pgvector.delete(connection, generation, doc_ids)
        failpoint("reconcile.deleted")
        applied = pgvector.apply(connection, generation, doc_ids)
        lexical.apply(connection, generation, applied.added_ids, deleted)

    def forget(self, connection: Connection, generation: Generation, doc_id: str, chunk_ids: Sequence[str]) -> None:
        """Purge the posting lists."""
        lexical.forget(connection, generation, chunk_ids)

    def left_of(self, database: Database, generation: Generation, doc_id: str) -> Mapping[str, int]:
        """There is no outside."""
        return {}

    def settle(self, database: Database, generation: Generation) -> None:
        """Merge segments of the lexical index where there are many."""
        with database.transaction() as connection:
            lexical.compact(connection, generation)

    def catch_up(self, database: Database, generation: Generation) -> None:
        """Nothing is ever left undone."""

    def resync(self, database: Database, generation: Generation) -> int:
        """There is no mirror."""
        return 0

    def build(self, connection: Connection, generation: Generation, settings: IndexSettings) -> bool:
        """The HNSW graph, once after load; what the shards wrote of the lexical index is merged."""
        built = pgvector.build_index(connection, generation, settings)
        if built:
            if self._unreachable(connection, generation):
                # Another build makes another graph; whether that is whole is judged before it goes live.
                pgvector.rebuild_index(connection, generation)
            lexical.optimise(connection, generation)
        return built

    def has_index(self, connection: Connection, generation: Generation) -> bool:
        """Whether there is a valid HNSW index."""
        return pgvector.has_index(connection, generation)

    def rebuild_index(self, connection: Connection, generation: Generation) -> None:
        """Readers wait meanwhile."""
        pgvector.rebuild_index(connection, generation)

    def rebuild_words(self, connection: Connection, generation: Generation) -> None:
        """Readers see the old posting lists until the transaction ends."""
        lexical.rebuild(connection, generation)

    def optimise(self, connection: Connection, generation: Generation) -> None:
        """Merge all segments of the lexical index."""
        lexical.optimise(connection, generation)

    def faults(self, connection: Connection, generation: Generation) -> Faults:
        """Rows the graph has lost, and posting lists that are not what the rows' texts give."""
        return Faults(
            unreachable=len(self._unreachable(connection, generation)),
            looked_up=min(pgvector.count(connection, generation), reachability.ROWS),
            lexical=self._findings.of(lexical_integrity.faults, connection, generation, words_seal),
        )

    def _unreachable(self, connection: Connection, generation: Generation) -> Sequence[str]:
        return self._findings.of(reachability.unreachable, connection, generation, graph_seal)

    def announce(self, database: Database, collection: str, live: Generation | None) -> None:
        """Readers look the live generation up in the same database."""

    def sweep(self, database: Database) -> Sequence[str]:
        """Everything is dropped with its generation."""
        return ()

    def tables(self, generation: Generation) -> Sequence[str]:
        """Rows, posting lists, segments, token vectors."""
        return (
            f"index_entry_g{generation.id}",
            f"lexical_posting_g{generation.id}",
            "lexical_segment",
            "token_vectors",
        )

    def searcher(self, connection: Connection, generation: Generation) -> PostgresSearcher:
        """In the transaction's snapshot."""
        return PostgresSearcher(connection, generation)

    def nearest_if_live(
        self, database: Database, generation: Generation, vector: Vector, k: int, *, ef_search: int
    ) -> Sequence[Row]:
        """One statement, where the rows are few enough to be brought whole; one more where the connection had another beam."""
        if k > _BROUGHT_ALONG:
            return ()
        beam = (k, ef_search)
        with database.statement() as connection:
            if self._beams.get(connection) != beam:
                vector_statements.keep_beam(connection, *beam)
                self._beams[connection] = beam
            return pgvector.nearest_if_live(connection, generation, vector, k)

    def close(self) -> None:
        """The pool is closed by whoever opened it."""
