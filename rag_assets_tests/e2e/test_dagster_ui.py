"""The Dagster UI on the same instance: ``rag-assets up``, and plain ``dagster dev`` in the repository."""

import json
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from rag_assets_tests.e2e.commands import CommandLine
from rag_assets_tests.e2e.processes import assert_all_end, family

REPOSITORY = Path(__file__).parents[2]
LOCATION = {"repositoryLocationName": "rag_assets", "repositoryName": "__repository__"}
SHARD_ASSETS = ("raw_documents", "chunks", "embeddings", "index_entries")
_PATIENCE = 150
"""Seconds for the UI to answer, a run to end or a backfill to complete."""

ASSETS = """
{ assetsOrError { ... on AssetConnection { nodes { key { path } assetMaterializations(limit: 50) { partition } } } } }
"""
LAUNCH = """
mutation ($params: ExecutionParams!) {
  launchRun(executionParams: $params) { __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } }
}
"""
RUN = "query ($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }"
BACKFILL = """
mutation ($params: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $params) {
    __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message }
  }
}
"""
BACKFILL_RUNS = """
query ($id: String!) {
  runsOrError(filter: {tags: [{key: "dagster/backfill", value: $id}]}) { ... on Runs { results { status } } }
}
"""
_ENDED = {"SUCCESS", "FAILURE", "CANCELED"}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def command(installation: CommandLine) -> CommandLine:
    """An installation whose documents are indexed: the materializations that the UI must show."""
    folder = installation.cwd / "documents"
    folder.mkdir()
    for number in range(6):
        (folder / f"{number}.md").write_text(f"# Tree {number}\n\nTree number {number} has leaves.\n", encoding="utf-8")
    installation.succeed("sync", "--source", "documents")
    return installation


class _UI:
    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/server_info", timeout=5):
                return True
        except (urllib.error.URLError, OSError):
            return False

    def ask(self, query: str, **variables: Any) -> Any:
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(f"{self.url}/graphql", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as reply:
            (value,) = json.load(reply)["data"].values()
        return value

    def partitions(self) -> dict[str, list[str]]:
        """Partitions of the latest materializations, by asset."""
        nodes = self.ask(ASSETS)["nodes"]
        return {n["key"]["path"][-1]: [m["partition"] for m in n["assetMaterializations"]] for n in nodes}


def _wait(ready: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not ready():
        assert time.monotonic() < deadline, f"{what} took more than {_PATIENCE} s"
        time.sleep(0.5)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_up_shows_runs_and_backfills_what_sync_materialized_and_ends_without_a_trace(command: CommandLine) -> None:
    port = _free_port()
    ui = _UI(port)
    log = command.home / "up.log"
    with log.open("wb") as output:
        process = command.start(
            "up", "--no-browser", "--port", str(port), "--reports-port", "0", stdout=output, stderr=output
        )
    try:
        _wait(lambda: process.poll() is not None or ui.answers(), "the UI")
        assert process.poll() is None, log.read_text(encoding="utf-8")
        shown = ui.partitions()
        assert shown.keys() >= {"document_source", *SHARD_ASSETS, "hnsw_index", "live_index", "evaluation_report"}
        assert set(shown["index_entries"]) == {"default|00", "default|01"}
        assert shown["live_index"] == ["default"]

        _run_a_shard(ui)
        _backfill_both_shards(ui)
        after = ui.partitions()
        assert len(after["chunks"]) == len(shown["chunks"]) + 3

        (reports,) = re.findall(r"reports: (http://127.0.0.1:\d+/reports)", log.read_text(encoding="utf-8"))
        with urllib.request.urlopen(reports, timeout=10) as response:
            assert "report.html" in response.read().decode()

        everyone = family(process.pid, command.home)
        for one in everyone:
            for link in connections_of(one):
                assert link.status != psutil.CONN_LISTEN or link.laddr.ip in ("127.0.0.1", "::1"), (one, link)
        refused = command.run("up", "--no-browser", "--port", str(port), "--reports-port", "0")
        assert (refused.code, str(port) in refused.err) == (2, True)
    finally:
        process.send_signal(signal.SIGTERM)
        code = process.wait(timeout=_PATIENCE)
    assert code == 0, log.read_text(encoding="utf-8")
    assert_all_end(everyone)
    assert not ui.answers()


def connections_of(process: psutil.Process) -> list[Any]:
    """Its sockets; none of one that has ended meanwhile, as the worker of a run does."""
    try:
        return list(process.net_connections(kind="inet"))
    except (psutil.NoSuchProcess, FileNotFoundError):
        return []


def _run_a_shard(ui: _UI) -> None:
    launched = ui.ask(
        LAUNCH,
        params={
            "selector": {
                **LOCATION,
                "jobName": "__ASSET_JOB",
                "assetSelection": [{"path": [name]} for name in SHARD_ASSETS],
            },
            "mode": "default",
            "executionMetadata": {
                "tags": [
                    {"key": "dagster/partition", "value": "default|00"},
                    {"key": "dagster/partition/collection", "value": "default"},
                    {"key": "dagster/partition/shard", "value": "00"},
                ]
            },
        },
    )
    assert launched["__typename"] == "LaunchRunSuccess", launched
    run = launched["run"]["runId"]
    _wait(lambda: ui.ask(RUN, id=run)["status"] in _ENDED, "the run")
    assert ui.ask(RUN, id=run)["status"] == "SUCCESS"


def _backfill_both_shards(ui: _UI) -> None:
    launched = ui.ask(
        BACKFILL,
        params={
            "assetSelection": [{"path": [name]} for name in SHARD_ASSETS],
            "partitionNames": ["default|00", "default|01"],
        },
    )
    assert launched["__typename"] == "LaunchBackfillSuccess", launched
    backfill = launched["backfillId"]

    def statuses() -> list[str]:
        return [run["status"] for run in ui.ask(BACKFILL_RUNS, id=backfill)["results"]]

    # Not the backfill's own status: Dagster's daemon looks at it every 30 s only.
    _wait(lambda: len(statuses()) == 2 and _ENDED.issuperset(statuses()), "the backfill")
    assert statuses() == ["SUCCESS", "SUCCESS"]


def _heed_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_plain_dagster_dev_in_the_repository_is_the_same_instance(command: CommandLine) -> None:
    port = _free_port()
    ui = _UI(port)
    log = command.home / "dev.log"
    dagster = [sys.executable, "-m", "dagster", "dev", "-h", "127.0.0.1", "-p", str(port)]
    environment = {**command.environment(), "DAGSTER_DISABLE_TELEMETRY": "1"}
    with log.open("wb") as output:
        # A shell's background job, such as a whole test run, has Ctrl-C ignored, and so have its children.
        process = subprocess.Popen(
            dagster, cwd=REPOSITORY, env=environment, stdout=output, stderr=output, preexec_fn=_heed_interrupts
        )
    try:
        _wait(lambda: process.poll() is not None or ui.answers(), "the UI")
        assert process.poll() is None, log.read_text(encoding="utf-8")
        assert set(ui.partitions()["index_entries"]) == {"default|00", "default|01"}
        everyone = family(process.pid, command.home)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=_PATIENCE)
    assert_all_end(everyone)
