"""Runs in processes forked from one that has imported everything: executed, interrupted, killed, refused."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import psutil
import pytest
from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.errors import DagsterInvariantViolationError, DagsterLaunchFailedError
from dagster._core.launcher import LaunchRunContext, WorkerStatus
from dagster._core.origin import JobPythonOrigin, RepositoryPythonOrigin

from rag_assets.definitions import build_definitions
from rag_assets.defs.dead_runs import OWNER_TAG, end_dead_runs, is_gone, owner_of, pid_of
from rag_assets.defs.instance import open_instance
from rag_assets.defs.launching import WarmLauncher
from rag_assets.settings import Settings, load_settings
from rag_assets_tests.e2e.commands import SETTINGS

STATUS = dg.DagsterRunStatus
PATIENCE = 90.0


@pytest.fixture
def settings(postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    (tmp_path / "documents").mkdir()
    (tmp_path / "documents" / "alpine.md").write_text("# Alpine\n\nMarmots whistle.\n", encoding="utf-8")
    (tmp_path / "rag_assets.toml").write_text(f'{SETTINGS}[collections.default]\nsource = "documents"\n', "utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAG_CONFIG", str(tmp_path / "rag_assets.toml"))
    monkeypatch.setenv("RAG_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("RAG_POSTGRES_URL", postgres_url)
    return load_settings()


@pytest.fixture
def instance(settings: Settings) -> Iterator[dg.DagsterInstance]:
    with open_instance(settings) as opened:
        yield opened


Launch = Callable[..., dg.DagsterRun]


@pytest.fixture
def launch(instance: dg.DagsterInstance, settings: Settings) -> Launch:
    """Creates a run of the shard of the one document and launches it."""

    def launched(*, tags: dict[str, str] | None = None, module: str = "rag_assets.definitions") -> dg.DagsterRun:
        job = build_definitions(settings).resolve_job_def("update_shard")
        pointer = ModuleCodePointer(module, "defs", working_directory=str(Path.cwd()))
        origin = JobPythonOrigin("update_shard", RepositoryPythonOrigin(sys.executable, pointer))
        partition = {
            "dagster/partition": "default|00",
            "dagster/partition/collection": "default",
            "dagster/partition/shard": "00",
        }
        run = instance.create_run_for_job(
            job, tags={**partition, **(tags or {})}, status=STATUS.STARTING, job_code_origin=origin
        )
        instance.run_launcher.launch_run(LaunchRunContext(run, None))
        return run

    return launched


def _after(instance: dg.DagsterInstance, run: dg.DagsterRun, *wanted: dg.DagsterRunStatus) -> dg.DagsterRun:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        found = instance.get_run_by_id(run.run_id)
        assert found
        if found.status in wanted:
            return found
        time.sleep(0.05)
    raise AssertionError(f"still {found.status}: {_messages(instance, run)}")


def _messages(instance: dg.DagsterInstance, run: dg.DagsterRun) -> list[str]:
    return [entry.user_message or entry.message for entry in instance.all_logs(run.run_id)]


def _frozen(instance: dg.DagsterInstance, run: dg.DagsterRun) -> int:
    """The run's process, when it has stopped itself at the failpoint."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        found = instance.get_run_by_id(run.run_id)
        pid = pid_of(found.tags.get(OWNER_TAG, "")) if found else None
        if pid is not None and psutil.Process(pid).status() == psutil.STATUS_STOPPED:
            return pid
        time.sleep(0.05)
    raise AssertionError(f"never reached it: {_messages(instance, run)}")


def test_the_launcher_of_the_instance_is_the_warm_one(instance: dg.DagsterInstance) -> None:
    assert isinstance(instance.run_launcher, WarmLauncher)
    assert instance.run_launcher.supports_check_run_worker_health


def test_a_run_is_executed_by_a_process_of_its_own_that_imported_nothing_itself(
    instance: dg.DagsterInstance, launch: Launch
) -> None:
    first = _after(instance, launch(), STATUS.SUCCESS, STATUS.FAILURE)
    second = _after(instance, launch(), STATUS.SUCCESS, STATUS.FAILURE)
    assert [first.status, second.status] == [STATUS.SUCCESS] * 2, _messages(instance, first)
    processes = {int(run.tags[OWNER_TAG].split(":")[0]) for run in (first, second)}
    assert len(processes) == 2
    assert os.getpid() not in processes
    warm = [
        child for child in psutil.Process().children() if "rag_assets.defs.warm_imports" in " ".join(child.cmdline())
    ]
    assert len(warm) == 1
    assert f"Started process for run (pid: {max(processes)})." in _messages(instance, second) + _messages(
        instance, first
    )


def test_a_run_has_the_environment_of_now_not_of_when_everything_was_imported(
    instance: dg.DagsterInstance, launch: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAG_FAILPOINT", "raw_documents.parsed=raise@1")
    failed = _after(instance, launch(), STATUS.SUCCESS, STATUS.FAILURE)
    assert failed.status is STATUS.FAILURE
    monkeypatch.delenv("RAG_FAILPOINT")
    assert _after(instance, launch(), STATUS.SUCCESS, STATUS.FAILURE).status is STATUS.SUCCESS


def test_an_interrupted_run_is_canceled(
    instance: dg.DagsterInstance, launch: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAG_FAILPOINT", "raw_documents.parsed=stop@1")
    run = launch()
    pid = _frozen(instance, run)
    assert instance.run_launcher.terminate(run.run_id)
    os.kill(pid, signal.SIGCONT)
    assert _after(instance, run, STATUS.CANCELED, STATUS.FAILURE, STATUS.SUCCESS).status is STATUS.CANCELED
    assert not instance.run_launcher.terminate(run.run_id)


def test_a_killed_run_is_seen_to_be_gone(
    instance: dg.DagsterInstance, launch: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAG_FAILPOINT", "raw_documents.parsed=stop@1")
    run = launch()
    pid = _frozen(instance, run)
    found = _after(instance, run, STATUS.STARTED)
    launcher = instance.run_launcher
    assert launcher.check_run_worker_health(found).status is WorkerStatus.RUNNING
    process = psutil.Process(pid)
    process.kill()
    deadline = time.monotonic() + PATIENCE
    while not is_gone(found.tags[OWNER_TAG]) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert launcher.check_run_worker_health(found).status is WorkerStatus.FAILED
    assert end_dead_runs(instance) == 1
    assert not launcher.terminate(run.run_id)


def test_what_keeps_a_run_from_beginning_is_told_to_who_launches_it(
    instance: dg.DagsterInstance, launch: Launch, settings: Settings
) -> None:
    run = launch()
    assert _after(instance, run, STATUS.SUCCESS, STATUS.FAILURE).status is STATUS.SUCCESS
    Path("rag_assets.toml").write_text("[embedder]\nmodel = 3\n", encoding="utf-8")
    # Dagster's daemon notes it on the run.
    with pytest.raises(DagsterLaunchFailedError, match=r"embedder\.model = 3"):
        launch()


def test_a_run_that_is_executed_again_is_not_taken_for_the_first_one_s(
    instance: dg.DagsterInstance, launch: Launch
) -> None:
    again = launch(tags={OWNER_TAG: "999999:1:elsewhere"})
    assert _after(instance, again, STATUS.SUCCESS, STATUS.FAILURE).status is STATUS.SUCCESS
    # Of another code location, by Dagster's own way, which needs a workspace.
    with pytest.raises(DagsterInvariantViolationError, match="workspace"):
        launch(tags={OWNER_TAG: "999999:1"}, module="of_another_team.definitions")
    other = instance.get_runs(limit=1)[0]
    assert other.tags[OWNER_TAG] == ""
    assert instance.run_launcher.check_run_worker_health(other).status is WorkerStatus.RUNNING
    assert end_dead_runs(instance) == 0


def test_what_another_machine_executes_is_not_judged_here() -> None:
    mine = owner_of(os.getpid())
    assert pid_of(mine) == os.getpid()
    assert not is_gone(mine)
    assert is_gone("999999:1")
    theirs = f"{mine.rsplit(':', 1)[0]}:another-machine"
    assert pid_of(theirs) is None
    assert not is_gone(theirs)


_EDITED = """
import sys
from rag_assets.defs import launching, warm_imports
assert not warm_imports.edited()
for name in ("openvino", "tokenizers", "dagster._cli.api", "rag_assets.definitions"):
    assert name in sys.modules, name
import os, threading
from multiprocessing import Pipe
begun, begins = Pipe(duplex=False)
assert threading.active_count() == 1
warm_imports._BEGAN = 0.0
launching.execute(None, "no run", {**os.environ, "MARK": "kept"}, [sys.executable, "-c", "import os; print('afresh', os.environ['MARK'])"], begins)
"""


def test_code_that_was_edited_since_is_imported_afresh() -> None:
    done = subprocess.run([sys.executable, "-c", _EDITED], capture_output=True, text=True, check=False)
    assert done.stdout == "afresh kept\n", done.stderr
