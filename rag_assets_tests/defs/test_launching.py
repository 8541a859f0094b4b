"""Runs in processes forked from one that has imported everything: executed, interrupted, killed, refused."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import dagster as dg
import psutil
import psycopg
import pytest
from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.errors import DagsterInvariantViolationError, DagsterLaunchFailedError
from dagster._core.launcher import LaunchRunContext, WorkerStatus
from dagster._core.origin import JobPythonOrigin, RepositoryPythonOrigin
from dagster._core.remote_origin import GrpcServerCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin

from rag_assets.database.embedded import embedded
from rag_assets.definitions import build_definitions
from rag_assets.defs.dead_runs import (
    LAUNCHED_TAG,
    OWNER_TAG,
    end_dead_runs,
    end_own_runs,
    executed_by,
    is_gone,
    launched_as,
    launched_tags,
    owner_of,
    owner_tags,
    pid_of,
)
from rag_assets.defs.event_log import keep_connections
from rag_assets.defs.instance import open_instance
from rag_assets.defs.launching import WarmLauncher
from rag_assets.settings import Settings, load_settings
from rag_assets_tests.e2e.commands import SETTINGS

STATUS = dg.DagsterRunStatus
PATIENCE = 90.0
NEAR = GrpcServerCodeLocationOrigin(host="localhost", socket="/nowhere.sock", location_name="rag_assets")
FAR = GrpcServerCodeLocationOrigin(host="elsewhere", port=4000, location_name="rag_assets")


@pytest.fixture(scope="module", autouse=True)
def own_fork_server() -> Iterator[None]:
    """A process has one, and other tests have theirs, with other modules."""
    server: Any = forkserver._forkserver  # type: ignore[attr-defined]
    modules = server._preload_modules
    server._stop()  # "Method used by unit tests to stop the server"
    yield
    server._stop()
    server.set_forkserver_preload(modules)


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
def launch(instance: dg.DagsterInstance, job: dg.JobDefinition) -> Launch:
    """Creates a run of the shard of the one document and launches it."""
    return partial(_launched, instance, job)


@pytest.fixture
def job(settings: Settings) -> dg.JobDefinition:
    return build_definitions(settings).resolve_job_def("update_shard")


def _launched(
    instance: dg.DagsterInstance,
    job: dg.JobDefinition,
    *,
    tags: dict[str, str] | None = None,
    module: str = "rag_assets.definitions",
    name: str = "update_shard",
    server: GrpcServerCodeLocationOrigin = NEAR,
    **again: Any,
) -> dg.DagsterRun:
    pointer = ModuleCodePointer(module, "defs", working_directory=str(Path.cwd()))
    partition = {"": "default|00", "/collection": "default", "/shard": "00"}
    run = instance.create_run_for_job(
        job,
        tags={**{f"dagster/partition{part}": value for part, value in partition.items()}, **(tags or {})},
        status=STATUS.STARTING,
        job_code_origin=JobPythonOrigin(name, RepositoryPythonOrigin(sys.executable, pointer)),
        remote_job_origin=RemoteJobOrigin(RemoteRepositoryOrigin(server, "__repository__"), name),
        **again,
    )
    instance.run_launcher.launch_run(LaunchRunContext(run, None))
    return run


def _after(instance: dg.DagsterInstance, run: dg.DagsterRun, *wanted: dg.DagsterRunStatus) -> dg.DagsterRun:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        found = instance.get_run_by_id(run.run_id)
        assert found
        if found.status in wanted:
            return found
        time.sleep(0.05)
    raise AssertionError(f"not yet {wanted}: {_messages(instance, run)}")


def _pid(run: dg.DagsterRun) -> int:
    return int((launched_as(run) or "").partition(":")[0])


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _messages(instance: dg.DagsterInstance, run: dg.DagsterRun) -> list[str]:
    return [entry.user_message or entry.message for entry in instance.all_logs(run.run_id)]


@pytest.fixture
def frozen(instance: dg.DagsterInstance, launch: Launch, monkeypatch: pytest.MonkeyPatch) -> dg.DagsterRun:
    """A run whose process has stopped itself at a failpoint."""
    monkeypatch.setenv("RAG_FAILPOINT", "raw_documents.parsed=stop@1")
    run = _after(instance, launch(), STATUS.STARTED)
    _until(lambda: psutil.Process(_pid(run)).status() == psutil.STATUS_STOPPED)
    return run


def test_the_launcher_of_the_instance_is_the_warm_one(instance: dg.DagsterInstance) -> None:
    assert isinstance(instance.run_launcher, WarmLauncher)
    assert instance.run_launcher.supports_check_run_worker_health


def test_a_run_is_executed_by_a_process_of_its_own_that_imported_nothing_itself(
    instance: dg.DagsterInstance, launch: Launch
) -> None:
    first = _after(instance, launch(), STATUS.SUCCESS, STATUS.FAILURE)
    second = _after(instance, launch(), STATUS.SUCCESS, STATUS.FAILURE)
    assert [first.status, second.status] == [STATUS.SUCCESS] * 2, _messages(instance, first)
    processes = {_pid(run) for run in (first, second)}
    assert len(processes) == 2
    assert os.getpid() not in processes
    warm = [
        child for child in psutil.Process().children() if "rag_assets.defs.warm_imports" in " ".join(child.cmdline())
    ]
    assert len(warm) == 1
    for run in (first, second):
        assert f"Started process for run (pid: {_pid(run)})." in _messages(instance, run)


def test_a_run_connects_to_the_database_a_few_times_not_for_every_event(
    instance: dg.DagsterInstance, launch: Launch, postgres_url: str
) -> None:
    keep_connections(instance)
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        before = _connected(connection)
        run = _after(instance, launch(), STATUS.SUCCESS)
        _until(lambda: not psutil.pid_exists(_pid(run)))
        assert _connected(connection) - before < 30


def _connected(connection: "psycopg.Connection[Any]") -> int:
    """How often anyone has connected to this database, as far as those connections have ended."""
    row: Any = connection.execute("SELECT sessions FROM pg_stat_database WHERE datname = current_database()").fetchone()
    return int(row[0])


def test_a_run_has_the_environment_of_now_not_of_when_everything_was_imported(
    instance: dg.DagsterInstance, launch: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAG_FAILPOINT", "raw_documents.parsed=raise@1")
    failed = _after(instance, launch(), STATUS.SUCCESS, STATUS.FAILURE)
    assert failed.status is STATUS.FAILURE
    monkeypatch.delenv("RAG_FAILPOINT")
    assert _after(instance, launch(), STATUS.SUCCESS, STATUS.FAILURE).status is STATUS.SUCCESS


def test_an_interrupted_run_is_canceled(instance: dg.DagsterInstance, frozen: dg.DagsterRun) -> None:
    assert instance.run_launcher.terminate(frozen.run_id)
    os.kill(_pid(frozen), signal.SIGCONT)
    assert _after(instance, frozen, STATUS.CANCELED, STATUS.FAILURE, STATUS.SUCCESS).status is STATUS.CANCELED
    assert not instance.run_launcher.terminate(frozen.run_id)


def test_a_killed_run_is_seen_to_be_gone(instance: dg.DagsterInstance, frozen: dg.DagsterRun) -> None:
    launcher = instance.run_launcher
    assert launcher.check_run_worker_health(frozen).status is WorkerStatus.RUNNING
    psutil.Process(_pid(frozen)).kill()
    _until(lambda: is_gone(launched_as(frozen) or ""))
    assert launcher.check_run_worker_health(frozen).status is WorkerStatus.FAILED
    assert end_dead_runs(instance) == 1
    assert not launcher.terminate(frozen.run_id)


def test_what_keeps_a_run_from_beginning_is_told_to_who_launches_it(
    instance: dg.DagsterInstance, launch: Launch, settings: Settings
) -> None:
    run = launch()
    assert _after(instance, run, STATUS.SUCCESS, STATUS.FAILURE).status is STATUS.SUCCESS
    Path("rag_assets.toml").write_text("[embedder]\nmodel = 3\n", encoding="utf-8")
    # Dagster's daemon notes it on the run.
    with pytest.raises(DagsterLaunchFailedError, match=r"embedder\.model = 3"):
        launch()


def test_what_keeps_a_run_from_going_on_is_told_on_it(instance: dg.DagsterInstance, launch: Launch) -> None:
    unknown = _after(instance, launch(name="a_job_of_yesterday"), STATUS.FAILURE, STATUS.SUCCESS)
    assert unknown.status is STATUS.FAILURE
    assert "Could not load job definition." in _messages(instance, unknown)


def test_a_run_gives_up_its_lease_of_the_embedded_server(
    settings: Settings, job: dg.JobDefinition, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAG_POSTGRES_URL")
    server = embedded(settings.home)
    server.acquire()
    try:
        with open_instance(load_settings()) as instance:
            run = _after(instance, _launched(instance, job), STATUS.SUCCESS, STATUS.FAILURE)
            _until(lambda: is_gone(launched_as(run) or ""))
            leases = {path.name for path in settings.home.rglob("leases/*")}
        # One that is left behind is removed by the next process that looks.
        assert {name.partition("-")[0] for name in leases} == {str(os.getpid())}
    finally:
        server.destroy()


def test_a_run_that_is_executed_again_is_not_taken_for_the_first_one(
    instance: dg.DagsterInstance, job: dg.JobDefinition, launch: Launch
) -> None:
    first = _after(instance, launch(), STATUS.SUCCESS)
    _until(lambda: is_gone(launched_as(first) or ""))
    relation = {"parent_run_id": first.run_id, "root_run_id": first.run_id}
    for tags in (first.tags, {OWNER_TAG: "999999:1"}):
        again = instance.create_run_for_job(job, tags=dict(tags), status=STATUS.STARTING, **relation)
        assert executed_by(again) is None
        assert instance.run_launcher.check_run_worker_health(again).status is WorkerStatus.RUNNING
    assert end_dead_runs(instance) == 0
    assert end_dead_runs(instance, alone=True) == 2
    third = _after(instance, launch(tags=dict(first.tags), **relation), STATUS.SUCCESS, STATUS.FAILURE)
    assert third.status is STATUS.SUCCESS
    assert third.tags[LAUNCHED_TAG] != first.tags[LAUNCHED_TAG]


@pytest.mark.parametrize("other", [{"module": "of_another_team.definitions"}, {"server": FAR}])
def test_other_code_locations_are_left_to_dagsters_own_way(
    instance: dg.DagsterInstance, launch: Launch, other: dict[str, Any]
) -> None:
    with pytest.raises(DagsterInvariantViolationError, match="workspace"):
        launch(**other)
    assert executed_by(instance.get_runs(limit=1)[0]) is None


def test_a_run_within_another_ones_process_is_not_that_one(instance: dg.DagsterInstance, job: dg.JobDefinition) -> None:
    """A nightly run is launched, and executes the runs of its shards itself."""
    outer = instance.create_run_for_job(job, status=STATUS.STARTED)
    instance.add_run_tags(outer.run_id, launched_tags(outer.run_id, os.getpid()))
    inner = instance.create_run_for_job(job, status=STATUS.STARTED, tags=owner_tags())
    # It would interrupt this very process.
    assert not instance.run_launcher.terminate(inner.run_id)
    assert end_own_runs(instance) == 1
    statuses = {run.run_id: run.status for run in instance.get_runs()}
    assert statuses == {outer.run_id: STATUS.STARTED, inner.run_id: STATUS.FAILURE}


def test_what_another_machine_executes_is_not_judged_here(instance: dg.DagsterInstance, job: dg.JobDefinition) -> None:
    mine = owner_of(os.getpid())
    assert pid_of(mine) == os.getpid()
    assert not is_gone(mine)
    assert is_gone("999999:1")
    assert is_gone("what somebody wrote")
    theirs = "999999:1:another-machine"
    assert pid_of(theirs) is None
    assert not is_gone(theirs)
    instance.create_run_for_job(job, status=STATUS.STARTED, tags={OWNER_TAG: theirs})
    assert end_dead_runs(instance) == 0
    # Nobody else lives: the machine had that name before it was made anew.
    assert end_dead_runs(instance, alone=True) == 1


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
