"""Ends what takes too long."""

import threading
import time
from collections.abc import Callable

_IDLE = float("inf")


class Watchdog:
    """Calls ``bite`` when a watch is not over in time; one thread for all watches, since starting one takes as long as
    parsing a small file. One watch at a time.
    """

    def __init__(self, bite: Callable[[], None]) -> None:
        self.bit = False
        """Whether it has called ``bite``, which it does once."""
        self._bite = bite
        self._changed = threading.Condition()
        self._deadline = self._wakes_at = _IDLE
        self._dismissed = False
        self._thread: threading.Thread | None = None

    def watch(self, seconds: float) -> None:
        """Bite in so many seconds, unless told otherwise before."""
        with self._changed:
            self._deadline = time.monotonic() + seconds
            if self._thread is None:
                self._thread = threading.Thread(target=self._guard, name="watchdog", daemon=True)
                self._thread.start()
            elif self._deadline < self._wakes_at:
                self._changed.notify()

    def rest(self) -> None:
        """The watch is over. The thread sleeps on: it need not know."""
        with self._changed:
            self._deadline = _IDLE

    def dismiss(self) -> None:
        """End its thread; it watches no more."""
        with self._changed:
            self._dismissed = True
            self._changed.notify()

    def _guard(self) -> None:
        with self._changed:
            while not self._dismissed and not self.bit:
                left = self._deadline - time.monotonic()
                if left <= 0:
                    self.bit = True
                    self._bite()
                else:
                    self._wakes_at = self._deadline
                    self._changed.wait(None if left == _IDLE else left)
