"""Closed and open loops on a clock that only moves when somebody works or waits: every figure is known beforehand."""

import threading
from collections.abc import Callable

import pytest

from rag_assets.errors import RagAssetsError
from rag_assets.evaluation.benchmark.load import Clock, closed_loop, open_loop
from rag_assets.evaluation.benchmark.measuring import closed_level, open_level
from rag_assets.evaluation.latency import FoundQuality

SERVICE = 0.01


class FakeTime:
    """Seconds that pass by being slept or worked; for one thread at a time."""

    def __init__(self) -> None:
        self.seconds = 100.0
        self.clock = Clock(now=lambda: self.seconds, sleep=self.advance)

    def advance(self, seconds: float) -> None:
        self.seconds += seconds

    def work(self, stalls: dict[int, float] | None = None) -> Callable[[int], int]:
        """Answers every question in 10 ms, but for those that stall."""

        def ask(number: int) -> int:
            self.advance((stalls or {}).get(number, SERVICE))
            return number

        return ask


def test_what_queues_up_behind_a_stall_counts_as_slow_in_the_open_loop() -> None:
    time = FakeTime()
    measured = open_loop(time.work({20: 1.0}), rate=20, seconds=5, workers=1, clock=time.clock)
    level = open_level(20, measured, FoundQuality())  # type: ignore[arg-type]
    assert (level.requests, level.errors, level.unstarted) == (100, 0, 0)
    corrected, service = level.latency, level.service
    assert corrected is not None
    assert service is not None
    # One of a hundred was slow; the next two dozen waited for it, and a benchmark of service times knows nothing of them.
    assert service.p95 == pytest.approx(1000 * SERVICE)
    assert corrected.p95 > 700
    assert corrected.p99 > 900
    assert service.max == pytest.approx(1000)
    assert corrected.max == pytest.approx(1000)
    waiting = [request.number for request in measured.answered if request.began > request.due + 1e-9]
    assert waiting == list(range(21, 45))
    assert level.achieved == pytest.approx(20)


def test_the_same_stall_hardly_shows_in_a_closed_loop() -> None:
    time = FakeTime()
    measured = closed_loop(time.work({20: 1.0}), concurrency=1, seconds=5, clock=time.clock)
    level = closed_level(1, measured, FoundQuality())  # type: ignore[arg-type]
    assert level.latency is not None
    assert level.latency.p99 == pytest.approx(1000 * SERVICE)
    assert measured.throughput == pytest.approx(len(measured.requests) / 5, rel=0.01)


def test_questions_are_begun_at_their_times_and_never_early() -> None:
    time = FakeTime()
    measured = open_loop(time.work(), rate=4, seconds=2, workers=1, clock=time.clock)
    assert [request.began - 100 for request in measured.requests] == pytest.approx([n / 4 for n in range(8)])


def test_warm_up_is_asked_but_not_counted() -> None:
    time = FakeTime()
    opened = open_loop(time.work({0: 0.2}), rate=10, seconds=1, warm_up_seconds=0.5, workers=1, clock=time.clock)
    assert [request.number for request in opened.requests] == list(range(5, 15))
    closed = closed_loop(time.work({0: 0.2}), concurrency=1, seconds=0.1, warm_up_seconds=0.25, clock=time.clock)
    assert closed.requests[0].number == 6
    assert max(request.done - request.began for request in closed.requests) == pytest.approx(SERVICE)


def test_a_load_that_can_not_be_kept_up_with_is_ended_and_what_was_due_counts_as_waiting() -> None:
    time = FakeTime()
    measured = open_loop(time.work({0: 1.6}), rate=10, seconds=1, workers=1, clock=time.clock)
    assert len(measured.answered) == 10, "ten of a hundredth each are done well before twice the length"
    measured = open_loop(time.work({0: 5.0}), rate=10, seconds=1, workers=1, clock=time.clock)
    assert [request.number for request in measured.answered] == [0]
    assert measured.waited == pytest.approx([5 - number / 10 for number in range(1, 10)])
    level = open_level(10, measured, FoundQuality())  # type: ignore[arg-type]
    assert (level.requests, level.unstarted) == (1, 9)
    assert level.latency is not None
    assert level.latency.p50 == pytest.approx(4550), "those still waiting are the slowest of all"


def test_failures_are_counted_and_are_no_fast_answers() -> None:
    time = FakeTime()
    work = time.work()

    def ask(number: int) -> int:
        if number % 2:
            raise RagAssetsError(f"number {number} failed")
        return work(number)

    for measured in (
        open_loop(ask, rate=10, seconds=1, workers=1, clock=time.clock),
        closed_loop(ask, concurrency=1, seconds=0.05, clock=time.clock),
    ):
        assert measured.errors == [f"number {number} failed" for number in range(1, 2 * len(measured.errors), 2)]
        assert [request.answer for request in measured.answered] == [2 * n for n in range(5)]
    assert measured.throughput == pytest.approx(5 / 0.05)


def test_a_mistake_in_the_search_itself_is_no_failure_to_count_and_ends_the_load() -> None:
    def ask(number: int) -> int:
        if number == 5:
            raise ZeroDivisionError
        return number

    with pytest.raises(ZeroDivisionError):
        closed_loop(ask, concurrency=2, seconds=10_000)


def test_so_many_clients_ask_at_once_and_each_question_once() -> None:
    everybody = threading.Barrier(4, timeout=20)

    def ask(number: int) -> int:
        if number < 4:
            everybody.wait()
        return number

    measured = closed_loop(ask, concurrency=4, seconds=0.02)
    numbers = [request.number for request in measured.requests]
    assert numbers == list(range(len(numbers)))
    together = threading.Barrier(4, timeout=20)
    still = Clock(now=lambda: 0.0, sleep=lambda seconds: None)
    opened = open_loop(lambda number: together.wait(), rate=4, seconds=1, workers=4, clock=still)
    assert len(opened.answered) == 4


def test_a_rate_so_low_that_nothing_would_be_due_asks_once() -> None:
    time = FakeTime()
    measured = open_loop(time.work(), rate=0.1, seconds=1, warm_up_seconds=1, workers=1, clock=time.clock)
    assert [request.number for request in measured.requests] == [1]
