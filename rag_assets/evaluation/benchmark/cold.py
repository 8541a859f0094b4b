"""Cold starts: first queries on database connections that have run none, with the index out of PostgreSQL's buffers if that can be."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import psycopg

from rag_assets.database.generations import Generation
from rag_assets.database.pool import Database
from rag_assets.errors import RagAssetsError
from rag_assets.evaluation.benchmark.searches import Searches
from rag_assets.evaluation.latency import ColdStart, summarise_stages
from rag_assets.runtime import Runtime

COLD_QUERIES = 5
"""First queries made; each costs a connection."""


def cold_start(runtime: Runtime, generation: Generation, searches: Searches) -> tuple[ColdStart | None, int]:
    """(what was measured, how many of the first queries failed); nothing, if all did."""
    times, failed, evicted = [], 0, True
    for number in range(COLD_QUERIES):
        evicted = evicted and evict(runtime, generation)
        try:
            with _fresh(runtime) as other:
                times.append(searches.ask(number, runtime=other).milliseconds)
        except (RagAssetsError, psycopg.Error):
            failed += 1
    if not times:
        return None, failed
    return ColdStart("evicted" if evicted else "connection", summarise_stages(times)), failed


@contextmanager
def _fresh(runtime: Runtime) -> Iterator[Runtime]:
    """The same runtime, its model shared, with one new connection that has asked nothing yet."""
    database = Database(runtime.database.url, name="rag-assets-benchmark")
    try:
        database.pool.wait()
        other = copy.copy(runtime)
        other.__dict__["database"] = database
        yield other
    finally:
        database.close()


def evict(runtime: Runtime, generation: Generation) -> bool:
    """Drop a generation's tables and indexes from PostgreSQL's buffers; False where that is not possible.

    It takes the extension pg_buffercache 1.6 (PostgreSQL 18), which is used where the database has it and never installed, and a
    role that may. What another store keeps in memory is not ours to drop.
    """
    tables = runtime.store_of(generation).tables(generation)
    if not tables:
        return False
    try:
        with runtime.database.transaction() as connection:
            known = connection.execute(
                "SELECT to_regprocedure('pg_buffercache_evict_relation(regclass)') IS NOT NULL"
            ).fetchone()
            if not known or not known[0]:
                return False
            connection.execute(
                """
                WITH tables AS (
                    SELECT oid, reltoastrelid FROM pg_class WHERE oid = ANY(%s::text[]::regclass[]::oid[])
                ), heaps AS (
                    SELECT oid FROM tables UNION SELECT reltoastrelid FROM tables WHERE reltoastrelid <> 0
                ), relations AS (
                    SELECT oid FROM heaps UNION SELECT indexrelid FROM pg_index WHERE indrelid IN (SELECT oid FROM heaps)
                )
                SELECT pg_buffercache_evict_relation(oid::regclass) FROM relations
                """,
                (_existing(connection, tables),),
            )
    except psycopg.errors.InsufficientPrivilege:
        return False
    return True


def _existing(connection: psycopg.Connection[object], names: Sequence[str]) -> list[str]:
    """Those that there are."""
    rows = connection.execute(
        "SELECT name FROM unnest(%s::text[]) AS name WHERE to_regclass(name) IS NOT NULL", (list(names),)
    ).fetchall()
    return [str(row[0]) for row in rows]  # type: ignore[index]
