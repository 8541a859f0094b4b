"""BM25 over the lexical index, exactly: posting lists come from PostgreSQL, scores are computed here.

One statement brings the posting lists of the question's terms and the numbers of the segments that there are. What is needed of
the rows themselves (lengths, languages, ids, which are deleted) is kept per process, and read again only for segments it has not
seen; segments never change. Document frequency, number of rows and average length are counted over the rows that are alive,
so they are what they would be had the index been made from them alone.
"""

import threading
from collections import Counter, OrderedDict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from psycopg import sql

from rag_assets.database.generations import Generation
from rag_assets.errors import RagAssetsError
from rag_assets.models import Condition
from rag_assets.settings import LexicalSettings
from rag_assets.stores import filtered, pgvector
from rag_assets.stores import lexical_codec as codec
from rag_assets.stores import lexical_segments as segments
from rag_assets.stores.analysis import analyzer
from rag_assets.stores.conditions import clause
from rag_assets.stores.lexical_segments import Connection, Segment

_KEPT = 8
"""Generations whose rows are kept in memory: some 30 bytes for each row."""
MOST_LOOKED_AT = 2000
"""Best rows whose payload is looked at when there is a filter; if too few of them pass, all rows that pass are listed."""
_SPARE = 1.5
"""How many more are looked at than would hold k, were the rows that pass scattered evenly."""

TINY = float(np.finfo(np.float32).tiny)

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Match:
    """A row that has any of the question's terms."""

    chunk_id: str
    score: float
    """BM25 as Lucene computes it: without the constant factor k1 + 1, never negative."""


class Rows:
    """All rows of a generation as of some set of segments."""

    def __init__(self, parts: Sequence[Segment]) -> None:
        self.parts = {part.id: part for part in parts}
        sizes = [part.rows.lengths.size for part in parts]
        self.first = dict(zip(self.parts, np.cumsum([0, *sizes[:-1]]).tolist() if sizes else (), strict=True))
        """Segment -> the number its row 0 has here."""
        living = segments.alive(parts)
        self.whole = {number for number, rows in living.items() if rows.all()}
        """Segments without deleted rows."""
        self.alive = np.concatenate([living[part.id] for part in parts]) if parts else np.empty(0, dtype=bool)
        self.lengths = np.concatenate([part.rows.lengths for part in parts]) if parts else np.empty(0, dtype="<u4")
        self.count = int(self.alive.sum())
        self.average = float(self.lengths[self.alive].mean()) if self.count else 0.0
        self._norms: dict[tuple[float, float], Floats] = {}

    @cached_property
    def languages(self) -> Mapping[int, int]:
        """Rows by language code."""
        codes = (
            np.concatenate([part.rows.languages for part in self.parts.values()]) if self.parts else np.empty(0, int)
        )
        counts = np.bincount(codes[self.alive]) if codes.size else np.empty(0, int)
        return {code: count for code, count in enumerate(counts.tolist()) if count}

    @cached_property
    def chunk_ids(self) -> npt.NDArray[np.void]:
        """(n,) of 16 bytes each."""
        return np.concatenate([part.rows.chunk_ids for part in self.parts.values()])

    @cached_property
    def _sorted(self) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
        """(first halves of the chunk ids, rising; the rows they are of)."""
        halves = codec.first_halves(self.chunk_ids)
        order = np.argsort(halves)
        return halves[order], order

    def scores_of(self, scores: "Floats", chunk_ids: Sequence[str]) -> dict[str, float]:
        """The scores of rows named by id; an id that is in no row is left out. Deleted rows score 0."""
        known = codec.known(chunk_ids)
        if not known:
            return {}
        halves, order = self._sorted
        wanted = codec.first_halves(codec.encode_ids(known))
        begin, end = np.searchsorted(halves, wanted, "left").tolist(), np.searchsorted(halves, wanted, "right").tolist()
        # A chunk that was taken away and came back has a deleted row beside its own.
        places = zip(known, begin, end, strict=True)
        return {item: float(scores[order[first:last]].max()) for item, first, last in places if first < last}

    def norms(self, k1: float, b: float) -> Floats:
        """What a count is weighed against: k1 · (1 − b + b · length / average); infinite for a deleted row, which scores 0."""
        if (k1, b) not in self._norms:
            norms = k1 * (1 - b + b * self.lengths / (self.average or 1.0))
            norms[~self.alive] = np.inf
            self._norms[(k1, b)] = norms.astype(np.float32)
        return self._norms[(k1, b)]


_memory: "OrderedDict[tuple[int, Any], Rows]" = OrderedDict()
_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class Found:
    """What a question finds."""

    matches: Sequence[Match]
    """Highest score first, equal scores by chunk id."""
    others: Mapping[str, float]
    """Scores of the rows that were asked for by id; 0 for one that has none of the question's terms."""


def search(
    connection: Connection,
    generation: Generation,
    question: str,
    k: int,
    *,
    settings: LexicalSettings | None = None,
    filters: Sequence[Condition] = (),
    passing: Collection[str] | None = None,
    share: float = 0.1,
    also: Sequence[str] = (),
) -> Found:
    """The ``k`` rows with the highest BM25 score, highest first, equal scores by chunk id; rows that score 0 are left out.

    Call inside a transaction, best one with a snapshot.

    Args:
        connection: an open transaction.
        generation: the index; its own settings say how the question is analysed.
        question: in plain words.
        k: most rows that are returned.
        settings: ``k1`` and ``b``; None: the defaults.
        filters: what the payload must pass.
        passing: ids of all rows that pass ``filters``, where they are known already.
        share: about which share of the rows passes, more than 0: decides how it is searched, not what is found.
        also: chunk ids of rows whose score is wanted whatever it is.

    Raises:
        RagAssetsError: the generation was made before there was a lexical index.
    """
    own = segments.settings_of(generation)
    if own is None:
        raise RagAssetsError(
            f"{generation.name} has no lexical index: it was built by an earlier release. Run `rag-assets sync` to build "
            "one that has (nothing is embedded again), or search with mode dense."
        )
    weights = settings or LexicalSettings()
    # The languages decide the terms, and may have changed with a write since: then the terms are asked for once more.
    terms = analyzer(own).analyze_query(question, _remembered_languages(generation))
    found, rows = _fetch(connection, generation, terms)
    again = analyzer(own).analyze_query(question, rows.languages)
    if again != terms:
        terms = again
        found, rows = _fetch(connection, generation, terms)
    scores = _score(rows, found, terms, weights)
    if passing is not None:
        matches = _best(rows, scores, k, codec.places(rows.chunk_ids, codec.encode_known(list(passing))))
    elif filters:
        matches = _filtered(connection, generation, rows, scores, k, filters, share)
    else:
        matches = _best(rows, scores, k)
    return Found(matches, rows.scores_of(scores, also) if also else {})


def _remembered_languages(generation: Generation) -> Mapping[int, int]:
    rows = _memory.get((generation.id, generation.created_at))
    return rows.languages if rows is not None else {}


def _fetch(
    connection: Connection, generation: Generation, terms: Sequence[str]
) -> tuple[dict[str, list[tuple[int, bytes]]], Rows]:
    """(term -> its posting lists with their segments, the rows they number)."""
    # One statement sees one state of the database, whatever the isolation level.
    answer = connection.execute(
        sql.SQL(
            "SELECT term, segment, postings FROM {} WHERE term = ANY(%s)"
            " UNION ALL SELECT NULL, id, NULL FROM lexical_segment WHERE generation_id = %s"
        ).format(segments.table(generation)),
        (sorted(set(terms)), generation.id),
        binary=True,
    ).fetchall()
    found: dict[str, list[tuple[int, bytes]]] = {}
    present = []
    for term, segment, data in answer:
        if term is None:
            present.append(segment)
        else:
            found.setdefault(term, []).append((segment, data))
    return found, _rows(connection, generation, sorted(present))


def _rows(connection: Connection, generation: Generation, present: list[int]) -> Rows:
    key = (generation.id, generation.created_at)
    with _lock:
        rows = _memory.get(key)
        if rows is not None:
            _memory.move_to_end(key)
    if rows is not None and list(rows.parts) == present:
        return rows
    known = rows.parts if rows is not None else {}
    missing = [number for number in present if number not in known]
    fresh = {part.id: part for part in segments.read_segments(connection, generation, missing)} if missing else {}
    if len(fresh) < len(missing):
        raise RagAssetsError(f"The lexical index of {generation.name} was merged meanwhile. Search in a snapshot.")
    rows = Rows([known.get(number) or fresh[number] for number in present])
    with _lock:
        _memory[key] = rows
        while len(_memory) > _KEPT:
            _memory.popitem(last=False)
    return rows


def _score(
    rows: Rows, found: Mapping[str, Sequence[tuple[int, bytes]]], terms: Sequence[str], weights: LexicalSettings
) -> Floats:
    """(n,) BM25 of every row; a term the question repeats counts as often."""
    scores = np.zeros(rows.lengths.size, dtype=np.float32)
    norms = rows.norms(weights.k1, weights.b)
    for term, times in Counter(terms).items():
        parts = [(number, *codec.decode(data)) for number, data in found.get(term, ())]
        frequency = sum(
            numbers.size if segment in rows.whole else np.count_nonzero(rows.alive[rows.first[segment] :][numbers])
            for segment, numbers, _ in parts
        )
        idf = np.float32(times * np.log(1 + (rows.count - frequency + 0.5) / (frequency + 0.5)))
        for segment, numbers, counts in parts:
            first = rows.first[segment]
            part = norms[first:].take(numbers)
            # The same operations whether or not counts are stored: a score depends on the rows alone, to the last bit.
            weight: Any = np.float32(1) if counts is None else counts.astype(np.float32)
            part += weight
            np.divide(weight, part, out=part)
            part *= idf
            scores[first:][numbers] += part
    return scores


def _best(rows: Rows, scores: Floats, k: int, among: npt.NDArray[np.int64] | None = None) -> list[Match]:
    """The ``k`` highest scores above 0, equal ones by chunk id."""
    chosen = np.flatnonzero(scores >= _floor(scores, k)) if among is None else among[scores[among] > 0]
    if chosen.size > k:
        lowest = np.partition(scores[chosen], chosen.size - k)[chosen.size - k]
        chosen = chosen[scores[chosen] >= lowest]
    ids = codec.decode_ids(rows.chunk_ids[chosen]) if chosen.size else []
    ranked = sorted(zip((-scores[chosen]).tolist(), ids, strict=True))
    return [Match(chunk_id, -negative) for negative, chunk_id in ranked[:k]]


def _floor(scores: Floats, k: int) -> float:
    """A score above 0 that at least ``k`` rows reach, if so many are above 0: a few comparisons instead of a partial sort."""
    floor = float(scores.max(initial=0.0))
    for _ in range(16):
        floor *= 0.75
        if np.count_nonzero(scores >= floor) >= k:
            return max(floor, TINY)
    return TINY


def _filtered(
    connection: Connection,
    generation: Generation,
    rows: Rows,
    scores: Floats,
    k: int,
    filters: Sequence[Condition],
    share: float,
) -> list[Match]:
    """As :func:`_best` among the rows whose payload passes: as many of the best are looked at as will hold k, by ``share``."""
    looked_at = min(MOST_LOOKED_AT, round(_SPARE * k / share) + k)
    best = _best(rows, scores, looked_at)
    condition = clause(filters)
    statement = sql.SQL("SELECT chunk_id FROM {} WHERE generation_id = {} AND chunk_id = ANY(%(ids)s) AND {}").format(
        pgvector.table(generation), sql.Literal(generation.id), condition.sql
    )
    parameters = {"ids": [match.chunk_id for match in best], **condition.parameters}
    allowed = {row[0] for row in connection.execute(statement, parameters).fetchall()}
    kept = [match for match in best if match.chunk_id in allowed]
    if len(kept) >= k or len(best) < looked_at:
        return kept[:k]
    listed = filtered.passing(connection, generation, filters)
    return _best(rows, scores, k, codec.places(rows.chunk_ids, codec.encode_known(list(listed))))
