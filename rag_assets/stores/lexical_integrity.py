"""Is the lexical index what the texts of its rows give? Counted from the posting lists themselves."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from rag_assets.database.generations import Generation
from rag_assets.stores import lexical_codec as codec
from rag_assets.stores.analysis import Analysis, analyzer, analyzer_fingerprint
from rag_assets.stores.lexical_segments import (
    BATCH,
    Connection,
    Segment,
    alive,
    read_postings,
    read_segments,
    settings_of,
    texts,
)

Ids = npt.NDArray[np.bytes_]
"""Chunk ids of 16 bytes each; compared as such, for equal lengths are padded alike."""
ANALYSED_ROWS = 2000
"""Rows whose text is analysed again: all of a small index, a sample of a large one. Ids, and the sum of counts against the
length, are compared for every row."""


def faults(connection: Connection, generation: Generation) -> int:
    """Rows without posting lists, posting lists without a row, and rows whose posting lists are not what their text gives.

    Call inside a snapshot. 0 for a generation that has no lexical index.
    """
    settings = settings_of(generation)
    if settings is None:
        return 0
    segments = read_segments(connection, generation)
    wanted, unknown = _wanted(connection, generation)
    held = _Held.of(segments)
    both = np.intersect1d(wanted, held.ids)
    sample = codec.decode_ids(both[:ANALYSED_ROWS].view("V16"))
    chosen = analyzer(settings)
    places = held.places(both[:ANALYSED_ROWS])
    analyses = dict(texts(connection, generation, sample))
    expected = {
        place: chosen.analyze(analyses[chunk_id]) for chunk_id, place in zip(sample, places, strict=True)
    }  # fmt: skip
    wrong = _wrong(connection, generation, segments, expected)
    wrong += sum(segment.analyzer != analyzer_fingerprint(settings) for segment in segments)
    absent, extra = wanted.size - both.size, held.ids.size - both.size
    return unknown + absent + extra + wrong


def _wanted(connection: Connection, generation: Generation) -> tuple[Ids, int]:
    """The ids of all rows, and how many rows have an id that no chunk has."""
    parts, unknown = [np.empty(0, "S16")], 0
    with connection.cursor(name="lexical_ids") as cursor:
        cursor.itersize = BATCH
        cursor.execute("SELECT chunk_id FROM index_entry WHERE generation_id = %s", (generation.id,))
        while rows := cursor.fetchmany(BATCH):
            ids = codec.encode_known([row[0] for row in rows])
            unknown += len(rows) - ids.size
            parts.append(ids.view("S16"))
    return np.concatenate(parts), unknown


@dataclass(frozen=True, slots=True)
class _Held:
    """What the segments hold, deleted rows left out; a row that is there twice counts twice."""

    ids: Ids
    """Rising."""
    segment: npt.NDArray[np.int64]
    row: npt.NDArray[np.int64]

    @classmethod
    def of(cls, segments: Sequence[Segment]) -> Self:
        living = alive(segments)
        rows = [np.flatnonzero(living[segment.id]) for segment in segments]
        parts = [segment.rows.chunk_ids[kept].view("S16") for segment, kept in zip(segments, rows, strict=True)]
        ids = np.concatenate([np.empty(0, "S16"), *parts])
        numbers = np.repeat(np.asarray([segment.id for segment in segments], np.int64), [kept.size for kept in rows])
        order = np.argsort(ids, kind="stable")
        return cls(ids[order], numbers[order], np.concatenate([np.empty(0, np.int64), *rows])[order])

    def places(self, ids: Ids) -> list[tuple[int, int]]:
        """(segment, row) of ids that are held."""
        at = np.searchsorted(self.ids, ids)
        return list(zip(self.segment[at].tolist(), self.row[at].tolist(), strict=True))


def _wrong(
    connection: Connection,
    generation: Generation,
    segments: Sequence[Segment],
    expected: Mapping[tuple[int, int], Analysis],
) -> int:
    """Rows whose counts don't add up to their length, or whose terms, counts, length or language are not as expected."""
    sums = {segment.id: np.zeros(segment.rows.lengths.size, np.int64) for segment in segments}
    sealed = {number: np.zeros(found.size, np.uint64) for number, found in sums.items()}
    wrong, strangers = 0, set()
    for portion in codec.portions(read_postings(connection, generation)):
        marks = np.asarray([_mark(term) for term in portion.vocabulary], dtype=np.uint64)
        for number, reader in portion.readers.items():
            if number not in sums:
                strangers.add(number)
                continue
            term, row, count = reader.postings()
            inside = row < sums[number].size
            wrong += int((~inside).sum())
            term, row, count = term[inside], row[inside], count[inside]
            np.add.at(sums[number], row, count)
            np.add.at(sealed[number], row, marks[term] * count.astype(np.uint64))
    for segment in segments:
        bad = sums[segment.id] != segment.rows.lengths
        for place in (p for p in expected if p[0] == segment.id):
            bad[place[1]] |= not _same(segment, place[1], int(sealed[segment.id][place[1]]), expected[place])
        wrong += int(bad.sum())
    return wrong + len(strangers)


def _same(segment: Segment, row: int, sealed: int, analysis: Analysis) -> bool:
    """Does a row have these terms as often, and this language?"""
    seal = sum(_mark(term) * count for term, count in Counter(analysis.terms).items()) % 2**64
    facts: tuple[Any, ...] = (int(segment.rows.lengths[row]), int(segment.rows.languages[row]), sealed)
    return facts == (len(analysis.terms), analysis.language, seal)


def _mark(term: str) -> int:
    """64 bits of the term's hash: the sum of marks times counts is equal only for equal terms and counts, but for chance."""
    return int.from_bytes(blake2b(term.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")
