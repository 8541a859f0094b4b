"""Load: many questions at once, in threads. What is asked, and what the clock is, come from outside.

* Closed loop: each client asks its next question when it has its answer. It finds out what can be had; but while one answer
  takes long, its client asks nothing, so slow moments are hardly sampled.
* Open loop: questions are due at fixed times. A latency counts from the time a question was due, not from when a
  worker got round to it, so whatever queues up behind a slow answer counts as slow (Tene's "coordinated omission", corrected at
  the source as wrk2 does).
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import count
from math import ceil
from threading import Lock
from typing import Generic, TypeVar

import psycopg

from rag_assets.errors import RagAssetsError

Answer = TypeVar("Answer")

MOST_OVERRUN = 1.0
"""An open loop that can't keep up is ended after so many times its length more; what is still due then has not been started."""


@dataclass(frozen=True, slots=True)
class Clock:
    """Where time comes from and how it is waited for."""

    now: Callable[[], float] = time.perf_counter
    """Seconds."""
    sleep: Callable[[float], None] = time.sleep


@dataclass(frozen=True, slots=True)
class Request(Generic[Answer]):
    """One question asked; times in seconds of the clock."""

    number: int
    due: float
    began: float
    done: float
    answer: Answer | None
    """None: it failed."""
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Measured(Generic[Answer]):
    """What one level of load brought, warm-up left out."""

    requests: Sequence[Request[Answer]]
    seconds: float
    """From the first question to the last answer."""
    waited: Sequence[float] = field(default_factory=list)
    """Seconds that each question had been due which was never begun."""

    @property
    def answered(self) -> list[Request[Answer]]:
        """Those that did not fail."""
        return [request for request in self.requests if request.error is None]

    @property
    def errors(self) -> list[str]:
        """Messages of those that failed."""
        return [request.error for request in self.requests if request.error is not None]

    @property
    def throughput(self) -> float:
        """Answered questions a second."""
        return len(self.answered) / self.seconds if self.seconds > 0 else 0.0


def closed_loop(
    ask: Callable[[int], Answer],
    *,
    concurrency: int,
    seconds: float,
    warm_up_seconds: float = 0.0,
    clock: Clock | None = None,
) -> Measured[Answer]:
    """``concurrency`` clients ask one question after the other; each asks at least one that counts.

    Args:
        ask: answers question number 0, 1, 2 …; called from threads.
        concurrency: clients, a thread each.
        seconds: after the warm-up nobody asks anything new once so much time is over.
        warm_up_seconds: what begins within it is not counted.
        clock: None: the real one.
    """
    clock = clock or Clock()
    numbers = _Numbers()
    warm = clock.now() + warm_up_seconds

    def client() -> list[Request[Answer]]:
        requests: list[Request[Answer]] = []
        while not numbers.stopped and (not requests or clock.now() < warm + seconds):
            request = _asked(ask, numbers.take(), clock)
            if request.began >= warm:
                requests.append(request)
        return requests

    requests = _in_threads(client, concurrency, numbers)
    return Measured(requests, max(item.done for item in requests) - min(item.began for item in requests))


def open_loop(
    ask: Callable[[int], Answer],
    *,
    rate: float,
    seconds: float,
    warm_up_seconds: float = 0.0,
    workers: int,
    clock: Clock | None = None,
) -> Measured[Answer]:
    """Question n is due at n / ``rate`` seconds, whatever became of those before.

    Args:
        ask: answers question number 0, 1, 2 …; called from threads.
        rate: questions a second.
        seconds: questions are due for so long after the warm-up; at least one is.
        warm_up_seconds: what is due within it is not counted.
        workers: threads that answer; a question that finds none idle waits, and its waiting counts.
        clock: None: the real one.
    """
    clock = clock or Clock()
    numbers = _Numbers()
    unmeasured, measured = ceil(warm_up_seconds * rate), max(1, round(seconds * rate))
    total = unmeasured + measured
    start = clock.now()
    warm = start + unmeasured / rate
    end = warm + (1 + MOST_OVERRUN) * measured / rate

    def worker() -> list[Request[Answer]]:
        requests = []
        while not numbers.stopped and clock.now() < end and (number := numbers.take()) < total:
            due = start + number / rate
            if (early := due - clock.now()) > 0:
                clock.sleep(early)
            requests.append(_asked(ask, number, clock, due))
        return requests

    asked = _in_threads(worker, workers, numbers)
    stopped = max([clock.now(), *(request.done for request in asked)])
    never = set(range(unmeasured, total)) - {request.number for request in asked}
    requests = [request for request in asked if request.number >= unmeasured]
    last = max((request.done for request in requests), default=stopped)
    # Answers that come at once make no level shorter than its schedule.
    lasted = max(last - warm, measured / rate)
    return Measured(requests, lasted, [stopped - (start + number / rate) for number in sorted(never)])


class _Numbers:
    """0, 1, 2 … to any number of threads."""

    def __init__(self) -> None:
        self._next, self._lock = count(), Lock()
        self.stopped = False
        """Nobody asks anything new."""

    def take(self) -> int:
        with self._lock:
            return next(self._next)


def _asked(ask: Callable[[int], Answer], number: int, clock: Clock, due: float | None = None) -> Request[Answer]:
    began = clock.now()
    due = began if due is None else due
    try:
        answer = ask(number)
    except (RagAssetsError, psycopg.Error) as error:
        return Request(number, due, began, clock.now(), None, str(error) or type(error).__name__)
    return Request(number, due, began, clock.now(), answer)


def _in_threads(work: Callable[[], list[Request[Answer]]], threads: int, numbers: _Numbers) -> list[Request[Answer]]:
    """What all threads asked, in order of number; an exception in one of them, or Ctrl-C, ends them all and is raised."""
    with ThreadPoolExecutor(threads, thread_name_prefix="benchmark") as pool:
        parts = [pool.submit(work) for _ in range(threads)]
        try:
            wait(parts, return_when=FIRST_EXCEPTION)
            asked = [request for part in parts for request in part.result()]
        finally:
            numbers.stopped = True
    return sorted(asked, key=lambda request: request.number)
