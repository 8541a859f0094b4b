"""Runs whose process is gone: nobody ends them, and until somebody does they hold pool slots and places in the queue.

Dagster's daemon looks for them every few seconds by way of the launcher. Where no daemon runs it is done whenever something of ours starts.
"""

import os
import platform
from collections.abc import Callable

import dagster as dg
from dagster._core.storage.tags import HIDDEN_TAG_PREFIX

from rag_assets.database.lease import start_time

OWNER_TAG = f"{HIDDEN_TAG_PREFIX}rag-assets-process"
"""On runs that a process of ours executes along with its other work, as ``sync`` does: which process. The UI does not list it."""
LAUNCHED_TAG = f"{HIDDEN_TAG_PREFIX}rag-assets-launched"
"""On runs that have a process to themselves: the run's id, for a run that is executed again has the tags of the first, and the process."""
_RUNNING = [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]
_CREATED = dg.DagsterRunStatus.NOT_STARTED
"""A run of ours is started by the process that creates it; any other may be waiting for one that will start it."""


def owner_of(pid: int) -> str:
    """Names a process of this machine for ever: its pid, start time and where that pid counts."""
    return f"{pid}:{start_time(pid)}:{_machine()}"


def _machine() -> str:
    """The host, and on Linux the container: the same pid is another process in another one."""
    try:
        return f"{platform.node()}/{os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return platform.node()


def pid_of(owner: str) -> int | None:
    """The pid of a process that lives, on this machine; None: it does not, or is on another."""
    pid, _, rest = owner.partition(":")
    token, _, _ = rest.partition(":")
    found = _is_here(owner) and pid.isdecimal() and start_time(int(pid)) == token
    return int(pid) if found else None


def is_gone(owner: str) -> bool:
    """Whether the process has ended for certain; what another machine does is not known here."""
    return _is_here(owner) and pid_of(owner) is None


def _is_here(owner: str) -> bool:
    """Whether it is a process of this machine; one that names none is."""
    _, _, machine = owner.partition(":")[2].partition(":")
    return machine in ("", _machine())


def launched_tags(run_id: str, pid: int) -> dict[str, str]:
    """The tags of a run that has a process to itself."""
    return {LAUNCHED_TAG: f"{run_id} {owner_of(pid)}"}


def launched_as(run: dg.DagsterRun) -> str | None:
    """The process that this run has to itself, if it has one of ours."""
    run_id, _, owner = run.tags.get(LAUNCHED_TAG, "").partition(" ")
    return owner if run_id == run.run_id else None


def executed_by(run: dg.DagsterRun) -> str | None:
    """The process of ours that executes the run; None: none, or nobody knows yet."""
    return launched_as(run) or (None if run.parent_run_id else run.tags.get(OWNER_TAG))


def owner_tags() -> dict[str, str]:
    """The tags of a run that this process executes."""
    return {OWNER_TAG: owner_of(os.getpid())}


def end_own_runs(instance: dg.DagsterInstance) -> int:
    """Mark runs as failed that this process began along with its other work and is not executing any more; call it between two runs only."""
    mine = owner_tags()[OWNER_TAG]
    return _end(instance, lambda run: run.tags.get(OWNER_TAG) == mine and launched_as(run) is None)


def end_dead_runs(instance: dg.DagsterInstance, *, alone: bool = False) -> int:
    """Mark runs as failed whose process is gone, and free what they hold; returns how many.

    Args:
        instance: where they are recorded.
        alone: no other process of this project lives, here or elsewhere, so no run does, either.
    """

    def is_dead(run: dg.DagsterRun) -> bool:
        owner = executed_by(run)
        if owner is None:
            return alone and run.status is not _CREATED
        return pid_of(owner) is None if alone else is_gone(owner)

    return _end(instance, is_dead)


def _end(instance: dg.DagsterInstance, is_dead: Callable[[dg.DagsterRun], bool]) -> int:
    ended = 0
    for run in instance.get_runs(filters=dg.RunsFilter(statuses=[*_RUNNING, _CREATED])):
        if is_dead(run):
            instance.report_run_failed(
                run, message="The process that executed this run is gone. Nothing half-done was kept."
            )
            instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
            ended += 1
    return ended
