"""Starts runs in processes that have imported everything already: what Dagster imports anew for every run takes longer than most runs.

The process that launches runs, which is Dagster's daemon, keeps one that has done nothing but import (``multiprocessing``'s fork server,
with ``warm_imports`` loaded). It forks for each run. A run thus still has a process of its own, with settings, connections and a model of
its own, and whatever one does to itself ends with it.
"""

import atexit
import multiprocessing
import os
import signal
import sys
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Self

from dagster import DagsterInstance, DagsterRun
from dagster import _check as check
from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.errors import DagsterLaunchFailedError
from dagster._core.instance.ref import InstanceRef
from dagster._core.launcher import CheckRunHealthResult, DefaultRunLauncher, LaunchRunContext, WorkerStatus
from dagster._grpc.types import ExecuteRunArgs
from dagster._serdes import ConfigurableClassData

from rag_assets.defs.dead_runs import OWNER_TAG, is_gone, owner_of, pid_of

_MODULE = "rag_assets.definitions"
_WARM = "rag_assets.defs.warm_imports"
_BEGIN_SECONDS = 60
"""How long a run's process may take to open the instance. Dagster's daemon launches nothing else meanwhile."""


class WarmLauncher(DefaultRunLauncher):
    """Forks a process for each run of this project; leaves those of other code locations, and of macOS, to Dagster's own way."""

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]) -> Self:
        """No configuration: nothing can be chosen."""
        return cls(inst_data=inst_data)

    def launch_run(self, context: LaunchRunContext) -> None:
        """Start the run's process and note on the run which it is.

        Raises:
            DagsterLaunchFailedError: the process could not begin; says why.
        """
        run = context.dagster_run
        pid = _forked(self._instance.get_ref(), run) if _is_ours(run) else None
        # A run that is executed again has the tags of the first.
        self._instance.add_run_tags(run.run_id, {OWNER_TAG: owner_of(pid) if pid else ""})
        if pid is None:
            super().launch_run(context)

    def terminate(self, run_id: str) -> bool:
        """Interrupt the run's process, which then says itself that it was canceled; False: there is none."""
        run = self._instance.get_run_by_id(run_id)
        owner = run.tags.get(OWNER_TAG) if run else None
        if run is None or run.is_finished or not owner:
            return bool(super().terminate(run_id))  # type: ignore[no-untyped-call]
        self._instance.report_run_canceling(run)
        pid = pid_of(owner)
        if pid is None:
            return False
        os.kill(pid, signal.SIGINT)
        return True

    @property
    def supports_check_run_worker_health(self) -> bool:
        """Yes: Dagster's monitoring marks runs as failed whose process is gone, and they are tried again."""
        return True

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """Whether the process lives; of runs that were launched in another way nothing is known, and nothing is said."""
        owner = run.tags.get(OWNER_TAG)
        if owner and is_gone(owner):
            return CheckRunHealthResult(WorkerStatus.FAILED, "The process that executed this run is gone.")
        return CheckRunHealthResult(WorkerStatus.RUNNING)


def _is_ours(run: DagsterRun) -> bool:
    """Whether the run is of this package, in this environment."""
    # macOS' own libraries may not be used after a fork.
    if sys.platform == "darwin" or run.job_code_origin is None:
        return False
    origin = run.job_code_origin.repository_origin
    pointer = origin.code_pointer
    here = Path(origin.executable_path).parent == Path(sys.executable).parent and origin.container_image is None
    return here and isinstance(pointer, ModuleCodePointer) and pointer.module == _MODULE


def _forked(instance: InstanceRef, run: DagsterRun) -> int | None:
    """The pid of a new process that executes the run; None if none could be made.

    Raises:
        DagsterLaunchFailedError: the process could not begin; says why.
    """
    afresh = ExecuteRunArgs(check.not_none(run.job_code_origin), run.run_id, instance).get_command_args()
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([_WARM])
    begun, begins = context.Pipe(duplex=False)
    command = [sys.executable, "-m", "dagster", *afresh[1:]]
    # When the daemon is asked to end, its runs are, too.
    process = context.Process(
        target=execute, args=(instance, run.run_id, dict(os.environ), command, begins), daemon=True
    )
    with begun:
        with begins:
            try:
                process.start()
            except (OSError, EOFError):
                return None
        try:
            problem = begun.recv() if begun.poll(_BEGIN_SECONDS) else f"it was not ready within {_BEGIN_SECONDS} s."
        except EOFError:
            problem = "it ended before."
    if problem is not None:
        process.kill()
        raise DagsterLaunchFailedError(f"The process of the run could not begin: {problem}")  # type: ignore[no-untyped-call]
    return process.pid


def execute(
    instance_ref: InstanceRef, run_id: str, environment: Mapping[str, str], afresh: list[str], begins: Connection
) -> None:
    """Execute a run that another process has created.

    Args:
        instance_ref: where it is recorded.
        run_id: which.
        environment: of the process that launches it, as it is now, not as it was when everything was imported.
        afresh: the command that does the same in a new interpreter: for code that has been edited since.
        begins: is sent None when the run can begin, else why it can't.
    """
    from dagster._utils.interrupts import capture_interrupts

    from rag_assets.defs import warm_imports

    os.environ.clear()
    os.environ.update(environment)
    if warm_imports.edited():
        begins.send(None)
        os.execv(afresh[0], afresh)
    try:
        with capture_interrupts(), _opened(instance_ref, begins) as instance:
            _execute(instance, run_id)
    finally:
        # A forked process ends without: it would leave its lease of the embedded server and its parsers' folders to others.
        atexit._run_exitfuncs()


def _opened(instance_ref: InstanceRef, begins: Connection) -> DagsterInstance:
    with begins:
        try:
            instance = DagsterInstance.from_ref(instance_ref)
        except BaseException as error:
            begins.send(f"{error}")
            raise
        begins.send(None)
    # Else it connects anew for every event.
    instance.optimize_for_webserver(statement_timeout=0, pool_recycle=3600, max_overflow=10)
    return instance


def _execute(instance: DagsterInstance, run_id: str) -> None:
    """Whatever prevents it is told to whoever looks at the run."""
    from dagster._cli.api import _execute_run_command_body

    try:
        _execute_run_command_body(run_id, instance, lambda _: None, set_exit_code_on_failure=False)
    except BaseException as error:
        run = instance.get_run_by_id(run_id)
        if run is not None and not run.is_finished:
            instance.report_run_failed(run, f"The run could not be executed: {error}")
        raise
