"""The rows of a generation's lexical index in memory: lengths, languages, ids, which are deleted; and posting lists asked for lately.

They are kept per process, and read again only for segments that it has not seen; segments never change.
"""

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from rag_assets.database.generations import Generation
from rag_assets.errors import RagAssetsError
from rag_assets.stores import lexical_codec as codec
from rag_assets.stores import lexical_segments as segments
from rag_assets.stores.lexical_segments import Connection, Segment

_KEPT = 8
"""Generations whose rows are kept in memory: some 30 bytes for each row."""

Floats = npt.NDArray[np.float32]

Lists = Sequence[tuple[int, bytes]]
"""The posting lists of one term, with the segments they are of."""

POSTING_BYTES = 64_000_000
"""Posting lists kept in memory, over all generations: frequent words have long ones, and are asked for again and again."""


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
        self.postings: OrderedDict[str, Lists] = OrderedDict()
        """Term -> its posting lists in these segments, which is none for a word that no row has; see :func:`remember`."""
        self.posting_bytes = 0

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
        if not halves.size:
            return {}
        begin, end = np.searchsorted(halves, wanted, "left"), np.searchsorted(halves, wanted, "right")
        firsts = scores[order[np.minimum(begin, halves.size - 1)]].tolist()
        places = zip(known, firsts, begin.tolist(), (end - begin).tolist(), strict=True)
        # A chunk that was taken away and came back has a deleted row beside its own.
        return {
            item: score if rows == 1 else float(scores[order[first : first + rows]].max())
            for item, score, first, rows in places
            if rows
        }

    def norms(self, k1: float, b: float) -> Floats:
        """What a count is weighed against: k1 · (1 − b + b · length / average); infinite for a deleted row, which scores 0."""
        if (k1, b) not in self._norms:
            norms = k1 * (1 - b + b * self.lengths / (self.average or 1.0))
            norms[~self.alive] = np.inf
            self._norms[(k1, b)] = norms.astype(np.float32)
        return self._norms[(k1, b)]


def remembered(rows: Rows | None, terms: Sequence[str]) -> dict[str, Lists]:
    """Those of the terms whose posting lists are in memory."""
    if rows is None:
        return {}
    with _lock:
        found = {term: rows.postings[term] for term in terms if term in rows.postings}
        for term in found:
            rows.postings.move_to_end(term)
    return found


def remember(rows: Rows, found: Mapping[str, Lists]) -> None:
    """Keep posting lists; those of these rows that were asked for longest ago make room."""
    with _lock:
        room = POSTING_BYTES // max(1, len(_memory))
        for term, lists in found.items():
            if term not in rows.postings:
                rows.postings[term] = lists
                rows.posting_bytes += _size(lists)
        while rows.posting_bytes > room:
            _, dropped = rows.postings.popitem(last=False)
            rows.posting_bytes -= _size(dropped)


def _size(lists: Lists) -> int:
    """About the bytes an entry takes, its keys included."""
    return 200 + sum(len(data) for _, data in lists)


_memory: "OrderedDict[tuple[int, Any], Rows]" = OrderedDict()
_lock = threading.Lock()


def last_rows(generation: Generation) -> Rows | None:
    """The rows as last seen; None before the first look."""
    return _memory.get((generation.id, generation.created_at))


def rows_of(connection: Connection, generation: Generation, present: list[int]) -> Rows:
    """The rows of the segments ``present``, from memory as far as they are there.

    Raises:
        RagAssetsError: a segment is gone: the transaction has no snapshot.
    """
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
