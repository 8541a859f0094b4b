"""Writing the lexical index: segments are added, merged and made again, in the transaction that changes the rows they describe.

Writers hold an advisory lock of the generation in share mode; whoever replaces segments holds it alone, so that a deletion can
name a row by its segment and number.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import psycopg
from psycopg import sql

from rag_assets.database.generations import Generation
from rag_assets.settings import LexicalSettings
from rag_assets.stores import lexical_codec as codec
from rag_assets.stores.analysis import Analysis, analyzer, analyzer_fingerprint
from rag_assets.stores.lexical_codec import TOMBSTONE, Postings, Rowset

Connection = psycopg.Connection[Any]
BATCH = 20_000
"""Rows analysed at once: what bounds memory. Each batch becomes a segment."""
_LOCK = 0x6C6578  # "lex": class of the advisory locks, whose key is the generation


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment without its posting lists."""

    id: int
    analyzer: str
    rows: Rowset
    tombstones: npt.NDArray[np.void]
    """Rows of older segments that it deletes."""


def table(generation: Generation) -> sql.Identifier:
    """The generation's posting lists."""
    return sql.Identifier(f"lexical_posting_g{generation.id}")


def settings_of(generation: Generation) -> LexicalSettings | None:
    """How the generation's texts are analysed; None: it was made before there was a lexical index, and has none."""
    stored = generation.config.get("lexical")
    return LexicalSettings(**stored) if stored is not None else None


def read_segments(connection: Connection, generation: Generation, ids: Sequence[int] | None = None) -> list[Segment]:
    """The generation's segments, oldest first: all, or those of some ids."""
    rows = connection.execute(
        "SELECT id, analyzer, chunk_ids, lengths, languages, tombstones FROM lexical_segment"
        " WHERE generation_id = %s AND (%s::int[] IS NULL OR id = ANY(%s::int[])) ORDER BY id",
        (generation.id, ids, ids),
        binary=True,
    ).fetchall()
    return [_segment(*row) for row in rows]


def read_postings(
    connection: Connection, generation: Generation, segments: Sequence[int] | None = None
) -> Iterator[tuple[int, str, bytes]]:
    """(segment, term, posting list) of everything, or of everything in some segments, in order of terms.

    Call inside a transaction, and once at a time in it; what is written to the table meanwhile is not seen.
    """
    with connection.cursor(name="lexical_postings", binary=True) as cursor:
        cursor.itersize = BATCH
        cursor.execute(
            sql.SQL(
                "SELECT segment, term, postings FROM {} WHERE %s::int[] IS NULL OR segment = ANY(%s::int[]) ORDER BY term"
            ).format(table(generation)),
            (list(segments) if segments is not None else None,) * 2,
        )
        yield from cursor


def texts(connection: Connection, generation: Generation, chunk_ids: Sequence[str]) -> list[tuple[str, str]]:
    """(chunk id, text that is indexed: what is embedded) of rows of the generation, by id."""
    return connection.execute(
        """
        SELECT e.chunk_id,
            CASE WHEN coalesce(c.context, '') = '' THEN '' ELSE c.context || E'\\n' END || coalesce(c.embedded, e.text)
        FROM index_entry e LEFT JOIN chunk c ON c.chunker_fp = %s AND c.chunk_id = e.chunk_id
        WHERE e.generation_id = %s AND e.chunk_id = ANY(%s) ORDER BY e.chunk_id
        """,
        (generation.key.chunker_fp, generation.id, list(chunk_ids)),
    ).fetchall()


def alive(segments: Sequence[Segment]) -> dict[int, npt.NDArray[np.bool_]]:
    """Segment -> which of its rows are not deleted."""
    found = {segment.id: np.ones(segment.rows.lengths.size, dtype=bool) for segment in segments}
    for segment in segments:
        for number in np.unique(segment.tombstones["segment"]).tolist():
            if number in found:
                found[number][segment.tombstones["row"][segment.tombstones["segment"] == number]] = False
    return found


def dead_rows(
    segments: Sequence[Segment], more: npt.NDArray[np.void] | None = None
) -> dict[int, npt.NDArray[np.bool_]]:
    """Segment -> which of its rows are deleted; segments without any are left out."""
    dead = {number: ~rows for number, rows in alive(segments).items()}
    for place in more if more is not None else ():
        dead[int(place["segment"])][int(place["row"])] = True
    return {number: rows for number, rows in dead.items() if rows.any()}


def _segment(number: int, version: str, ids: bytes, lengths: bytes, languages: bytes, tombstones: bytes) -> Segment:
    rows = Rowset(
        np.frombuffer(ids, dtype="V16"), np.frombuffer(lengths, dtype="<u4"), np.frombuffer(languages, dtype=np.uint8)
    )
    return Segment(number, version, rows, np.frombuffer(tombstones, dtype=TOMBSTONE))


def index(
    connection: Connection,
    generation: Generation,
    settings: LexicalSettings,
    chunk_ids: Sequence[str],
    gone: npt.NDArray[np.void],
) -> None:
    """Write new rows, and which rows they replace, as new segments."""
    chosen = analyzer(settings)
    for start in range(0, len(chunk_ids), BATCH):
        found = texts(connection, generation, chunk_ids[start : start + BATCH])
        analyses = [chosen.analyze(text) for _, text in found]
        rows = _rowset([chunk_id for chunk_id, _ in found], analyses)
        _insert(connection, generation, settings, rows, [codec.invert(analyses)], gone)
        gone = gone[:0]
    if gone.size:
        _insert(connection, generation, settings, _rowset([], []), [], gone)


def _rowset(chunk_ids: Sequence[str], analyses: Sequence[Analysis]) -> Rowset:
    return Rowset(
        codec.encode_ids(chunk_ids),
        np.asarray([len(analysis.terms) for analysis in analyses], dtype="<u4"),
        np.asarray([analysis.language for analysis in analyses], dtype=np.uint8),
    )


def _insert(
    connection: Connection,
    generation: Generation,
    settings: LexicalSettings,
    rows: Rowset,
    postings: Iterable[Postings],
    tombstones: npt.NDArray[np.void],
    into: sql.Identifier | None = None,
) -> None:
    row: Any = connection.execute(
        "INSERT INTO lexical_segment (generation_id, analyzer, row_count, chunk_ids, lengths, languages, tombstones)"
        " VALUES (%s, %s, %s, %s, %s, %s, %s) RETURNING id",
        (
            generation.id,
            analyzer_fingerprint(settings),
            rows.lengths.size,
            rows.chunk_ids.tobytes(),
            rows.lengths.tobytes(),
            rows.languages.tobytes(),
            tombstones.tobytes(),
        ),
    ).fetchone()
    statement = sql.SQL("COPY {} (segment, term, postings) FROM STDIN (FORMAT BINARY)").format(
        into or table(generation)
    )
    for portion in postings:
        with connection.cursor().copy(statement) as copy:
            copy.set_types(["int4", "text", "bytea"])
            for term, data in sorted(codec.encode(portion)):
                copy.write_row((row[0], term, data))


def replace(
    connection: Connection,
    generation: Generation,
    group: Sequence[Segment],
    dead: dict[int, npt.NDArray[np.bool_]],
    into: sql.Identifier | None = None,
) -> None:
    """One segment instead of several, without their deleted rows; the lock is held alone.

    ``into`` is the table its posting lists go to, where the generation's own is about to be dropped.
    """
    settings = settings_of(generation)
    assert settings is not None
    kept = {s.id: ~dead.get(s.id, np.zeros(s.rows.lengths.size, dtype=bool)) for s in group}
    renumbered, first = {}, 0
    for number, mask in kept.items():
        renumbered[number] = np.where(mask, first + np.cumsum(mask) - 1, -1)
        first += int(mask.sum())
    rows = Rowset(
        np.concatenate([s.rows.chunk_ids[kept[s.id]] for s in group]),
        np.concatenate([s.rows.lengths[kept[s.id]] for s in group]),
        np.concatenate([s.rows.languages[kept[s.id]] for s in group]),
    )
    # Their deletions of rows of other segments that are still there must go on.
    others = [number for number in sizes(connection, generation) if number not in kept]
    deletions = np.concatenate([segment.tombstones for segment in group])
    deletions = deletions[np.isin(deletions["segment"], others)]
    if rows.lengths.size or deletions.size:
        portions = codec.portions(read_postings(connection, generation, list(kept)))
        merged = (codec.merge(portion, renumbered) for portion in portions)
        _insert(connection, generation, settings, rows, merged, deletions, into)
    if into is None:
        connection.execute(sql.SQL("DELETE FROM {} WHERE segment = ANY(%s)").format(table(generation)), (list(kept),))
    connection.execute("DELETE FROM lexical_segment WHERE id = ANY(%s)", (list(kept),))


def sizes(connection: Connection, generation: Generation) -> dict[int, int]:
    """Segment -> its rows, deleted ones included."""
    return dict(
        connection.execute(
            "SELECT id, row_count FROM lexical_segment WHERE generation_id = %s", (generation.id,)
        ).fetchall()
    )


def locate(connection: Connection, generation: Generation, chunk_ids: Sequence[str]) -> npt.NDArray[np.void]:
    """Where rows of these ids are that are not deleted yet."""
    wanted = codec.encode_known(chunk_ids)
    if not wanted.size:
        return np.empty(0, TOMBSTONE)
    segments = read_segments(connection, generation)
    living = alive(segments)
    found = []
    for segment in segments:
        rows = codec.places(segment.rows.chunk_ids, wanted)
        rows = rows[living[segment.id][rows]]
        place = np.empty(rows.size, TOMBSTONE)
        place["segment"], place["row"] = segment.id, rows
        found.append(place)
    return np.concatenate(found) if found else np.empty(0, TOMBSTONE)


def lock_shared(connection: Connection, generation: Generation) -> None:
    """Keep everybody from replacing segments until the transaction ends; others may add some."""
    connection.execute("SELECT pg_advisory_xact_lock_shared(%s, %s)", (_LOCK, generation.id))


def lock_alone(connection: Connection, generation: Generation) -> None:
    """Wait until nobody writes to the generation's lexical index; nobody does until the transaction ends."""
    connection.execute("SELECT pg_advisory_xact_lock(%s, %s)", (_LOCK, generation.id))


def try_lock_alone(connection: Connection, generation: Generation) -> bool:
    """As :func:`lock_alone`, but returns False at once where somebody writes."""
    row: Any = connection.execute("SELECT pg_try_advisory_xact_lock(%s, %s)", (_LOCK, generation.id)).fetchone()
    return bool(row[0])
