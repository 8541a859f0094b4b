"""Processes for trials: forked from one that has imported everything, holds no connection and runs no thread.

``multiprocessing``'s fork server is that process; the tests' own process is not forked, so it may use threads.
"""

import multiprocessing
import os
import signal
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

import psutil

from rag_assets.failpoints import VARIABLE, passings
from rag_assets_tests.faults.subject import Subject

context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(["rag_assets_tests.faults.warm"])

Job = Callable[..., Any]
"""A function at module level; called with the subject and further arguments that can be pickled."""
COUNT_ONLY = "=none"
"""A value of the failpoint variable that counts passings and lets nothing happen."""


@dataclass(frozen=True)
class Outcome:
    """How a process ended."""

    value: Any = None
    error: str | None = None
    """The class of the exception it ended with."""
    message: str = ""
    passed: dict[str, int] = field(default_factory=dict)
    """Failpoints it passed, if it was armed at all."""
    signal: int | None = None
    """The signal it was killed by."""

    @property
    def done(self) -> bool:
        return self.error is None and self.signal is None


class Child:
    """A job that runs in its own process."""

    def __init__(self, job: Job, subject: Subject, *arguments: Any, failpoint: str | None = None) -> None:
        """``failpoint``: as the variable ``RAG_FAILPOINT`` has it, for this process alone."""
        self._end, other = context.Pipe(duplex=False)
        self.process = context.Process(target=_run, args=(other, job, subject, failpoint, arguments), daemon=True)
        self.process.start()
        other.close()
        self._started = time.monotonic()

    @property
    def pid(self) -> int:
        assert self.process.pid is not None
        return self.process.pid

    def outcome(self, seconds: float = 120) -> Outcome:
        """Wait for its end.

        Raises:
            TimeoutError: it took longer; it is killed.
        """
        message: Outcome | None = None
        try:
            if not self._end.poll(seconds):
                self.signal(signal.SIGKILL)
                self.process.join(10)
                raise TimeoutError(f"Process {self.pid} did not end within {seconds:.0f} s.")
            message = self._end.recv()
        except (EOFError, ConnectionError):
            pass
        self.process.join(30)
        self._end.close()
        if message is not None:
            return message
        code = self.process.exitcode
        return Outcome(signal=-code if code is not None and code < 0 else None, error=None if code else "NoAnswer")

    def signal(self, number: int) -> None:
        """Send a signal; nothing where it has ended, be it just now."""
        if self.process.is_alive():
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def wait_a_moment(self, seconds: float = 0.7) -> None:
        """Return when it has had time to run into a lock, or has ended."""
        self._end.poll(seconds)

    def wait_until_stopped(self, seconds: float = 60) -> bool:
        """True when it froze itself; False when it ended first."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                status = psutil.Process(self.pid).status()
            except psutil.NoSuchProcess:
                return False
            if status == psutil.STATUS_STOPPED:
                return True
            if status == psutil.STATUS_ZOMBIE or self._end.poll(0.005):
                return False
        self.signal(signal.SIGKILL)
        raise TimeoutError(f"Process {self.pid} neither froze nor ended within {seconds:.0f} s.")


def run_job(job: Job, subject: Subject, *arguments: Any, failpoint: str | None = None, seconds: float = 120) -> Outcome:
    """Run a job in its own process and wait for its end."""
    return Child(job, subject, *arguments, failpoint=failpoint).outcome(seconds)


def completed(job: Job, subject: Subject, *arguments: Any, failpoint: str | None = None) -> Outcome:
    """As ``run_job``, for a job that nothing happens to.

    Raises:
        AssertionError: it did not end well.
    """
    outcome = run_job(job, subject, *arguments, failpoint=failpoint)
    assert outcome.done, f"{job} ended with {outcome.error or outcome.signal}: {outcome.message}"
    return outcome


def _run(end: "Connection[Outcome, Any]", job: Job, subject: Subject, failpoint: str | None, arguments: Any) -> None:
    if failpoint is not None:
        os.environ[VARIABLE] = failpoint
    # Whoever started the tests may have had it ignored or blocked, which children inherit.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    try:
        outcome = Outcome(value=job(subject, *arguments), passed=passings())
    except BaseException as error:
        outcome = Outcome(error=type(error).__name__, message=traceback.format_exc(), passed=passings())
    end.send(outcome)
    end.close()
