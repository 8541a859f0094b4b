"""What a segment of the lexical index is made of: compact posting lists, and the arrays that describe its rows.

A segment numbers its rows from 0, and has at most 65,536 of them. The posting list of a term is, little-endian: the rows that
have it (uint16, rising), how often each has it (uint8 or uint32; left out where all have it once), and one byte saying which.
A row takes 2 bytes, 3 where a count is needed. Nothing is compressed beyond that: decoding is two views of the same bytes.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rag_assets.stores.analysis import Analysis

MAX_ROWS = 65_536
"""Rows of a segment: what 16 bits can number."""
_ONES, _BYTES, _WORDS = b"\x00", b"\x01", b"\x02"
_WIDTH = {_ONES[0]: 2, _BYTES[0]: 3, _WORDS[0]: 6}
PORTION_BYTES = 2_000_000
"""Of encoded posting lists that are decoded at once; decoded they take some 20 times the room."""
TOMBSTONE = np.dtype([("segment", "<i4"), ("row", "<i4")])
"""A deleted row: the segment it is in, and its number there."""

Rows = npt.NDArray[np.uint16]
Counts = npt.NDArray[np.uint8] | npt.NDArray[np.uint32]
_CHUNK_ID = re.compile("[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class Postings:
    """The posting lists of a segment, one below the other: posting i says that ``terms[term[i]]`` is ``count[i]`` times in row ``row[i]``."""

    terms: Sequence[str]
    term: npt.NDArray[np.int64]
    row: npt.NDArray[np.int64]
    count: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Rowset:
    """The rows of a segment."""

    chunk_ids: npt.NDArray[np.void]
    """(n,) of 16 bytes each."""
    lengths: npt.NDArray[np.uint32]
    """(n,) terms."""
    languages: npt.NDArray[np.uint8]
    """(n,) codes of :mod:`analysis`."""


def encode_ids(chunk_ids: Sequence[str]) -> npt.NDArray[np.void]:
    """Chunk ids (32 hex digits each) as 16 bytes each."""
    return np.frombuffer(bytes.fromhex("".join(chunk_ids)), dtype="V16")


def known(chunk_ids: Sequence[str]) -> list[str]:
    """Those that are chunk ids: a row that somebody made by hand is in no segment."""
    return [chunk_id for chunk_id in chunk_ids if _CHUNK_ID.fullmatch(chunk_id)]


def encode_known(chunk_ids: Sequence[str]) -> npt.NDArray[np.void]:
    """As :func:`encode_ids`, of the :func:`known` ones."""
    return encode_ids(known(chunk_ids))


def decode_ids(packed: npt.NDArray[np.void]) -> list[str]:
    """The inverse of :func:`encode_ids`."""
    text = packed.tobytes().hex()
    return [text[start : start + 32] for start in range(0, len(text), 32)]


def places(chunk_ids: npt.NDArray[np.void], wanted: npt.NDArray[np.void]) -> npt.NDArray[np.int64]:
    """Rows whose id is one of ``wanted``."""
    # The first half of an id tells nearly all of them apart and compares as a number; the other half is then looked at.
    candidates = np.flatnonzero(np.isin(first_halves(chunk_ids), first_halves(wanted)))
    if not candidates.size:
        return candidates
    exact = set(wanted.tolist())
    kept: npt.NDArray[np.int64] = candidates[[item in exact for item in chunk_ids[candidates].tolist()]]
    return kept


def first_halves(chunk_ids: npt.NDArray[np.void]) -> npt.NDArray[np.uint64]:
    """The first 8 bytes of each id, as a number."""
    return np.ascontiguousarray(chunk_ids).view("<u8").reshape(-1, 2)[:, 0]


def invert(analyses: Sequence[Analysis]) -> Postings:
    """The posting lists of these rows, in order of term, then row."""
    vocabulary: dict[str, int] = {}
    flat = [vocabulary.setdefault(term, len(vocabulary)) for analysis in analyses for term in analysis.terms]
    lengths = [len(analysis.terms) for analysis in analyses]
    rows = np.repeat(np.arange(len(analyses), dtype=np.int64), lengths)
    keys, counts = np.unique(np.asarray(flat, dtype=np.int64) * MAX_ROWS + rows, return_counts=True)
    return Postings(list(vocabulary), keys // MAX_ROWS, keys % MAX_ROWS, counts)


def encode(postings: Postings) -> Iterator[tuple[str, bytes]]:
    """(term, its encoded posting list) of every term that has any row; the postings are in order of term, then row."""
    starts = np.flatnonzero(np.diff(postings.term, prepend=-1))
    if not starts.size:
        return
    ends = [*starts[1:].tolist(), postings.term.size]
    most = np.maximum.reduceat(postings.count, starts).tolist()
    rows = postings.row.astype("<u2").tobytes()
    small, large = np.minimum(postings.count, 255).astype(np.uint8).tobytes(), postings.count.astype("<u4").tobytes()
    for number, start, end, highest in zip(postings.term[starts].tolist(), starts.tolist(), ends, most, strict=True):
        where = rows[2 * start : 2 * end]
        if highest == 1:
            yield postings.terms[number], where + _ONES
        elif highest <= 255:
            yield postings.terms[number], where + small[start:end] + _BYTES
        else:
            yield postings.terms[number], where + large[4 * start : 4 * end] + _WORDS


def decode(data: bytes) -> tuple[Rows, Counts | None]:
    """The rows of a posting list, rising, and how often each has the term (None: once each)."""
    kind = data[-1]
    size = (len(data) - 1) // _WIDTH[kind]
    rows = np.frombuffer(data, dtype="<u2", count=size)
    if kind == _ONES[0]:
        return rows, None
    if kind == _BYTES[0]:
        return rows, np.frombuffer(data, dtype=np.uint8, count=size, offset=2 * size)
    return rows, np.frombuffer(data[2 * size : -1], dtype="<u4", count=size)


class PostingReader:
    """Collects posting lists of one segment and decodes them all at once."""

    def __init__(self, vocabulary: dict[str, int]) -> None:
        """``vocabulary`` numbers the terms; new ones are added to it, so that several readers can share it."""
        self._vocabulary = vocabulary
        self._rows: dict[int, list[bytes]] = {kind: [] for kind in _WIDTH}
        self._counts: dict[int, list[bytes]] = {kind: [] for kind in _WIDTH}
        self._terms: dict[int, list[int]] = {kind: [] for kind in _WIDTH}

    def add(self, term: str, data: bytes) -> None:
        """One posting list."""
        kind = data[-1]
        end = 2 * ((len(data) - 1) // _WIDTH[kind])
        self._rows[kind].append(data[:end])
        self._counts[kind].append(data[end:-1])
        self._terms[kind].append(self._vocabulary.setdefault(term, len(self._vocabulary)))

    def postings(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """(number of the term, row, count) of every posting that was added."""
        terms, rows, counts = [], [], []
        for kind, parts in self._rows.items():
            sizes = [len(part) // 2 for part in parts]
            terms.append(np.repeat(np.asarray(self._terms[kind], dtype=np.int64), sizes))
            rows.append(np.frombuffer(b"".join(parts), dtype="<u2").astype(np.int64))
            joined = b"".join(self._counts[kind])
            if kind == _ONES[0]:
                counts.append(np.ones(rows[-1].size, dtype=np.int64))
            else:
                counts.append(np.frombuffer(joined, dtype=np.uint8 if kind == _BYTES[0] else "<u4").astype(np.int64))
        return np.concatenate(terms), np.concatenate(rows), np.concatenate(counts)


@dataclass(frozen=True, slots=True)
class Portion:
    """The posting lists of some terms, in all segments: as much as is decoded at once."""

    vocabulary: dict[str, int]
    """Term -> its number, in order of terms."""
    readers: dict[int, PostingReader]
    """Segment -> its lists of these terms."""


def portions(lists: Iterable[tuple[int, str, bytes]]) -> Iterator[Portion]:
    """(segment, term, posting list) in order of terms -> portions of some ``PORTION_BYTES``; all lists of a term are in one."""
    portion, size, last = Portion({}, {}), 0, None
    for segment, term, data in lists:
        if size >= PORTION_BYTES and term != last:
            yield portion
            portion, size = Portion({}, {}), 0
        if segment not in portion.readers:
            portion.readers[segment] = PostingReader(portion.vocabulary)
        portion.readers[segment].add(term, data)
        size, last = size + len(data), term
    if portion.readers:
        yield portion


def merge(portion: Portion, renumbered: Mapping[int, npt.NDArray[np.int64]]) -> Postings:
    """The posting lists of several segments as those of one.

    Args:
        portion: their lists of some terms.
        renumbered: for each segment the new number of each of its rows: -1 where it is deleted.
    """
    keys, counts = [], []
    for segment, reader in portion.readers.items():
        term, row, count = reader.postings()
        new = renumbered[segment][row]
        keys.append(term[new >= 0] * MAX_ROWS + new[new >= 0])
        counts.append(count[new >= 0])
    joined = np.concatenate(keys) if keys else np.empty(0, np.int64)
    order = np.argsort(joined)
    joined = joined[order]
    return Postings(
        list(portion.vocabulary),
        joined // MAX_ROWS,
        joined % MAX_ROWS,
        np.concatenate(counts)[order] if counts else joined,
    )
