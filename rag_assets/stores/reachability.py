"""Can every row of an HNSW index be found? A graph may lose rows: under churn, or when it is damaged."""

from typing import Any

import psycopg
from psycopg import sql

from rag_assets.database.generations import Generation
from rag_assets.stores import pgvector

ROWS = 2000
"""Rows whose own vector is looked up through the index: all of a small index, a sample of a large one."""
WIDTHS = ((20, 10), (100, 10), (1000, 1000))
"""Values of hnsw.ef_search for that, and how many hits are looked through; 1000 is the widest that pgvector searches. Nearly
every row is found by the first, in a quarter of the time that the second takes."""

_UNREACHABLE = """
    SELECT mine.chunk_id FROM (SELECT chunk_id, text_hash, embedding FROM {table} {mine}) mine
    WHERE NOT EXISTS (
        SELECT 1 FROM (
            SELECT near.text_hash FROM {table} near ORDER BY near.{column} <=> mine.{column} LIMIT %(hits)s
        ) hits WHERE hits.text_hash = mine.text_hash
    )
"""


def unreachable(connection: psycopg.Connection[Any], generation: Generation) -> list[str]:
    """Chunk ids of rows (of ``ROWS``, always the same ones) that a search for their own vector does not find.

    Those that a narrow search misses are looked for more widely: among thousands of rows that are nearly alike a narrow one
    is a matter of recall, which is measured by itself, and only the widest says that the graph has lost a row.
    """
    names = {
        "table": pgvector.table(generation),
        "column": sql.SQL(f"embedding::halfvec({int(generation.dimension)})"),
        "mine": sql.SQL("ORDER BY chunk_id LIMIT %(rows)s"),
    }
    missed: list[str] = []
    for ef_search, hits in WIDTHS:
        # A pooled connection may keep what searches go by, which is to look further.
        connection.execute(
            "SELECT set_config('hnsw.ef_search', %s, true), set_config('hnsw.iterative_scan', 'off', true)",
            (str(ef_search),),
        )
        rows = connection.execute(
            sql.SQL(_UNREACHABLE).format(**names), {"missed": missed, "rows": ROWS, "hits": hits}
        ).fetchall()
        missed = [row[0] for row in rows]
        if not missed:
            break
        names["mine"] = sql.SQL("WHERE chunk_id = ANY(%(missed)s)")
    return missed
