"""Generations: which complete indexes a collection has, which one is live, and the flip between them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from rag_assets.database.ledger import ensure_collection
from rag_assets.errors import GateRefused, RagAssetsError
from rag_assets.failpoints import failpoint

Connection = psycopg.Connection[Any]


@dataclass(frozen=True, slots=True)
class GenerationKey:
    """What makes two generations the same index: how it is cut, embedded and searched."""

    chunker_fp: str
    embedder_fp: str
    index_fp: str


@dataclass(frozen=True, slots=True)
class Generation:
    """One complete index of a collection."""

    id: int
    collection: str
    sequence: int
    key: GenerationKey
    config: Mapping[str, Any]
    dimension: int
    state: str
    reason: str | None
    created_at: datetime
    promoted_at: datetime | None
    built_rows: int
    """Rows when the HNSW graph was last built."""
    churned_rows: int
    """Rows written or deleted since."""
    rebuild: bool
    """Begun beside a live generation of the same key, because that one's health asked for it."""
    beam: int | None = None
    """``ef_search`` that its recall needs, as measured; None: the setting is enough. See ``Runtime.beam_of``."""

    @property
    def name(self) -> str:
        """As people see it: ``handbook#3``."""
        return f"{self.collection}#{self.sequence}"

    @property
    def is_live(self) -> bool:
        """True when queries are answered from it."""
        return self.state == "live"


_COLUMNS = sql.SQL(
    "id, collection, sequence, chunker_fp, embedder_fp, index_fp, config, dimension, state, reason, created_at, promoted_at,"
    " built_rows, churned_rows, rebuild, beam"
)
_SELECT = sql.SQL("SELECT {} FROM generation ").format(_COLUMNS)
_LIVE = (_SELECT + sql.SQL("WHERE id = (SELECT live_generation FROM collection WHERE name = %s)")).as_bytes()


def _generation(row: tuple[Any, ...]) -> Generation:
    return Generation(row[0], row[1], row[2], GenerationKey(row[3], row[4], row[5]), *row[6:])


def all_generations(connection: Connection, collection: str) -> list[Generation]:
    """Every generation that still exists, newest first."""
    rows = connection.execute(
        _SELECT + sql.SQL("WHERE collection = %s ORDER BY sequence DESC"), (collection,)
    ).fetchall()
    return [_generation(row) for row in rows]


def by_id(connection: Connection, generation_id: int) -> Generation:
    """One generation.

    Raises:
        RagAssetsError: it does not exist.
    """
    found = by_id_or_none(connection, generation_id)
    if found is None:
        raise RagAssetsError(f"Generation {generation_id} does not exist. `rag-assets status` lists those that do.")
    return found


def by_id_or_none(connection: Connection, generation_id: int) -> Generation | None:
    """One generation, or None when it does not exist (any more)."""
    row = connection.execute(_SELECT + sql.SQL("WHERE id = %s"), (generation_id,)).fetchone()
    return _generation(row) if row else None


def live(connection: Connection, collection: str) -> Generation | None:
    """The generation queries are answered from, if there is one."""
    return looked_up(look_up_live(connection, collection))


def look_up_live(connection: Connection, collection: str) -> psycopg.Cursor[Any]:
    """Ask for :func:`live`; in a pipeline, without waiting for the answer, which :func:`looked_up` reads."""
    return connection.execute(_LIVE, (collection,))


def looked_up(answer: psycopg.Cursor[Any]) -> Generation | None:
    """What was asked for, if it is there."""
    row = answer.fetchone()
    return _generation(row) if row else None


def find(connection: Connection, collection: str, key: GenerationKey) -> Generation | None:
    """The generation work goes into: a rebuild that was begun, else the live one if its key is ``key``, else the one
    being built, if any."""
    row = connection.execute(
        _SELECT
        + sql.SQL(
            "WHERE collection = %s AND (chunker_fp, embedder_fp, index_fp) = (%s, %s, %s) AND state <> 'retired'"
            " ORDER BY rebuild AND state IN ('building', 'ready') DESC, state = 'live' DESC, sequence DESC LIMIT 1"
        ),
        (collection, key.chunker_fp, key.embedder_fp, key.index_fp),
    ).fetchone()
    return _generation(row) if row else None


def create(
    connection: Connection, collection: str, key: GenerationKey, config: Mapping[str, Any], dimension: int
) -> Generation:
    """Begin a generation beside the live one: its row only (the store makes its table)."""
    ensure_collection(connection, collection)
    connection.execute("SELECT 1 FROM collection WHERE name = %s FOR UPDATE", (collection,))
    existing = find(connection, collection, key)
    if existing is not None:
        return existing
    return _insert(connection, collection, key, config, dimension, rebuild=False)


def begin_rebuild(connection: Connection, live: Generation) -> Generation:
    """Begin a generation of the live one's key beside it; returns the one that was begun already, if any."""
    connection.execute("SELECT 1 FROM collection WHERE name = %s FOR UPDATE", (live.collection,))
    existing = find(connection, live.collection, live.key)
    if existing is not None and not existing.is_live:
        return existing
    return _insert(connection, live.collection, live.key, live.config, live.dimension, rebuild=True)


def _insert(
    connection: Connection,
    collection: str,
    key: GenerationKey,
    config: Mapping[str, Any],
    dimension: int,
    *,
    rebuild: bool,
) -> Generation:
    row = connection.execute(
        sql.SQL(
            """
        INSERT INTO generation (collection, sequence, chunker_fp, embedder_fp, index_fp, config, dimension, state, rebuild)
        VALUES (%(collection)s, 1 + coalesce((SELECT max(sequence) FROM generation WHERE collection = %(collection)s), 0),
                %(chunker)s, %(embedder)s, %(index)s, %(config)s, %(dimension)s, 'building', %(rebuild)s)
        RETURNING {}
        """
        ).format(_COLUMNS),
        {
            "collection": collection,
            "chunker": key.chunker_fp,
            "embedder": key.embedder_fp,
            "index": key.index_fp,
            "config": Jsonb(dict(config)),
            "dimension": dimension,
            "rebuild": rebuild,
        },
    ).fetchone()
    assert row is not None
    return _generation(row)


def set_state(connection: Connection, generation_id: int, state: str, reason: str | None = None) -> None:
    """Note that a generation that is not live is ``building``, ``ready`` or ``refused``, and why."""
    connection.execute(
        "UPDATE generation SET state = %s, reason = %s WHERE id = %s AND state IN ('building', 'ready', 'refused')",
        (state, reason, generation_id),
    )


def note_churn(connection: Connection, generation_id: int, rows: int) -> None:
    """Add to the rows written or deleted since the HNSW graph was built."""
    connection.execute("UPDATE generation SET churned_rows = churned_rows + %s WHERE id = %s", (rows, generation_id))


def note_built(connection: Connection, generation_id: int, rows: int) -> None:
    """The HNSW graph was built from ``rows`` rows: nothing churned since."""
    connection.execute("UPDATE generation SET built_rows = %s, churned_rows = 0 WHERE id = %s", (rows, generation_id))


def keep_beam(connection: Connection, generation: Generation, beam: int | None) -> int | None:
    """Note the beam that a generation was measured to need (None: the setting is enough); returns the one that is kept.

    Where another evaluation has changed it since ``generation`` was read, the wider of both is kept: each is right about what
    it measured.

    Raises:
        RagAssetsError: the generation is gone.
    """
    row = connection.execute(
        "UPDATE generation SET beam = CASE WHEN beam IS NOT DISTINCT FROM %(seen)s::int THEN %(beam)s::int"
        " ELSE greatest(beam, %(beam)s::int) END WHERE id = %(id)s RETURNING beam",
        {"id": generation.id, "seen": generation.beam, "beam": beam},
    ).fetchone()
    if row is None:
        raise RagAssetsError(f"{generation.name} was dropped meanwhile. `rag-assets status` lists those that exist.")
    return row[0]  # type: ignore[no-any-return]


ANY = -1
"""In place of an id: whatever is live may be replaced."""


def promote(
    connection: Connection, generation: Generation, *, who: str, reason: str, replacing: int | None = ANY
) -> Generation | None:
    """Make a generation live by one row flip; returns the generation it replaces.

    Args:
        connection: an open transaction.
        generation: as it was read when it was judged.
        who: shown in the history.
        reason: shown in the history.
        replacing: id of the live generation it was compared with (None: there was none).

    Raises:
        GateRefused: another promotion happened since ``generation`` was read, or the generation is gone.
    """
    row = connection.execute(
        "SELECT live_generation FROM collection WHERE name = %s FOR UPDATE", (generation.collection,)
    ).fetchone()
    if row is None:
        raise RagAssetsError(f"There is no collection {generation.collection!r} in the database.")
    previous = by_id(connection, row[0]) if row[0] is not None else None
    if previous is not None and previous.id == generation.id:
        return previous
    if replacing not in (ANY, row[0]):
        raise GateRefused(
            f"{previous.name if previous else 'Nothing'} is live now, which {generation.name} was not compared with. "
            "Materialize `retrieval_evaluation` again."
        )
    current = by_id(connection, generation.id)
    if current.state != generation.state:
        raise GateRefused(
            f"{generation.name} became {current.state} meanwhile; look at `rag-assets status` and try again."
        )
    if previous is not None:
        connection.execute("UPDATE generation SET state = 'retired' WHERE id = %s", (previous.id,))
    connection.execute(
        "UPDATE generation SET state = 'live', reason = %s, promoted_at = now() WHERE id = %s", (reason, generation.id)
    )
    connection.execute(
        "UPDATE collection SET live_generation = %s, version = version + 1 WHERE name = %s",
        (generation.id, generation.collection),
    )
    failpoint("promotion.flipped")
    connection.execute(
        "INSERT INTO promotion (collection, from_generation, to_generation, who, reason) VALUES (%s, %s, %s, %s, %s)",
        (generation.collection, previous.id if previous else None, generation.id, who, reason),
    )
    return previous


def withdraw(connection: Connection, generation_id: int, reason: str) -> None:
    """Mark a generation a person rolled back from: it follows its documents, but only a person makes it live again."""
    connection.execute(
        "UPDATE generation SET state = 'withdrawn', reason = %s WHERE id = %s AND state = 'retired'",
        (reason, generation_id),
    )


def reinstate(connection: Connection, generation_id: int) -> None:
    """Make a generation that was rolled back the one that is being built beside the live one."""
    connection.execute(
        "UPDATE generation SET state = 'building', rebuild = true, reason = NULL WHERE id = %s AND state = 'withdrawn'",
        (generation_id,),
    )


def superfluous(connection: Connection, collection: str, keep_retired: int) -> list[Generation]:
    """Generations nobody needs: retired ones beyond the last ``keep_retired``."""
    retired = [g for g in all_generations(connection, collection) if g.state == "retired"]
    retired.sort(key=lambda g: (g.promoted_at is not None, g.promoted_at, g.sequence), reverse=True)
    return retired[keep_retired:]
