"""What is measured of an installation, on a small index."""

import json
from pathlib import Path

import pytest

from rag_assets.evaluation.capacity import measure, project, tables
from rag_assets_tests.driving import WarmRuntime, corpus, live, live_rows, query, run


def test_an_installation_is_measured_from_its_own_tables(index: WarmRuntime, source: Path) -> None:
    corpus(source, 4)
    run(index)
    found = measure(index)
    assert (found.documents, found.chunks) == (4, len(live_rows(index)))
    assert found.database_bytes > found.table_bytes > found.graph_bytes > 0
    assert found.tokens_per_chunk is not None
    assert found.tokens_per_chunk > 5
    # The database is on a server that is not ours; nothing ran by night; the index is from today.
    assert (found.disk_total, found.memory_total, found.nightly_seconds, found.growth_per_month) == (None,) * 4
    assert "disk: the database is on a server" in tables.markdown(project(found, index.settings.capacity))


def test_nights_evaluations_and_growth_are_read_from_history(index: WarmRuntime, source: Path) -> None:
    corpus(source, 4)
    run(index)
    rows = len(live_rows(index))
    query(index, "CREATE SCHEMA dagster")
    query(index, "CREATE TABLE dagster.runs (pipeline_name text, status text, start_time float, end_time float)")
    for name, status, seconds in (
        ("nightly_reindex", "SUCCESS", 60.0),
        ("nightly_reindex", "SUCCESS", 90.0),
        ("nightly_reindex", "FAILURE", 999.0),
        ("publish_index", "SUCCESS", 500.0),
    ):
        query(index, "INSERT INTO dagster.runs VALUES (%s, %s, 1000, 1000 + %s)", name, status, seconds)
    query(index, "UPDATE generation SET created_at = now() - interval '60 days', built_rows = %s", rows - 2)
    query(index, "DELETE FROM throughput")
    query(index, "INSERT INTO throughput VALUES (%s, 1234)", index.embedder.fingerprint)
    query(index, "DELETE FROM evaluation_run")
    for days, milliseconds in ((2, 99.0), (1, 42.0)):
        query(
            index,
            "INSERT INTO evaluation_run (collection, generation_id, at, subject_hash, result)"
            " VALUES ('default', %s, now() - make_interval(days => %s), 'x', %s)",
            live(index).id,
            days,
            json.dumps({"latency": {"retrieval": {"p95": milliseconds}}}),
        )
    found = measure(index)
    assert found.nightly_seconds == 90.0
    assert found.growth_per_month == pytest.approx(2 / 60 * 30.44, rel=0.01)
    assert found.tokens_per_second == 1234.0
    assert found.retrieval_p95_seconds == pytest.approx(0.042)
