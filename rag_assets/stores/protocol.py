"""What a store of generations does.

PostgreSQL is the ledger whatever the store: every generation has its partition of ``index_entry``, which says what the index shall
hold. A store answers questions from it, or from a mirror of it elsewhere. Methods that take a connection are part of the
caller's transaction; those that take the database make their own.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

from rag_assets.database.generations import Generation
from rag_assets.database.pool import Database
from rag_assets.models import Condition
from rag_assets.settings import IndexSettings, LexicalSettings
from rag_assets.stores.values import (
    MOST_EXACT,
    Applied,
    Connection,
    Faults,
    Found,
    HybridQuery,
    Match,
    Near,
    Plan,
    Row,
    Sides,
    Vector,
)

__all__ = [
    "MOST_EXACT",
    "Applied",
    "Connection",
    "Faults",
    "Found",
    "HybridQuery",
    "Match",
    "Near",
    "Plan",
    "Row",
    "Searcher",
    "Sides",
    "Store",
    "Vector",
]


class Searcher(Protocol):
    """Answers questions from one generation, in the snapshot of its transaction as far as PostgreSQL answers."""

    @property
    def has_words(self) -> bool:
        """False for a generation that can only be searched by vectors."""
        ...

    def nearest(
        self,
        vector: Vector | None,
        k: int,
        *,
        ef_search: int = 100,
        exact: bool = False,
        filters: Sequence[Condition] = (),
    ) -> Near:
        """The ``k`` rows nearest to a unit vector among those that pass; k, whenever so many pass.

        Without a vector nothing is found, but a store may list what passes. ``exact`` compares every row: the
        reference that recall is measured against. A store whose beam is part of the index takes ``ef_search`` from there.
        """
        ...

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
        """The ``k`` rows with the highest BM25 score; rows that score 0 are left out.

        Args:
            question: in plain words.
            k: most rows that are returned.
            settings: ``k1`` and ``b``, where they are chosen per query.
            near: what the question's vector found, which may spare work.
            filters: what the rows must pass.
            also: chunk ids of rows whose score is wanted whatever it is.

        Raises:
            RagAssetsError: the generation has no lexical index.
        """
        ...

    def both(self, asked: HybridQuery) -> Sides:
        """What :meth:`nearest` and :meth:`words` find, each with the scores of what only the other has found.

        Raises:
            RagAssetsError: the generation has no lexical index.
        """
        ...

    def similarities(self, chunk_ids: Sequence[str], vector: Vector | None) -> Mapping[str, float]:
        """Cosine similarity of rows, named by id, to a unit vector."""
        ...

    def fetch(self, chunk_ids: Sequence[str], vector: Vector | None = None) -> Mapping[str, Row]:
        """Rows by id; ``dense`` is the cosine similarity to ``vector``, nan without one."""
        ...


class Store(Protocol):
    """Keeps generations and answers from them."""

    @property
    def name(self) -> str:
        """As the settings name it."""
        ...

    @property
    def beam_is_fixed(self) -> bool:
        """Whether ``ef_search`` is a property of the index, not of a question."""
        ...

    def check(self) -> str:
        """Is it there, and fit for work? Returns what it is, for people. Asked before anything is written.

        Raises:
            RagAssetsError: it can't be reached, refuses us, or is too old; says which, and what to do.
        """
        ...

    def create(self, connection: Connection, generation: Generation) -> None:
        """Make what a generation needs, if it is not there."""
        ...

    def drop(self, connection: Connection, generation: Generation) -> None:
        """Delete a generation that is not live, with its record; :meth:`sweep` deletes what is not in PostgreSQL."""
        ...

    def apply(self, connection: Connection, generation: Generation, doc_ids: Sequence[str]) -> Applied:
        """Make the generation's rows of these documents equal to their chunks."""
        ...

    def rewrite(self, connection: Connection, generation: Generation, doc_ids: Sequence[str]) -> None:
        """As :meth:`apply`, after every row of these documents was deleted."""
        ...

    def forget(self, connection: Connection, generation: Generation, doc_id: str, chunk_ids: Sequence[str]) -> None:
        """Delete a document whose rows (chunk ids) were just deleted, so that no word of it is left."""
        ...

    def left_of(self, database: Database, generation: Generation, doc_id: str) -> Mapping[str, int]:
        """What is found of a document outside PostgreSQL, by looking; nothing where there is no outside."""
        ...

    def settle(self, database: Database, generation: Generation) -> None:
        """What follows a committed change of the rows: others may wait for it, so it has transactions of its own.

        Raises:
            RagAssetsError: a mirror could not be brought up to date; what it lacks stays noted for :meth:`catch_up`.
        """
        ...

    def catch_up(self, database: Database, generation: Generation) -> None:
        """Do what an earlier :meth:`settle` left undone, if anything.

        Raises:
            RagAssetsError: as :meth:`settle`.
        """
        ...

    def resync(self, database: Database, generation: Generation) -> int:
        """Make a mirror equal to the rows by comparing everything; returns how many rows differed."""
        ...

    def build(self, connection: Connection, generation: Generation, settings: IndexSettings) -> bool:
        """Build what searches need if it is not built; returns whether it was."""
        ...

    def has_index(self, connection: Connection, generation: Generation) -> bool:
        """Whether searches by vector have an index to use."""
        ...

    def rebuild_index(self, connection: Connection, generation: Generation) -> None:
        """Build the HNSW graph again from the rows."""
        ...

    def rebuild_words(self, connection: Connection, generation: Generation) -> None:
        """Make the lexical index again from the rows."""
        ...

    def optimise(self, connection: Connection, generation: Generation) -> None:
        """Merge what many small writes left."""
        ...

    def faults(self, connection: Connection, generation: Generation) -> Faults:
        """Compare what answers questions with the rows; call inside a snapshot."""
        ...

    def announce(self, database: Database, collection: str, live: Generation | None) -> None:
        """Point readers other than this project to what is live; None: to nothing in this store."""
        ...

    def sweep(self, database: Database) -> Sequence[str]:
        """Delete what belongs to no generation any more; returns names."""
        ...

    def tables(self, generation: Generation) -> Sequence[str]:
        """The tables of PostgreSQL that a search reads; none where it is answered elsewhere."""
        ...

    def searcher(self, connection: Connection, generation: Generation) -> Searcher:
        """Something to ask."""
        ...

    def nearest_if_live(
        self, database: Database, generation: Generation, vector: Vector, k: int, *, ef_search: int
    ) -> Sequence[Row]:
        """The ``k`` rows nearest to a unit vector, where they can be had in one step together with the generation being live.

        None of them: it is not, or has another beam by now, or the store has no such way: look it up, and ask a searcher.
        """
        ...

    def close(self) -> None:
        """Close connections, if there are any."""
        ...
