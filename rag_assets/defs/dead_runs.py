"""Runs whose process is gone: nobody ends them, and until somebody does they hold pool slots and places in the queue.

Dagster's daemon looks for them every few seconds by way of the launcher. Where no daemon runs it is done whenever something of ours starts.
"""

import os
import platform
from collections.abc import Callable

import dagster as dg

from rag_assets.database.lease import start_time

OWNER_TAG = "rag-assets/process"
"""On runs executed in a process of ours: its pid, start time and machine, which together name one process for ever. Empty: not in one."""
_RUNNING = [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]
_CREATED = dg.DagsterRunStatus.NOT_STARTED
"""A run of ours is started by the process that creates it; any other may be waiting for one that will start it."""


def owner_of(pid: int) -> str:
    """What names a process of this machine for ever."""
    return f"{pid}:{start_time(pid)}:{platform.node()}"


def pid_of(owner: str) -> int | None:
    """The pid of a process that lives, on this machine; None: it does not, or is on another."""
    pid, token, machine = (*owner.split(":", 2), platform.node())[:3]
    found = pid.isdecimal() and machine == platform.node() and start_time(int(pid)) == token
    return int(pid) if found else None


def is_gone(owner: str) -> bool:
    """Whether the process has ended for certain; what another machine does is not known here."""
    machine = (*owner.split(":", 2), platform.node())[2]
    return machine == platform.node() and pid_of(owner) is None


def owner_tags() -> dict[str, str]:
    """The tags of a run that this process executes."""
    return {OWNER_TAG: owner_of(os.getpid())}


def end_own_runs(instance: dg.DagsterInstance) -> int:
    """Mark runs as failed that this process began and is not executing any more; call it between two runs only."""
    return _end(instance, lambda owner: owner == owner_tags()[OWNER_TAG])


def end_dead_runs(instance: dg.DagsterInstance, *, alone: bool = False) -> int:
    """Mark runs as failed whose process is gone, and free what they hold; returns how many.

    Args:
        instance: where they are recorded.
        alone: no other process of this project lives, so runs that Dagster launched can't live either.
    """
    return _end(instance, lambda owner: is_gone(owner) if owner else alone)


def _end(instance: dg.DagsterInstance, is_dead: Callable[[str | None], bool]) -> int:
    ended = 0
    for run in instance.get_runs(filters=dg.RunsFilter(statuses=[*_RUNNING, _CREATED])):
        owner = run.tags.get(OWNER_TAG) or None
        if is_dead(owner) and not (owner is None and run.status is _CREATED):
            instance.report_run_failed(
                run, message="The process that executed this run is gone. Nothing half-done was kept."
            )
            instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
            ended += 1
    return ended
