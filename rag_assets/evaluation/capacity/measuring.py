"""What this installation uses, read from its tables, its disk and its memory. Writes nothing."""

import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from psycopg.rows import scalar_row

from rag_assets.database import generations
from rag_assets.database.embedded import embedded
from rag_assets.database.generations import Generation
from rag_assets.database.ledger import Connection
from rag_assets.database.location import existing_cluster
from rag_assets.database.pool import POOL_SIZE
from rag_assets.evaluation.capacity.projection import Installation
from rag_assets.runtime import Runtime
from rag_assets.stores import pgvector

NIGHTLY_JOB = "nightly_reindex"
NIGHTS = 7
LEAST_DAYS = 7.0
"""A growth over less time than this is not projected."""
DAYS_A_MONTH = 365.25 / 12
_TABLE_BYTES = """
    SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint FROM pg_class c
    WHERE c.relkind = 'r' AND c.relnamespace = current_schema()::regnamespace
"""
_MEMINFO = Path("/proc/meminfo")


def measure(runtime: Runtime) -> Installation:
    """Read every figure there is; what there is not is None."""
    local = runtime.settings.postgres_url is None
    with runtime.database.transaction(snapshot=True) as connection:
        live = [found for name in runtime.settings.collections if (found := generations.live(connection, name))]
        chunks = [pgvector.count(connection, generation) for generation in live]
        installation = Installation(
            chunks=sum(chunks),
            documents=_number(connection, "SELECT count(*) FROM document") or 0,
            database_bytes=_number(connection, "SELECT pg_database_size(current_database())") or 0,
            table_bytes=_number(connection, _TABLE_BYTES),
            graph_bytes=sum(pgvector.index_bytes(connection, generation) for generation in live),
            tokens_per_chunk=_tokens_per_chunk(connection, live),
            tokens_per_second=_number(
                connection,
                "SELECT tokens_per_second FROM throughput WHERE embedder_fp = %s",
                runtime.embedder.fingerprint,
            ),
            nightly_seconds=_nightly_seconds(connection),
            retrieval_p95_seconds=_retrieval_p95(connection, live),
            pool_size=POOL_SIZE,
            growth_per_month=_growth(connection, live, sum(chunks)),
            **(_machine(runtime) if local else {}),
        )
    return installation


def _machine(runtime: Runtime) -> dict[str, int | None]:
    cluster = existing_cluster(embedded(runtime.settings.home).home)
    disk = shutil.disk_usage(cluster.data if cluster else runtime.settings.home)
    memory = read_memory(_MEMINFO)
    return {
        "disk_total": disk.total,
        "disk_used": disk.total - disk.free,
        "memory_total": memory[0] if memory else None,
        "memory_used": memory[1] if memory else None,
    }


def read_memory(file: Path) -> tuple[int, int] | None:
    """(bytes there are, bytes that are not available) as the kernel says; None where it has no such file."""
    try:
        lines = dict(line.split(":", 1) for line in file.read_text(encoding="ascii").splitlines() if ":" in line)
        total, available = (int(lines[name].split()[0]) * 1024 for name in ("MemTotal", "MemAvailable"))
    except (OSError, KeyError, ValueError, IndexError):
        return None
    return total, total - available


def _number(connection: Connection, statement: str, *parameters: Any) -> Any:
    cursor = connection.cursor(row_factory=scalar_row)
    return cursor.execute(statement, parameters).fetchone()


def _tokens_per_chunk(connection: Connection, live: list[Generation]) -> float | None:
    chunkers = list({generation.key.chunker_fp for generation in live})
    value = _number(connection, "SELECT avg(tokens)::float8 FROM chunk WHERE chunker_fp = ANY(%s)", chunkers)
    return None if value is None else float(value)


def _nightly_seconds(connection: Connection) -> float | None:
    """From Dagster's own run history, which is in the same database; None where it is not, or no night has passed."""
    if _number(connection, "SELECT to_regclass('dagster.runs')") is None:
        return None
    value = _number(
        connection,
        "SELECT max(seconds) FROM (SELECT end_time - start_time AS seconds FROM dagster.runs WHERE pipeline_name = %s"
        " AND status = 'SUCCESS' AND end_time IS NOT NULL ORDER BY end_time DESC LIMIT %s) AS nights",
        NIGHTLY_JOB,
        NIGHTS,
    )
    return None if value is None else float(value)


def _retrieval_p95(connection: Connection, live: list[Generation]) -> float | None:
    """The slowest of the live indexes, by its last evaluation."""
    value = _number(
        connection,
        "SELECT max(p95) FROM (SELECT DISTINCT ON (generation_id) (result #>> '{latency,retrieval,p95}')::float8 AS p95"
        " FROM evaluation_run WHERE generation_id = ANY(%s) ORDER BY generation_id, at DESC) AS latest",
        [generation.id for generation in live],
    )
    return None if value is None else float(value) / 1000


def _growth(connection: Connection, live: list[Generation], chunks: int) -> float | None:
    """Chunks a month since the oldest retained generations that were cut the same way were built.

    None: they are younger than a week, or there is none of some collection.
    """
    then, since = 0, datetime.now(UTC)
    for generation in live:
        row = connection.execute(
            "SELECT built_rows, created_at FROM generation WHERE collection = %s AND chunker_fp = %s AND built_rows > 0"
            " ORDER BY id LIMIT 1",
            (generation.collection, generation.key.chunker_fp),
        ).fetchone()
        if row is None:
            return None
        then, since = then + int(row[0]), min(since, row[1])
    days = (datetime.now(UTC) - since).total_seconds() / 86_400
    return (chunks - then) / days * DAYS_A_MONTH if live and days >= LEAST_DAYS else None
