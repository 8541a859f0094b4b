"""The values that stores of generations take and give."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import psycopg

from rag_assets.models import Condition
from rag_assets.settings import LexicalSettings

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


class Row(NamedTuple):
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
class HybridQuery:
    """What both sides of a store are asked."""

    question: str
    vector: Vector | None
    k: int
    """How many of each side."""
    settings: LexicalSettings
    ef_search: int = 100
    exact: bool = False
    filters: Sequence[Condition] = ()
    similar: bool = True
    """Whether the similarities of what only the words have found are wanted."""


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
