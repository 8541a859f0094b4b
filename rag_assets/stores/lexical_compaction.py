"""When segments of the lexical index are merged, and which: few segments are quick to search, merging rarely is cheap to write.

Segments are merged with others of their size, as in Lucene's LogMergePolicy.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
from psycopg import sql

from rag_assets.database.generations import Generation
from rag_assets.failpoints import failpoint
from rag_assets.stores.lexical_codec import MAX_ROWS, TOMBSTONE
from rag_assets.stores.lexical_segments import (
    Connection,
    Segment,
    dead_rows,
    read_segments,
    replace,
    settings_of,
    sizes,
    table,
    try_lock_alone,
)

TIER = 8
"""So many segments of about one size (within a factor of ``TIER``) are merged into one, so that a row is written again once
for each power of ``TIER`` that the index grows by."""
DEAD_SHARE = 0.25
"""A segment with more than this share of deleted rows is written again without them."""


def compact(connection: Connection, generation: Generation) -> None:
    """Merge segments where there are many of one size, and write those again that have many deleted rows.

    Does nothing while others write to the generation: the next writer does it. New writers wait until the transaction ends.
    """
    if settings_of(generation) is None:
        return
    present = sizes(connection, generation)
    if not _crowded(present.values()) and not _weighed_down(connection, generation, present):
        return
    if not try_lock_alone(connection, generation):
        return
    segments = read_segments(connection, generation)
    dead = dead_rows(segments)
    for group in _due(segments, dead):
        replace(connection, generation, group, dead)
    failpoint("lexical.compacted")


def optimise(connection: Connection, generation: Generation) -> None:
    """Merge into as few segments as there can be, without deleted rows; nothing where others write at the moment."""
    if settings_of(generation) is None or not try_lock_alone(connection, generation):
        return
    segments = read_segments(connection, generation)
    dead = dead_rows(segments)
    small = [segment for segment in segments if segment.id in dead or segment.rows.lengths.size < MAX_ROWS // 2]
    groups = [
        group for group in _packed(small, dead) if len(group) > 1 or group[0].id in dead or group[0].tombstones.size
    ]
    # A table that nobody queries yet is written anew: what was merged would else stay in it as empty pages.
    into = sql.Identifier(f"lexical_posting_g{generation.id}_merged") if groups and not generation.is_live else None
    if into is not None:
        connection.execute(sql.SQL("CREATE TABLE {} (LIKE lexical_posting INCLUDING ALL)").format(into))
    for group in groups:
        replace(connection, generation, group, dead, into)
    if into is not None:
        merged = {segment.id for group in groups for segment in group}
        _move(connection, generation, into, [segment.id for segment in segments if segment.id not in merged])
    connection.execute(sql.SQL("ANALYZE {}").format(table(generation)))


def _move(connection: Connection, generation: Generation, into: sql.Identifier, untouched: Sequence[int]) -> None:
    """Make ``into`` the generation's table."""
    old = table(generation)
    connection.execute(
        sql.SQL("INSERT INTO {} SELECT * FROM {} WHERE segment = ANY(%s)").format(into, old), (list(untouched),)
    )
    connection.execute(sql.SQL("DROP TABLE {}").format(old))
    connection.execute(sql.SQL("ALTER TABLE {} RENAME TO {}").format(into, old))


def _due(segments: Sequence[Segment], dead: dict[int, npt.NDArray[np.bool_]]) -> list[list[Segment]]:
    """Groups to merge: ``TIER`` segments of a size, and single ones that are mostly deleted."""
    due: list[list[Segment]] = []
    tiers: dict[int, list[Segment]] = {}
    for segment in segments:
        if segment.rows.lengths.size >= MAX_ROWS // 2:
            continue
        tiers.setdefault(_tier(segment.rows.lengths.size), []).append(segment)
    for tier in tiers.values():
        if len(tier) >= TIER:
            due += [group for group in _packed(tier, dead) if len(group) > 1]
    merged = {segment.id for group in due for segment in group}
    due += [
        [segment]
        for segment in segments
        if segment.id not in merged
        and segment.id in dead
        and dead[segment.id].sum() > DEAD_SHARE * segment.rows.lengths.size
    ]
    return due


def _packed(segments: Iterable[Segment], dead: dict[int, npt.NDArray[np.bool_]]) -> list[list[Segment]]:
    """The segments in groups whose live rows one segment can hold."""
    groups: list[list[Segment]] = []
    room = 0
    for segment in segments:
        size = segment.rows.lengths.size - (int(dead[segment.id].sum()) if segment.id in dead else 0)
        if not groups or size > room:
            groups.append([])
            room = MAX_ROWS
        groups[-1].append(segment)
        room -= size
    return groups


def _tier(rows: int) -> int:
    tier = 0
    while rows >= TIER:
        rows //= TIER
        tier += 1
    return tier


def _crowded(rows: Iterable[int]) -> bool:
    """Are there ``TIER`` segments of a size? Those that fill half the numbers there are stay as they are."""
    tiers = [_tier(size) for size in rows if size < MAX_ROWS // 2]
    return any(tiers.count(tier) >= TIER for tier in set(tiers))


def _weighed_down(connection: Connection, generation: Generation, present: dict[int, int]) -> bool:
    """Is there a segment with too many deleted rows?"""
    rows = connection.execute(
        "SELECT tombstones FROM lexical_segment WHERE generation_id = %s AND tombstones <> ''",
        (generation.id,),
        binary=True,
    ).fetchall()
    found = np.unique(np.frombuffer(b"".join(row[0] for row in rows), dtype=TOMBSTONE))
    numbers, counts = np.unique(found["segment"], return_counts=True)
    return any(
        count > DEAD_SHARE * present[number]
        for number, count in zip(numbers.tolist(), counts.tolist(), strict=True)
        if number in present
    )
