"""Dense search behind a filter, by the way that finds the right rows in the least time.

* ``exact``: every row that passes is compared. An index of the payload finds them (2 to 4 µs a row); without one (ranges,
  prefixes of other fields, ``!=``) all rows are read.
* ``index``: the HNSW graph is walked, and rows that do not pass are skipped. Its beam is widened so that it holds about
  twice ``ef_search`` rows that pass. Beyond the widest beam pgvector has, recall falls, so narrower filters are searched exactly.
  So are filters that go with the meaning (one team's documents) where the question is about something else: few of the rows
  nearest to it pass, and the walk ends before it reaches those that do. When it has not found ``k`` rows, the search is done
  again, exactly.

Which one is decided by an estimate: the share of rows that pass in a sample of the table's pages, always the same ones, so
that the same question is answered the same way while the table is.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from pgvector import HalfVector
from psycopg import sql

from rag_assets.database.generations import Generation
from rag_assets.models import Condition
from rag_assets.stores import pgvector
from rag_assets.stores.conditions import clause, indexed
from rag_assets.stores.protocol import MOST_EXACT, Connection, Plan

SMALL = 2000
"""Rows that are compared at once without estimating anything: 3 ms."""
SAMPLE = 500
"""Rows that are looked at for an estimate: 1.5 ms."""
NEAREST = 100
"""Rows nearest to a question that are looked at before the graph is walked behind a filter: 2 ms."""
WIDEST_BEAM = 1000
"""What pgvector allows for ``hnsw.ef_search``."""
_BEAM_FACTOR = 2
# Microseconds, measured at 384 dimensions (evals/benchmarks/filters.py): comparing a row that an index found, reading one to see
# whether it passes, and one place in the graph's beam.
_COMPARED, _READ, _WALKED = 3.0, 1.2, 15.0


def choose(
    connection: Connection, generation: Generation, filters: Sequence[Condition], k: int, *, ef_search: int
) -> Plan:
    """The way to the ``k`` nearest rows that pass; call inside a transaction."""
    rows, has_index = _facts(connection, generation)
    if rows <= SMALL:
        return Plan("exact", rows)
    share = _share(connection, generation, filters, rows)
    passing = round(share * rows)
    wanted = _BEAM_FACTOR * max(k, ef_search) / share
    beam = min(WIDEST_BEAM, round(wanted))
    exact = passing * _COMPARED + (0 if has_index and indexed(filters) else rows * _READ)
    too_narrow = wanted > _BEAM_FACTOR * WIDEST_BEAM and passing <= MOST_EXACT
    if too_narrow or exact <= beam * _WALKED:
        return Plan("exact", rows, passing)
    return Plan("index", rows, passing, beam)


def find(
    connection: Connection,
    generation: Generation,
    vector: npt.NDArray[np.float32] | None,
    k: int,
    filters: Sequence[Condition],
    *,
    ef_search: int = 100,
    exact: bool = False,
    plan: Plan | None = None,
) -> tuple[dict[str, float], Collection[str] | None, Plan]:
    """The ``k`` rows nearest to a unit vector among those that pass; call inside a transaction.

    Args:
        connection: an open transaction.
        generation: which rows.
        vector: None: only the way is chosen, and on the exact one the rows listed.
        k: most rows that are returned; so many are, if so many pass.
        filters: what they must pass; at least one condition.
        ef_search: beam of the graph when all rows pass.
        exact: compare every row that passes.
        plan: the way to take; None: what :func:`choose` says.

    Returns:
        chunk id → cosine similarity, nearest first; the ids of all rows that pass, if they had to be listed; the way taken.
    """
    plan = Plan("exact", 0) if exact else plan or choose(connection, generation, filters, k, ef_search=ef_search)
    if plan.way == "index":
        if vector is None:
            return {}, None, plan
        plan = replace(plan, near=_share_near(connection, generation, vector, filters))
    if plan.way == "index" and plan.misses_rows:
        plan = replace(plan, way="exact")
    if plan.way == "index":
        assert vector is not None
        with _planning(connection, enable_seqscan="off", enable_bitmapscan="off"):
            found = pgvector.nearest(connection, generation, vector, k, ef_search=plan.beam, filters=filters)
        if len(found) >= k:
            return dict(found), None, plan
        plan = replace(plan, way="exact", fell_back=True)
    listed = passing(connection, generation, filters, vector)
    return (_best(listed, k) if vector is not None else {}), listed.keys(), plan


def passing(
    connection: Connection,
    generation: Generation,
    filters: Sequence[Condition],
    vector: npt.NDArray[np.float32] | None = None,
) -> dict[str, float]:
    """Chunk id -> cosine similarity to ``vector`` (nan without one), of every row that passes."""
    condition = clause(filters)
    similarity = sql.SQL("1 - (embedding <=> %(vector)s)") if vector is not None else sql.SQL("'nan'::float8")
    statement = sql.SQL("SELECT chunk_id, {} FROM {} WHERE {}").format(
        similarity, pgvector.table(generation), condition.sql
    )
    parameters: dict[str, Any] = {"vector": HalfVector(vector)} if vector is not None else {}
    # An index of the payload is used where one helps: the planner knows too little of JSON to be asked.
    with _planning(connection, enable_seqscan="off" if indexed(filters) else "on"):
        return dict(connection.execute(statement, parameters | condition.parameters, binary=True).fetchall())


def _best(similarities: Mapping[str, float], k: int) -> dict[str, float]:
    """The ``k`` highest, highest first, equal ones by chunk id."""
    return dict(sorted(similarities.items(), key=lambda item: (-item[1], item[0]))[:k])


def _facts(connection: Connection, generation: Generation) -> tuple[int, bool]:
    """(rows, whether there is an index of the payload)."""
    name = f"rag.index_entry_g{generation.id}"
    found: Any = connection.execute(
        "SELECT reltuples, to_regclass(%s) IS NOT NULL FROM pg_class WHERE oid = to_regclass(%s)",
        (f"{name}_payload", name),
    ).fetchone()
    # Below zero: nobody has counted yet.
    return (int(found[0]) if found[0] > 0 else pgvector.count(connection, generation)), bool(found[1])


def _share(connection: Connection, generation: Generation, filters: Sequence[Condition], rows: int) -> float:
    """About which share of the rows passes: more than 0."""
    condition = clause(filters)
    statement = sql.SQL(
        "SELECT count(*), count(*) FILTER (WHERE {}) FROM {} TABLESAMPLE SYSTEM (%(percent)s) REPEATABLE (1)"
    ).format(condition.sql, pgvector.table(generation))
    percent = min(100.0, 100 * SAMPLE / rows)
    found: Any = connection.execute(statement, {"percent": percent, **condition.parameters}, binary=True).fetchone()
    return float((found[1] + 0.5) / (found[0] + 1))


def _share_near(
    connection: Connection, generation: Generation, vector: npt.NDArray[np.float32], filters: Sequence[Condition]
) -> float:
    """Which share of the rows nearest to a unit vector passes."""
    nearest = [chunk_id for chunk_id, _ in pgvector.nearest(connection, generation, vector, NEAREST)]
    condition = clause(filters)
    statement = sql.SQL(
        "SELECT count(*) FROM {} WHERE generation_id = %(id)s AND chunk_id = ANY(%(ids)s) AND {}"
    ).format(pgvector.table(generation), condition.sql)
    parameters = {"id": generation.id, "ids": nearest, **condition.parameters}
    found: Any = connection.execute(statement, parameters, binary=True).fetchone()
    return float(found[0]) / max(1, len(nearest))


@contextmanager
def _planning(connection: Connection, **settings: str) -> Iterator[None]:
    """Settings of the planner for what runs inside, so that an estimate of its own does not take another way."""
    names = list(settings)
    before = connection.execute("SELECT current_setting(name) FROM unnest(%s::text[]) AS name", (names,)).fetchall()
    change = "SELECT set_config(name, value, true) FROM unnest(%s::text[], %s::text[]) AS changes (name, value)"
    connection.execute(change, (names, list(settings.values())))
    yield
    # Not where an error left: the transaction is lost with its settings.
    connection.execute(change, (names, [row[0] for row in before]))
