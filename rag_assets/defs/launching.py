"""Starts runs in processes that have imported everything already: what Dagster imports anew for every run takes longer than most runs.

The process that launches runs, which is Dagster's daemon, keeps one that has done nothing but import (``multiprocessing``'s fork server,
with ``warm_imports`` loaded). It forks for each run. A run thus still has a process of its own, with settings, connections and a model of
its own, and whatever one does to itself ends with it.
"""

import atexit
import logging
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
from dagster._core.remote_origin import GrpcServerCodeLocationOrigin
from dagster._grpc.types import ExecuteRunArgs
from dagster._serdes import ConfigurableClassData

from rag_assets.defs.dead_runs import executed_by, is_gone, launched_as, launched_tags, pid_of
from rag_assets.defs.event_log import batched, keep_connections

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
        if pid is None:
            super().launch_run(context)
        else:
            self._instance.add_run_tags(run.run_id, launched_tags(run.run_id, pid))

    def terminate(self, run_id: str) -> bool:
        """Interrupt the run's process, which then says itself that it was canceled; False: there is none.

        A run within a ``sync`` has no process to itself, and is not terminated.
        """
        run = self._instance.get_run_by_id(run_id)
        owner = launched_as(run) if run else None
        if run is None or run.is_finished or owner is None:
            return bool(super().terminate(run_id))  # type: ignore[no-untyped-call]
        self._instance.report_run_canceling(run)
        pid = pid_of(owner)
        if pid is None:
            return False
        try:
            os.kill(pid, signal.SIGINT)
        except ProcessLookupError:
            return False
        return True

    @property
    def supports_check_run_worker_health(self) -> bool:
        """Yes: Dagster's monitoring marks runs as failed whose process is gone, and they are tried again."""
        return True

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """Whether the process lives; of runs that were launched in another way nothing is known, and nothing is said."""
        owner = executed_by(run)
        if owner is not None and is_gone(owner):
            return CheckRunHealthResult(WorkerStatus.FAILED, "The process that executed this run is gone.")
        return CheckRunHealthResult(WorkerStatus.RUNNING)


def _is_ours(run: DagsterRun) -> bool:
    """Whether the run is of this package, in this environment, on this machine."""
    # macOS' own libraries may not be used after a fork.
    if sys.platform == "darwin" or run.job_code_origin is None or run.remote_job_origin is None:
        return False
    origin, pointer = run.job_code_origin.repository_origin, run.job_code_origin.repository_origin.code_pointer
    here = Path(origin.executable_path).parent == Path(sys.executable).parent and origin.container_image is None
    server = run.remote_job_origin.repository_origin.code_location_origin
    # A code server that answers at a port may be another machine's.
    near = not isinstance(server, GrpcServerCodeLocationOrigin) or server.socket is not None
    return here and near and isinstance(pointer, ModuleCodePointer) and pointer.module == _MODULE


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
            except (OSError, EOFError) as error:
                logging.getLogger(__name__).warning("No process could be forked for run %s: %r", run.run_id, error)
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
    from dagster._cli.api import _execute_run_command_body
    from dagster._utils.interrupts import capture_interrupts

    from rag_assets.defs import warm_imports

    os.environ.clear()
    os.environ.update(environment)
    if warm_imports.edited():
        begins.send(None)
        os.execv(afresh[0], afresh)
    try:
        with capture_interrupts(), _opened(instance_ref, begins) as instance, batched(instance):
            keep_connections(instance)
            _execute_run_command_body(run_id, instance, lambda _: None, set_exit_code_on_failure=False)
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
    return instance
