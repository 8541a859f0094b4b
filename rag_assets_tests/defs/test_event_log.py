"""Dagster's events are written in few transactions, and none is missing, late for its reader, or in another order."""

import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import dagster as dg
import psycopg
import pytest
from dagster import AssetKey, DagsterEvent, DagsterEventType, DagsterInstance
from dagster._core.events import AssetMaterializationPlannedData, StepSuccessData
from dagster._core.events.log import EventLogEntry

from rag_assets.definitions import build_definitions
from rag_assets.defs.event_log import ProjectEventLog, batched, keep_connections
from rag_assets.defs.instance import open_instance, storage_url
from rag_assets.defs.local import LocalRunner
from rag_assets.settings import Settings
from rag_assets_tests.defs.conftest import Dagster
from rag_assets_tests.driving import OpenIndex, corpus, planned, query

RUN = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
def instance(postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DagsterInstance]:
    """The project's own instance."""
    monkeypatch.setenv("RAG_POSTGRES_URL", postgres_url)
    monkeypatch.setenv("RAG_HOME", str(tmp_path / "home"))
    (tmp_path / "rag_assets.toml").write_text("")
    monkeypatch.setenv("RAG_CONFIG", str(tmp_path / "rag_assets.toml"))
    with open_instance(Settings(home=tmp_path / "home", postgres_url=postgres_url)) as made:
        yield made


def begin(instance: DagsterInstance) -> None:
    """A step begins."""
    instance.report_dagster_event(DagsterEvent(DagsterEventType.STEP_START.value, "job", step_key="step"), RUN)


def end(instance: DagsterInstance) -> None:
    """A step has ended."""
    event = DagsterEvent("STEP_SUCCESS", "job", step_key="step", event_specific_data=StepSuccessData(1.0))
    instance.report_dagster_event(event, RUN)


def planned_event(asset: str, run_id: str = RUN) -> EventLogEntry:
    """Of a planned materialization: the simplest event that writes to the tables by asset."""
    data = AssetMaterializationPlannedData(AssetKey(asset), partition="default|00")
    event = DagsterEvent.build_asset_materialization_planned_event("job", "step", data)
    return EventLogEntry(None, 10, "", run_id, time.time(), "step", "job", event)


def intend(instance: DagsterInstance, asset: str) -> None:
    """An asset is about to be materialized."""
    instance.handle_new_event(planned_event(asset))


def stored(url: str, run_id: str = RUN) -> list[str]:
    """What another process sees of a run."""
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            "SELECT dagster_event_type FROM dagster.event_logs WHERE run_id = %s ORDER BY id", (run_id,)
        )
        return [kind for (kind,) in rows]


def others(connection: "psycopg.Connection[Any]") -> int:
    """The server's process for the one other connection to this database; what was closed before may take a moment to go."""
    for _ in range(200):
        found: Any = connection.execute(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        ).fetchall()
        if len(found) == 1:
            return int(found[0][0])
        time.sleep(0.05)
    raise AssertionError(f"{len(found)} connections")


def test_events_of_finished_work_wait_for_the_next_that_begins_some(
    instance: DagsterInstance, postgres_url: str
) -> None:
    end(instance)
    assert stored(postgres_url) == ["STEP_SUCCESS"], "without batches nothing waits"
    with batched(instance):
        intend(instance, "chunks")
        end(instance)
        assert stored(postgres_url) == ["STEP_SUCCESS"]
        begin(instance)
        assert stored(postgres_url)[1:] == ["ASSET_MATERIALIZATION_PLANNED", "STEP_SUCCESS", "STEP_START"]
        end(instance)
        assert len(stored(postgres_url)) == 4
    assert stored(postgres_url)[4:] == ["STEP_SUCCESS"]
    end(instance)
    assert len(stored(postgres_url)) == 6


def test_a_batch_within_a_batch_ends_alone(instance: DagsterInstance, postgres_url: str) -> None:
    with batched(instance):
        end(instance)
        with suppress(ValueError), batched(instance):
            end(instance)
            raise ValueError("what waits now is lost")
        end(instance)
        assert len(stored(postgres_url)) == 1
    assert len(stored(postgres_url)) == 2


def test_a_connection_is_kept_and_replaced_when_the_server_has_closed_it(
    instance: DagsterInstance, postgres_url: str
) -> None:
    keep_connections(instance)
    begin(instance)
    with psycopg.connect(postgres_url, autocommit=True) as other:
        kept = others(other)
        begin(instance)
        assert others(other) == kept
        other.execute("SELECT pg_terminate_backend(%s, 10000)", (kept,))
        begin(instance)
        assert others(other) != kept
    assert stored(postgres_url) == ["STEP_START"] * 3


def test_whoever_asks_sees_what_waited(instance: DagsterInstance) -> None:
    with batched(instance):
        intend(instance, "chunks")
        end(instance)
        assert instance.has_asset_key(AssetKey("chunks"))
        assert [event.get_dagster_event().event_type_value for event in instance.all_logs(RUN)] == [
            "ASSET_MATERIALIZATION_PLANNED",
            "STEP_SUCCESS",
        ]


def test_a_step_that_waits_for_a_pool_leaves_nothing_unwritten(instance: DagsterInstance, postgres_url: str) -> None:
    storage = instance.event_log_storage
    storage.initialize_concurrency_limit_to_default("embedder")
    other = "11111111-1111-4111-8111-111111111111"
    assert storage.claim_concurrency_slot("embedder", other, "step").is_claimed
    with batched(instance):
        end(instance)
        assert not storage.claim_concurrency_slot("embedder", RUN, "step").is_claimed
        assert stored(postgres_url) == ["STEP_SUCCESS"]
    storage.free_concurrency_slot_for_step(other, "step")
    assert storage.claim_concurrency_slot("embedder", RUN, "step").is_claimed
    storage.free_concurrency_slot_for_step(RUN, "step")
    assert storage.get_concurrency_info("embedder").active_slot_count == 0


def test_processes_that_report_the_same_assets_never_wait_for_each_other(
    instance: DagsterInstance, postgres_url: str, tmp_path: Path
) -> None:
    runs, failures = [RUN, "11111111-1111-4111-8111-111111111111"], []

    def work(run_id: str, assets: list[str]) -> None:
        storage = ProjectEventLog(storage_url(Settings(home=tmp_path, postgres_url=postgres_url)))
        event_of = {asset: planned_event(asset, run_id) for asset in assets}
        try:
            for _ in range(20):
                with storage.batched():
                    for asset in assets:
                        storage.store_event(event_of[asset])
        except Exception as error:
            failures.append(error)

    names = ["chunks", "embeddings", "index_entries", "raw_documents"]
    threads = [
        threading.Thread(target=work, args=arguments) for arguments in zip(runs, (names, names[::-1]), strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert [len(stored(postgres_url, run_id)) for run_id in runs] == [80, 80]


def test_a_run_of_a_sync_leaves_the_same_history_as_any_other(
    open_index: OpenIndex, instance: DagsterInstance, source: Path
) -> None:
    corpus(source)
    index = open_index()
    index.plans["default"] = planned(index)
    Dagster(index, instance).update(1)
    LocalRunner(index, build_definitions(runtime=index), instance).update_shard("default", 0)

    def history(shard: str) -> tuple[list[Any], dict[str, Any]]:
        (run,) = instance.get_runs(filters=dg.RunsFilter(tags={"dagster/partition": shard}))
        events = query(
            index,
            "SELECT dagster_event_type, step_key, asset_key, partition FROM dagster.event_logs WHERE run_id = %s ORDER BY id",
            run.run_id,
        )
        tags = query(
            index,
            "SELECT e.asset_key, e.step_key, t.key FROM dagster.asset_event_tags t JOIN dagster.event_logs e "
            "ON e.id = t.event_id WHERE e.run_id = %s ORDER BY 1, 2, 3",
            run.run_id,
        )
        versions = {
            name: next(
                iter(
                    instance.fetch_materializations(
                        dg.AssetRecordsFilter(AssetKey(name), asset_partitions=[shard]), limit=1
                    ).records
                )
            ).asset_materialization
            for name in ("raw_documents", "chunks", "embeddings", "index_entries")
        }
        assert len(tags) > 4
        shown = {name: (set(item.tags), "seconds" in item.metadata) for name, item in versions.items() if item}
        return [(kind, step, key, part and part[:-1]) for kind, step, key, part in events] + tags, shown

    assert history("default|00") == history("default|01")
