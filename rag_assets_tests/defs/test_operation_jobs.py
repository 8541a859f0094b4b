"""The operations that are jobs as well as commands: retry, garbage collection, and the nightly rebuild."""

from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from rag_assets.definitions import build_definitions
from rag_assets.evaluation import health
from rag_assets_tests.driving import OpenIndex, WarmRuntime, corpus, live, query, run, write
from rag_assets_tests.indexing.test_following import REFUSING, question_file, states
from rag_assets_tests.indexing.test_quarantine import counting
from rag_assets_tests.indexing.test_rebuilding import churn


def execute(runtime: WarmRuntime, instance: dg.DagsterInstance, job: str, **config: Any) -> dg.ExecuteInProcessResult:
    definition = build_definitions(runtime=runtime).resolve_job_def(job)
    ops = {f"{job}_op": {"config": {"collection": "default", **config}}}
    return definition.execute_in_process(instance=instance, run_config={"ops": ops}, raise_on_error=False)


def error_of(result: dg.ExecuteInProcessResult) -> str:
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    assert failure.step_failure_data.error is not None
    return failure.step_failure_data.error.to_string()


@pytest.mark.parametrize("documents", [[], ["bad.docx"]])
def test_quarantined_files_are_retried_by_their_job(
    index: WarmRuntime, source: Path, instance: dg.DagsterInstance, documents: list[str]
) -> None:
    corpus(source)
    write(source, "empty.md", "")
    write(source, "bad.docx", "this is no archive")
    run(index)
    parsed = counting(index)
    assert execute(index, instance, "retry_quarantined", documents=documents).success
    assert sorted(parsed) == (documents or ["bad.docx", "empty.md"])


def test_garbage_is_collected_by_its_job_and_by_the_weekly_one(
    index: WarmRuntime, source: Path, instance: dg.DagsterInstance
) -> None:
    corpus(source)
    run(index)
    for number, job in enumerate(("garbage_collect", "weekly_reconcile")):
        (source / f"d{number:02d}.md").unlink()
        run(index)
        assert query(index, "SELECT count(*) FROM embedding") == [(8 - number,)]
        assert execute(index, instance, job).success
        assert query(index, "SELECT count(*) FROM embedding") == [(7 - number,)]


def test_the_nightly_job_rebuilds_a_worn_index_and_names_the_one_that_is_refused(
    open_index: OpenIndex,
    source: Path,
    instance: dg.DagsterInstance,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(health, "MIN_CHURN", 8)
    corpus(source)
    index = open_index()
    run(index)
    churn(source, 4)
    run(index)
    strict = open_index(gates=REFUSING, collection={"questions": question_file(tmp_path)})
    refused = execute(strict, instance, "nightly_reindex")
    assert not refused.success
    assert "default#2 did not go live: 95 % of searches take at most" in error_of(refused)
    assert states(index) == {"default#1": "live", "default#2": "refused"}
    index.embedded.clear()
    assert execute(index, instance, "nightly_reindex").success
    assert (live(index).rebuild, index.embedded) == (True, [])
