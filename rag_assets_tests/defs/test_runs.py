"""Runs of the assets in this process: what they write, what they show, and what keeps an index from going live."""

from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster import AssetKey, PartitionKeyRange
from dagster._core.storage.tags import ASSET_PARTITION_RANGE_END_TAG, ASSET_PARTITION_RANGE_START_TAG

from rag_assets.cli.documents import local_runner
from rag_assets.definitions import build_definitions
from rag_assets.defs.index_assets import INDEX_ASSETS
from rag_assets.defs.instance import open_instance
from rag_assets.defs.local import LocalRunner
from rag_assets.defs.partitions import shard_partitions
from rag_assets.defs.shard_assets import SHARD_ASSETS
from rag_assets.errors import GateRefused, RagAssetsError, Superseded
from rag_assets.indexing.sync import sync
from rag_assets_tests.defs.conftest import Dagster, OpenDagster
from rag_assets_tests.driving import (
    OpenIndex,
    WarmRuntime,
    corpus,
    documents,
    live_rows,
    planned,
    query,
    wanted_rows,
    write,
)


def materializations(result: dg.ExecuteInProcessResult) -> dict[str, Any]:
    found = [
        event.step_materialization_data.materialization for event in result.all_events if event.is_step_materialization
    ]
    return {item.asset_key.to_user_string(): item for item in found}


def versions(result: dg.ExecuteInProcessResult) -> dict[str, str]:
    return {name: item.tags["dagster/data_version"] for name, item in materializations(result).items()}


def failed_checks(result: dg.ExecuteInProcessResult) -> set[str]:
    return {item.check_name for item in result.get_asset_check_evaluations() if not item.passed}


def materialized(dagster: Dagster, name: str) -> set[str]:
    return set(dagster.instance.get_materialized_partitions(AssetKey(name)))


def test_the_jobs_bring_an_index_up_and_make_it_live(dagster: Dagster, source: Path) -> None:
    corpus(source)
    dagster.update_all()
    result = dagster.publish()
    assert result.success
    assert failed_checks(result) == set()
    assert len(result.get_asset_check_evaluations()) == 17
    assert live_rows(dagster.runtime) == wanted_rows(dagster.runtime, source)
    for name in SHARD_ASSETS:
        assert materialized(dagster, name) == {"default|00", "default|01", "default|02"}
    for name in INDEX_ASSETS:
        assert materialized(dagster, name) == {"default"}


def test_a_run_materializes_the_four_assets_of_its_shard_and_of_no_other(dagster: Dagster, source: Path) -> None:
    corpus(source)
    result = dagster.update(2)
    assert materializations(result).keys() == set(SHARD_ASSETS)
    assert {item.partition for item in materializations(result).values()} == {"default|02"}
    rows = query(dagster.runtime, "SELECT DISTINCT bucket %% 3 FROM document")
    assert rows == [(2,)]


def test_data_versions_stay_when_nothing_changed_and_follow_an_edit(dagster: Dagster, source: Path) -> None:
    corpus(source)
    dagster.update_all()
    first = [versions(dagster.update(shard)) for shard in range(3)]
    published = versions(dagster.publish())
    again = [versions(dagster.update(shard)) for shard in range(3)]
    assert again == first
    assert len({str(item) for item in first}) == 3
    assert {name: version for name, version in versions(dagster.publish()).items() if name != "evaluation_report"} == {
        name: version for name, version in published.items() if name != "evaluation_report"
    }
    write(source, "d00.md", "# Document 0\n\nIt says something else now.\n")
    (shard,) = planned(dagster.runtime).dirty_shards
    after = [versions(dagster.update(number)) for number in range(3)]
    for number in range(3):
        for name in SHARD_ASSETS:
            assert (after[number][name] == first[number][name]) is (number != shard), (number, name)
    assert versions(dagster.publish())["hnsw_index"] != published["hnsw_index"]


def test_the_source_is_observed_in_the_version_that_was_read(dagster: Dagster, source: Path) -> None:
    def observed() -> str:
        (record,) = dagster.instance.fetch_observations(AssetKey("document_source"), limit=1).records
        assert record.asset_observation is not None
        return str(record.asset_observation.tags["dagster/data_version"])

    corpus(source)
    dagster.update_all()
    first = observed()
    dagster.update_all()
    assert observed() == first
    write(source, "d00.md", "# Document 0\n\nOther words.\n")
    dagster.update_all()
    assert observed() != first


def test_an_asset_page_shows_counts_a_table_a_histogram_and_quarantined_files(
    open_dagster: OpenDagster, source: Path, tmp_path: Path
) -> None:
    quick = {"concurrencies": [1], "rates": [50], "seconds": 0.05, "warm_up_seconds": 0, "generations": 0}
    questions = tmp_path / "questions.jsonl"
    questions.write_text('{"id": "1", "question": "Paragraph 1 of document 2", "relevant": [{"document": "d02.md"}]}\n')
    dagster = open_dagster(sync={"shards": 1}, benchmark=quick, collection={"questions": questions})
    corpus(source)
    write(source, "broken.md", "")
    shown = {name: item.metadata for name, item in materializations(dagster.update(0)).items()}
    raw = shown["raw_documents"]
    assert (raw["documents"].value, raw["parsed"].value, raw["quarantined"].value) == (8, 8, 1)
    (broken,) = raw["quarantined_files"].records
    assert (broken.data["document"], broken.data["reason"]) == ("broken.md", "is empty")
    chunks = shown["chunks"]
    assert chunks["chunks"].value == 8
    assert len(chunks["samples"].records) == 5
    assert {"document", "headings", "tokens", "text"} <= chunks["samples"].records[0].data.keys()
    assert chunks["chunk_lengths"].value.startswith("![chunk lengths](data:image/png;base64,iVBORw0KGgo")
    assert (shown["embeddings"]["computed"].value, shown["embeddings"]["texts"].value) == (8, 8)
    assert (shown["index_entries"]["rows"].value, shown["index_entries"]["generation"].value) == (8, "default#1")
    for metadata in shown.values():
        assert metadata["seconds"].value >= 0
    published = {name: item.metadata for name, item in materializations(dagster.publish()).items()}
    assert published["live_index"]["promoted_now"].value is True
    assert [record.data["state"] for record in published["live_index"]["generations"].records] == ["live"]
    speed = published["latency_benchmark"]
    assert speed["search_p95_ms"].value > 0
    assert speed["queries_per_second"].value > 0
    assert (speed["recall_at_10"].value, speed["failed"].value) == (1, 0)
    for row in ("| search | warm |", "| search | cold: new connection |", "| clients |", "| queries/s due |"):
        assert row in speed["tables"].value, row
    assert published["evaluation_report"]["verdict"].value == "pass"
    assert Path(published["evaluation_report"]["report"].value).is_file()
    assert published["evaluation_report"]["summary"].value.startswith("#")
    assert "## Speed under load" in published["evaluation_report"]["summary"].value


def test_nothing_is_pickled(dagster: Dagster, source: Path, tmp_path: Path) -> None:
    corpus(source)
    runs = [dagster.update(shard) for shard in range(3)]
    runs.append(dagster.publish())
    kinds = {event.event_type_value for result in runs for event in result.all_events}
    assert "HANDLED_OUTPUT" not in kinds
    assert "LOADED_INPUT" not in kinds
    names = {*SHARD_ASSETS, *INDEX_ASSETS}
    assert [path for path in (tmp_path / "instance").rglob("*") if path.name in names] == []


def test_a_second_publish_changes_nothing(dagster: Dagster, source: Path) -> None:
    corpus(source)
    dagster.update_all()
    dagster.publish()
    before = query(dagster.runtime, "SELECT * FROM promotion")
    again = materializations(dagster.publish())
    assert again["live_index"].metadata["promoted_now"].value is False
    assert (
        again["latency_benchmark"].metadata["measured"].value
        == "nothing: there are no golden questions, or benchmark.enabled is false"
    )
    assert query(dagster.runtime, "SELECT * FROM promotion") == before


def test_a_failed_quality_check_stops_before_promotion(open_dagster: OpenDagster, source: Path, tmp_path: Path) -> None:
    questions = tmp_path / "questions.jsonl"
    questions.write_text('{"id": "q", "question": "document 3", "relevant": [{"document": "d03.md"}]}\n')
    dagster = open_dagster(collection={"questions": questions}, gates={"search_p95_seconds": 1e-9})
    corpus(source)
    dagster.update_all()
    result = dagster.publish()
    assert not result.success
    assert failed_checks(result) == {"search_p95"}
    assert materializations(result).keys() == {"hnsw_index", "retrieval_evaluation"}
    assert dagster.runtime.live("default") is None


def test_a_failed_structural_check_stops_before_anything_is_asked(dagster: Dagster, source: Path) -> None:
    corpus(source)
    dagster.update_all()
    query(dagster.runtime, "DELETE FROM index_entry WHERE chunk_id = (SELECT min(chunk_id) FROM index_entry)")
    result = dagster.publish()
    assert not result.success
    assert failed_checks(result) == {"complete", "lexical"}
    assert materializations(result).keys() == {"hnsw_index"}
    assert dagster.runtime.live("default") is None


def test_promotion_alone_is_refused_for_a_generation_that_was_not_evaluated(dagster: Dagster, source: Path) -> None:
    corpus(source)
    dagster.update_all()
    with pytest.raises(RagAssetsError, match="was never evaluated"):
        dagster.publish(asset_selection=[AssetKey("live_index")], raise_on_error=True)
    assert dagster.runtime.live("default") is None


def test_promotion_alone_is_refused_for_a_generation_that_failed(
    open_dagster: OpenDagster, source: Path, tmp_path: Path
) -> None:
    questions = tmp_path / "questions.jsonl"
    questions.write_text('{"id": "q", "question": "document 3", "relevant": [{"document": "d03.md"}]}\n')
    dagster = open_dagster(collection={"questions": questions}, gates={"search_p95_seconds": 1e-9})
    corpus(source)
    dagster.update_all()
    dagster.publish()
    with pytest.raises(GateRefused, match="did not pass: 95 % of searches"):
        dagster.publish(asset_selection=[AssetKey("live_index")], raise_on_error=True)
    assert dagster.runtime.live("default") is None


def test_a_range_of_partitions_is_materialized_partition_by_partition(dagster: Dagster, source: Path) -> None:
    """A backfill of a range is one run per partition: no asset declares otherwise, and each run has its own version."""
    corpus(source)
    graph = dagster.definitions.resolve_asset_graph()
    for name in SHARD_ASSETS:
        assert graph.get(AssetKey(name)).backfill_policy is None
    partitions = shard_partitions(dagster.runtime.settings)
    keys = partitions.get_partition_keys_in_range(PartitionKeyRange("default|00", "default|02"))
    assert keys == ["default|00", "default|01", "default|02"]
    job = dagster.definitions.resolve_job_def("update_shard")
    for key in keys:
        assert job.execute_in_process(instance=dagster.instance, partition_key=key).success
    assert dagster.publish().success
    assert live_rows(dagster.runtime) == wanted_rows(dagster.runtime, source)
    stored = [
        record.event_log_entry.asset_materialization.tags["dagster/data_version"]
        for record in dagster.instance.fetch_materializations(AssetKey("chunks"), limit=10).records
    ]
    assert len(set(stored)) == 3


def test_a_range_in_a_single_run_is_refused_not_half_done(dagster: Dagster, source: Path) -> None:
    corpus(source)
    job = dagster.definitions.resolve_job_def("update_shard")
    tags = {ASSET_PARTITION_RANGE_START_TAG: "default|00", ASSET_PARTITION_RANGE_END_TAG: "default|02"}
    result = job.execute_in_process(instance=dagster.instance, tags=tags, raise_on_error=False)
    assert not result.success
    assert query(dagster.runtime, "SELECT count(*) FROM source_file") == [(0,)]


def test_the_mass_delete_guard_holds_in_a_run_until_its_config_confirms(dagster: Dagster, source: Path) -> None:
    corpus(source)
    dagster.update_all()
    dagster.publish()
    before = documents(dagster.runtime)
    for number in range(5):
        (source / f"d{number:02d}.md").unlink()
    dagster.update_all()
    assert documents(dagster.runtime) == before
    job = dagster.definitions.resolve_job_def("update_shard")
    for shard in range(3):
        job.execute_in_process(
            instance=dagster.instance,
            partition_key=f"default|{shard:02d}",
            run_config={"ops": {"raw_documents": {"config": {"allow_mass_delete": True}}}},
        )
    # The first shards' removals lower the share of the later ones: confirmed is confirmed.
    assert documents(dagster.runtime) == {"d05.md", "d06.md", "d07.md"}


def local_sync(runtime: WarmRuntime, instance: dg.DagsterInstance) -> Any:
    return sync(runtime, "default", lambda: LocalRunner(runtime, build_definitions(runtime=runtime), instance))


def test_a_sync_through_dagster_leaves_the_same_rows_and_its_runs(
    open_index: OpenIndex, instance: dg.DagsterInstance, source: Path
) -> None:
    corpus(source)
    index = open_index()
    report = local_sync(index, instance)
    assert report.generation["promoted"]
    assert live_rows(index) == wanted_rows(index, source)
    assert len(instance.get_runs()) == 4
    assert local_sync(index, instance).nothing_changed
    assert len(instance.get_runs()) == 4


@pytest.mark.parametrize("reason", ["quality", "structure"])
def test_a_refused_sync_names_the_reason_and_status_keeps_it(
    open_index: OpenIndex, instance: dg.DagsterInstance, source: Path, tmp_path: Path, reason: str
) -> None:
    if reason == "quality":
        questions = tmp_path / "questions.jsonl"
        questions.write_text('{"id": "q", "question": "document 3", "relevant": [{"document": "d03.md"}]}\n')
        corpus(source)
        index = open_index(collection={"questions": questions}, gates={"search_p95_seconds": 1e-9})
        expected = "95 % of searches take at most"
    else:
        write(source, "empty.md", "")
        index = open_index()
        expected = "The index holds no chunk at all."
    report = local_sync(index, instance)
    assert report.refused is not None
    assert expected in report.refused
    target = index.target("default")
    assert target is not None
    assert target.state == "refused"
    assert expected in (target.reason or "")


def test_a_shard_that_is_overtaken_raises_through_dagster_as_it_is(
    open_index: OpenIndex, instance: dg.DagsterInstance, source: Path
) -> None:
    """``sync`` tries again only if the error is still the one it waits for."""
    corpus(source)
    index = open_index(sync={"shards": 1})
    runner = LocalRunner(index, build_definitions(runtime=index), instance)
    index.plans["default"] = planned(index)
    parse_many = index.parsers.parse_many

    class Overtaken:
        def parse_many(self, items: Any) -> Any:
            query(index, "UPDATE shard SET version = version + 1")
            return parse_many(items)

    index._warm = Overtaken()  # type: ignore[assignment]
    with pytest.raises(Superseded):
        runner.update_shard("default", 0)
    assert query(index, "SELECT count(*) FROM source_file") == [(0,)]


def test_a_sync_neither_waits_for_a_place_in_a_pool_nor_copies_what_it_prints_to_files(
    open_index: OpenIndex, source: Path, tmp_path: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its model works ahead of its runs, whoever has the place; the UI's own runs do take places."""
    corpus(source)
    index = open_index(sync={"shards": 1})
    (tmp_path / "rag_assets.toml").write_text("")
    monkeypatch.setenv("RAG_CONFIG", str(tmp_path / "rag_assets.toml"))
    monkeypatch.setenv("RAG_POSTGRES_URL", postgres_url)
    monkeypatch.setenv("RAG_HOME", str(index.settings.home))
    with open_instance(index.settings) as instance:
        storage = instance.event_log_storage
        for pool in ("embedder", "vector_store_writes"):
            storage.initialize_concurrency_limit_to_default(pool)
            assert storage.claim_concurrency_slot(pool, "somebody-elses", "step").is_claimed
        report = sync(index, "default", lambda: local_runner(index))
        (run,) = [run for run in instance.get_runs() if run.job_name == "update_shard"]
        assert run.is_success
        storage.free_concurrency_slots_for_run("somebody-elses")
    assert report.generation["promoted"]
    # To the UI what was captured is complete: it waits for nothing.
    assert {path.suffix for path in (index.settings.home / "dagster" / "logs").rglob("*") if path.is_file()} == {
        ".complete"
    }
    job = build_definitions(index.settings).resolve_job_def("update_shard")
    assert {node.definition.pool for node in job.nodes} == {None, "embedder", "vector_store_writes"}


def test_the_projects_own_instance_keeps_everything_in_its_database(
    open_index: OpenIndex, source: Path, tmp_path: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus(source)
    write(source, "broken.md", "")
    index = open_index()
    (tmp_path / "rag_assets.toml").write_text("")
    monkeypatch.setenv("RAG_CONFIG", str(tmp_path / "rag_assets.toml"))
    monkeypatch.setenv("RAG_POSTGRES_URL", postgres_url)
    monkeypatch.setenv("RAG_HOME", str(index.settings.home))
    with open_instance(index.settings) as instance:
        dagster = Dagster(index, instance)
        dagster.update_all()
        assert dagster.publish().success
        records = instance.fetch_materializations(AssetKey("raw_documents"), limit=10).records
        stored = {record.partition_key: record.asset_materialization for record in records}
        assert stored.keys() == {"default|00", "default|01", "default|02"}
        assert len({item.tags["dagster/data_version"] for item in stored.values()}) == 3
        assert sum(item.metadata["documents"].value for item in stored.values()) == 8
        assert sum("quarantined_files" in item.metadata for item in stored.values()) == 1
        assert instance.get_materialized_partitions(AssetKey("live_index")) == {"default"}
    (row,) = query(index, "SELECT count(*) FROM dagster.event_logs WHERE dagster_event_type = 'ASSET_MATERIALIZATION'")
    assert row[0] == 3 * len(SHARD_ASSETS) + len(INDEX_ASSETS)
    assert list(index.settings.home.rglob("*.db")) == []
