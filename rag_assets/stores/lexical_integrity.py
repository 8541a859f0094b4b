"""Is the lexical index what the texts of its rows give? Counted from the posting lists themselves."""

from collections import Counter
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any

import numpy as np
import numpy.typing as npt

from rag_assets.database.generations import Generation
from rag_assets.stores import lexical_codec as codec
from rag_assets.stores.analysis import Analysis, analyzer, analyzer_fingerprint
from rag_assets.stores.lexical_segments import (
    Connection,
    Segment,
    alive,
    read_postings,
    read_segments,
    settings_of,
    texts,
)

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
    living = alive(segments)
    places = _places(segments, living)
    rows = connection.execute(
        "SELECT chunk_id FROM index_entry WHERE generation_id = %s ORDER BY chunk_id", (generation.id,)
    ).fetchall()
    wanted = [row[0] for row in rows]
    there, had = set(wanted), set(places)
    twice = sum(int(mask.sum()) for mask in living.values()) - len(places)
    sample = [chunk_id for chunk_id in wanted if chunk_id in places][:ANALYSED_ROWS]
    chosen = analyzer(settings)
    expected = {chunk_id: chosen.analyze(text) for chunk_id, text in texts(connection, generation, sample)}
    wrong = _wrong(connection, generation, segments, {places[chunk_id]: expected[chunk_id] for chunk_id in sample})
    wrong += sum(segment.analyzer != analyzer_fingerprint(settings) for segment in segments)
    return len(there - had) + len(had - there) + twice + wrong


def _places(segments: Sequence[Segment], living: Mapping[int, npt.NDArray[np.bool_]]) -> dict[str, tuple[int, int]]:
    """Chunk id -> its segment and row."""
    found = {}
    for segment in segments:
        rows = np.flatnonzero(living[segment.id])
        for chunk_id, row in zip(codec.decode_ids(segment.rows.chunk_ids[rows]), rows.tolist(), strict=True):
            found[chunk_id] = (segment.id, row)
    return found


def _wrong(
    connection: Connection,
    generation: Generation,
    segments: Sequence[Segment],
    expected: Mapping[tuple[int, int], Analysis],
) -> int:
    """Rows whose counts don't add up to their length, or whose terms, counts, length or language are not as expected."""
    readers: dict[int, codec.PostingReader] = {}
    vocabulary: dict[str, int] = {}
    for number, term, data in read_postings(connection, generation):
        readers.setdefault(number, codec.PostingReader(vocabulary)).add(term, data)
    marks = np.asarray([_mark(term) for term in vocabulary], dtype=np.uint64)
    wrong = len(readers.keys() - {segment.id for segment in segments})
    for segment in segments:
        size = segment.rows.lengths.size
        sums, sealed = np.zeros(size, np.int64), np.zeros(size, np.uint64)
        if segment.id in readers:
            numbers, row, count = readers[segment.id].postings()
            inside = row < size
            wrong += int((~inside).sum())
            numbers, row, count = numbers[inside], row[inside], count[inside]
            np.add.at(sums, row, count)
            np.add.at(sealed, row, marks[numbers] * count.astype(np.uint64))
        bad = sums != segment.rows.lengths
        for place in (p for p in expected if p[0] == segment.id):
            bad[place[1]] |= not _same(segment, place[1], int(sealed[place[1]]), expected[place])
        wrong += int(bad.sum())
    return wrong


def _same(segment: Segment, row: int, sealed: int, analysis: Analysis) -> bool:
    """Does a row have these terms as often, and this language?"""
    seal = sum(_mark(term) * count for term, count in Counter(analysis.terms).items()) % 2**64
    facts: tuple[Any, ...] = (int(segment.rows.lengths[row]), int(segment.rows.languages[row]), sealed)
    return facts == (len(analysis.terms), analysis.language, seal)


def _mark(term: str) -> int:
    """64 bits of the term's hash: the sum of marks times counts is equal only for equal terms and counts, but for chance."""
    return int.from_bytes(blake2b(term.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")
