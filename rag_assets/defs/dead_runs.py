"""Runs whose process is gone: nobody ends them, and until somebody does they hold pool slots and places in the queue.

Dagster's run monitoring can't see this with the default launcher, so it is looked for whenever something of ours starts.
"""

import os
from collections.abc import Callable

import dagster as dg

from rag_assets.database.lease import start_time

OWNER_TAG = "rag-assets/process"
"""On runs executed in a process of ours: its pid and start time, which together name one process for ever."""
_RUNNING = [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]
_CREATED = dg.DagsterRunStatus.NOT_STARTED
"""A run of ours is started by the process that creates it; any other may be waiting for one that will start it."""


def owner_tags() -> dict[str, str]:
    """The tags of a run that this process executes."""
    pid = os.getpid()
    return {OWNER_TAG: f"{pid}:{start_time(pid)}"}


def end_own_runs(instance: dg.DagsterInstance) -> int:
    """Mark runs as failed that this process began and is not executing any more; call it between two runs only."""
    return _end(instance, lambda owner: owner == owner_tags()[OWNER_TAG])


def end_dead_runs(instance: dg.DagsterInstance, *, alone: bool = False) -> int:
    """Mark runs as failed whose process is gone, and free what they hold; returns how many.

    Args:
        instance: where they are recorded.
        alone: no other process of this project lives, so runs that Dagster launched can't live either.
    """
    return _end(instance, lambda owner: alone if owner is None else not _lives(owner))


def _end(instance: dg.DagsterInstance, is_dead: Callable[[str | None], bool]) -> int:
    ended = 0
    for run in instance.get_runs(filters=dg.RunsFilter(statuses=[*_RUNNING, _CREATED])):
        owner = run.tags.get(OWNER_TAG)
        if is_dead(owner) and not (owner is None and run.status is _CREATED):
            instance.report_run_failed(
                run, message="The process that executed this run is gone. Nothing half-done was kept."
            )
            instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
            ended += 1
    return ended


def _lives(owner: str) -> bool:
    pid, _, token = owner.partition(":")
    return pid.isdecimal() and start_time(int(pid)) == token
