"""A watchdog bites what takes too long, once, and nothing else."""

import threading
from collections.abc import Iterator

import pytest

from rag_assets.documents.watchdog import Watchdog

LONG = 60.0


class Bitten:
    """Counts bites."""

    def __init__(self) -> None:
        self.times = 0
        self.event = threading.Event()

    def __call__(self) -> None:
        self.times += 1
        self.event.set()


@pytest.fixture
def bitten() -> Bitten:
    return Bitten()


@pytest.fixture
def watchdog(bitten: Bitten) -> Iterator[Watchdog]:
    made = Watchdog(bitten)
    yield made
    made.dismiss()


def test_it_bites_once_at_the_deadline(watchdog: Watchdog, bitten: Bitten) -> None:
    watchdog.watch(0.01)
    assert bitten.event.wait(LONG)
    watchdog.watch(0.01)
    watchdog.rest()
    assert (bitten.times, watchdog.bit) == (1, True)


def test_a_short_watch_after_a_long_one_is_not_slept_through(watchdog: Watchdog, bitten: Bitten) -> None:
    watchdog.watch(10 * LONG)
    watchdog.rest()
    watchdog.watch(0.01)
    assert bitten.event.wait(LONG)


def test_it_does_not_bite_what_was_in_time_whatever_is_watched_next(watchdog: Watchdog, bitten: Bitten) -> None:
    watchdog.watch(0.05)
    watchdog.rest()
    assert not bitten.event.wait(0.2)
    watchdog.watch(0.05)
    watchdog.rest()
    watchdog.watch(LONG)
    assert not bitten.event.wait(0.2)
    # After it has slept through the end of a watch it still is there.
    watchdog.watch(0.01)
    assert bitten.event.wait(LONG)


def test_a_watchdog_that_is_dismissed_leaves_no_thread(bitten: Bitten) -> None:
    before = set(threading.enumerate())
    made = Watchdog(bitten)
    made.watch(LONG)
    own = set(threading.enumerate()) - before
    made.dismiss()
    for thread in own:
        thread.join(LONG)
    assert [thread.is_alive() for thread in own] == [False]
    assert bitten.times == 0
