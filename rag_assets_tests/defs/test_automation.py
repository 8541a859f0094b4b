"""The sensor that follows the sources, ticked as the daemon ticks it."""

from pathlib import Path

import dagster as dg
import pytest

from rag_assets.definitions import build_definitions
from rag_assets.defs.automation import Cursor, Request, choose, rotation
from rag_assets.defs.dead_runs import OWNER_TAG, end_dead_runs, owner_tags
from rag_assets.indexing.promotion import rollback
from rag_assets_tests.driving import OpenIndex, WarmRuntime, corpus, run, write
from rag_assets_tests.source_servers import CREDENTIALS, S3Server


def tick(runtime: WarmRuntime, instance: dg.DagsterInstance, cursor: str | None = None) -> dg.SensorResult:
    sensor = build_definitions(runtime=runtime).get_sensor_def("document_changes")
    with dg.build_sensor_context(instance=instance, cursor=cursor, resources={"runtime": runtime}) as context:
        result = sensor(context)
    assert isinstance(result, dg.SensorResult)
    return result


def asked(result: dg.SensorResult) -> list[str]:
    return sorted(str(request.partition_key) for request in result.run_requests or [])


def test_a_changed_document_asks_for_a_run_of_its_shard_and_no_other(
    index: WarmRuntime, source: Path, instance: dg.DagsterInstance
) -> None:
    corpus(source)
    run(index)
    assert asked(tick(index, instance)) == []
    write(source, "d03.md", "# Document 3\n\nNew words.\n")
    first = tick(index, instance)
    assert len(asked(first)) == 1
    # Nothing was run since, so the same tick asks for the same run again; and no eternal key would swallow it.
    assert asked(tick(index, instance, first.cursor)) == asked(first)
    assert [request.run_key for request in first.run_requests or []] == [None]


def test_a_document_that_goes_back_to_what_it_was_asks_again(
    index: WarmRuntime, source: Path, instance: dg.DagsterInstance
) -> None:
    corpus(source)
    before = (source / "d03.md").read_text(encoding="utf-8")
    run(index)
    for text in ("# Document 3\n\nOther words.\n", before):
        write(source, "d03.md", text)
        assert len(asked(tick(index, instance))) == 1
        run(index)
    assert asked(tick(index, instance)) == []


def test_a_shard_whose_run_is_on_its_way_is_not_asked_for_again(
    index: WarmRuntime, source: Path, instance: dg.DagsterInstance
) -> None:
    corpus(source)
    run(index)
    write(source, "d03.md", "# Document 3\n\nNew words.\n")
    (key,) = asked(tick(index, instance))
    collection, shard = key.split("|")
    job = build_definitions(runtime=index).resolve_job_def("update_shard")
    tags = {"dagster/partition/collection": collection, "dagster/partition/shard": shard}
    instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED, tags=tags)
    assert asked(tick(index, instance)) == []


def test_a_broken_source_is_said_and_keeps_no_other_from_being_followed(
    open_index: OpenIndex, source: Path, tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    corpus(source)
    run(open_index())
    gone = {"default": {"source": source}, "gone": {"source": tmp_path / "gone"}}
    index = open_index(collections=gone)
    write(source, "d03.md", "# Document 3\n\nNew words.\n")
    assert [key.split("|")[0] for key in asked(tick(index, instance))] == ["default"]


def test_nothing_is_asked_for_before_a_first_index_was_judged(
    index: WarmRuntime, source: Path, instance: dg.DagsterInstance
) -> None:
    corpus(source)
    assert asked(tick(index, instance)) == []


@pytest.mark.parametrize("cursor", [None, "", "not json", "[]", '{"next": "unknown"}', "3"])
def test_an_unreadable_cursor_starts_over(cursor: str | None) -> None:
    assert rotation(["a", "b", "c"], Cursor.read(cursor).next) == ["a", "b", "c"]


def test_the_cursor_names_the_collection_to_begin_with() -> None:
    assert rotation(["a", "b", "c"], Cursor.read(Cursor(next="b").write()).next) == ["b", "c", "a"]


def test_only_shards_without_a_run_are_chosen() -> None:
    dirty = [Request("a", 0), Request("a", 1), Request("b", 0)]
    assert choose(dirty, {Request("a", 1)}) == [Request("a", 0), Request("b", 0)]


def test_the_nightly_schedule_asks_for_a_run_per_collection(
    open_index: OpenIndex, source: Path, tmp_path: Path
) -> None:
    index = open_index(collections={"default": {"source": source}, "other": {"source": tmp_path}})
    schedule = build_definitions(runtime=index).get_schedule_def("nightly_reindex")
    requests = schedule(dg.build_schedule_context())
    assert [request.tags["collection"] for request in requests] == ["default", "other"]


def test_the_nightly_job_verifies_evaluates_and_reports(
    index: WarmRuntime, source: Path, instance: dg.DagsterInstance
) -> None:
    corpus(source)
    job = build_definitions(runtime=index).resolve_job_def("nightly_reindex")
    config = {"ops": {"nightly_reindex_op": {"config": {"collection": "default"}}}}
    for _ in range(2):
        assert job.execute_in_process(instance=instance, run_config=config).success
    reports = sorted((index.settings.home / "reports" / "default").glob("*/report.html"))
    assert len(reports) == 2
    assert index.live("default") is not None


def test_the_nightly_job_does_not_bring_back_what_a_person_rolled_back(
    open_index: OpenIndex, source: Path, instance: dg.DagsterInstance
) -> None:
    corpus(source)
    run(open_index())
    index = open_index(embedder={"model": "2"})
    run(index)
    rollback(index, "default", who="test")
    job = build_definitions(runtime=index).resolve_job_def("nightly_reindex")
    config = {"ops": {"nightly_reindex_op": {"config": {"collection": "default"}}}}
    assert job.execute_in_process(instance=instance, run_config=config).success
    live = index.live("default")
    assert live is not None
    assert live.name == "default#1"


def test_a_run_whose_process_is_gone_is_ended_and_one_that_lives_is_not(
    index: WarmRuntime, source: Path, instance: dg.DagsterInstance
) -> None:
    corpus(source)
    job = build_definitions(runtime=index).resolve_job_def("update_shard")
    started = dg.DagsterRunStatus.STARTED
    dead = instance.create_run_for_job(job, status=started, tags={OWNER_TAG: "999999:1"})
    mine = instance.create_run_for_job(job, status=started, tags=owner_tags())
    launched = instance.create_run_for_job(job, status=started)
    created = dg.DagsterRunStatus.NOT_STARTED
    lost = instance.create_run_for_job(job, status=created, tags={OWNER_TAG: "999999:1"})
    waiting = instance.create_run_for_job(job, status=created)
    assert end_dead_runs(instance) == 2
    statuses = {run_.run_id: run_.status for run_ in instance.get_runs()}
    assert statuses[dead.run_id] == statuses[lost.run_id] == dg.DagsterRunStatus.FAILURE
    assert statuses[waiting.run_id] == created
    assert statuses[mine.run_id] == statuses[launched.run_id] == started
    assert end_dead_runs(instance, alone=True) == 1


def test_a_bucket_is_followed_like_a_folder(
    open_index: OpenIndex, s3: S3Server, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    bucket = s3.bucket("followed-by-the-sensor")
    for number in range(4):
        bucket.put(f"d{number}.md", f"# Document {number}\n\nIts words.\n".encode())
    remote = {"source": "s3://followed-by-the-sensor", "options": {"endpoint_url": s3.url}}
    index = open_index(collection=remote)
    run(index)
    assert asked(tick(index, instance)) == []
    bucket.put("d1.md", b"# Document 1\n\nOther words.\n")
    assert len(asked(tick(index, instance))) == 1
    unreachable = {**remote, "options": {"endpoint_url": "http://127.0.0.1:1"}}
    away = tick(open_index(collection=unreachable, sources={"timeout_seconds": 1}), instance)
    assert asked(away) == []
    assert "s3://followed-by-the-sensor can't be listed" in str(away.skip_reason)
