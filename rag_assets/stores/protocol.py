"""What a store of generations does, and the values it gives.

PostgreSQL is the ledger whatever the store: every generation has its partition of ``index_entry``, which says what the index shall
hold. A store answers questions from it, or from a mirror of it elsewhere. Methods that take a connection are part of the
caller's transaction; those that take the database make their own.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
import psycopg

from rag_assets.database.generations import Generation
from rag_assets.database.pool import Database
from rag_assets.models import Condition
from rag_assets.settings import IndexSettings, LexicalSettings

Connection = psycopg.Connection[Any]
Vector = npt.NDArray[np.float32]
"""A unit vector, shape (dimension,)."""

MOST_EXACT = 200_000
"""Rows that are compared for the sake of recall where the graph would be quicker: half a second."""


@dataclass(frozen=True, slots=True)
class Applied:
    """Rows a write added, rewrote (payload only) and removed."""

    added: int = 0
    updated: int = 0
    removed: int = 0
    added_ids: tuple[str, ...] = field(default=(), compare=False, repr=False)
    """Chunk ids of the rows that were added …"""
    removed_ids: tuple[str, ...] = field(default=(), compare=False, repr=False)
    """… removed …"""
    updated_ids: tuple[str, ...] = field(default=(), compare=False, repr=False)
    """… and rewritten."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row found by a search; ``dense`` is the cosine similarity."""

    chunk_id: str
    doc_id: str
    text: str
    payload: Mapping[str, Any]
    dense: float


@dataclass(frozen=True, slots=True)
class Match:
    """A row that has any of the question's terms."""

    chunk_id: str
    score: float
    """BM25 as Lucene computes it: without the constant factor k1 + 1, never negative."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a question's words find."""

    matches: Sequence[Match]
    """Highest score first, equal scores by chunk id."""
    others: Mapping[str, float]
    """Scores of the rows that were asked for by id; 0 for one that has none of the question's terms."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Which way a filtered search takes, and why."""

    way: Literal["index", "exact"]
    rows: int
    """Rows of the generation, about; 0: not looked at."""
    passing: int | None = None
    """How many of them pass, about; None: not estimated."""
    beam: int = 0
    """``ef_search`` in force on the way through the graph."""
    fell_back: bool = False
    """The graph did not give as many rows as were asked for, and every row was compared after all."""

    near: float | None = None
    """Share of rows that pass among those nearest to the question; None: not looked at."""

    @property
    def misses_rows(self) -> bool:
        """Whether the graph would miss some: the rows that pass are elsewhere than the question, where its walk ends early."""
        return self.near is not None and self.near < self.share / 2 and (self.passing or 0) <= MOST_EXACT

    @property
    def share(self) -> float:
        """About which share of the rows passes: more than 0."""
        return max(1, self.passing or 0) / max(1, self.rows)


@dataclass(frozen=True, slots=True)
class Near:
    """What a question's vector finds."""

    found: Mapping[str, float] = field(default_factory=dict)
    """Chunk id -> cosine similarity, nearest first."""
    passing: Collection[str] | None = None
    """Ids of all rows that pass the filters, where they had to be listed."""
    plan: Plan | None = None
    """The way taken behind the filters; None: there are none."""


@dataclass(frozen=True, slots=True)
class Sides:
    """What a question's vector and its words find, and what each side says of the other's finds."""

    near: Near
    found: Found
    """``others`` are the scores of what only the vector has found."""
    similar: Mapping[str, float]
    """Cosine similarity of what only the words have found."""
    seconds: Mapping[str, float]
    """Time of ``dense`` and ``lexical``; where they run side by side, ``dense`` is what was waited for after ``lexical``."""


@dataclass(frozen=True, slots=True)
class Faults:
    """What is wrong with what answers questions, measured by the generation's rows in PostgreSQL; all zero but
    ``looked_up`` is a pass."""

    unreachable: int = 0
    """Rows that no search for their own vector finds …"""
    looked_up: int = 0
    """… of those that were looked up."""
    lexical: int = 0
    """Rows that have no posting lists, or wrong ones, and posting lists that have no row."""
    missing: int = 0
    """Rows a mirror does not have …"""
    extra: int = 0
    """… has though there is no such row …"""
    wrong: int = 0
    """… and has otherwise."""


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

    def both(
        self,
        question: str,
        vector: Vector | None,
        k: int,
        *,
        settings: LexicalSettings,
        ef_search: int = 100,
        exact: bool = False,
        filters: Sequence[Condition] = (),
        similar: bool = True,
    ) -> Sides:
        """What :meth:`nearest` and :meth:`words` find, each with the scores of what only the other has found.

        ``similar``: whether the similarities of what only the words have found are wanted.

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

    def close(self) -> None:
        """Close connections, if there are any."""
        ...
