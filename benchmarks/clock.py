"""The clock that queries are issued by: monotonic only, so that a jump of the wall clock changes nothing."""

from __future__ import annotations

import select
import time
from collections.abc import Callable
from typing import Protocol

SPIN_NS = 2_000_000
"""How long before a planned start sleeping ends.

A sleeping thread wakes when the kernel gets round to it: 0.06 ms late on an idle machine, 1.1 ms at the 99th
percentile on a virtual one with some load. So the last 2 ms are spun, which is exact as long as the thread
keeps its core. At 500 Hz that is all of a wait, and one core is busy: as in a program that polls a camera.
"""


class Clock(Protocol):
    """A monotonic clock that can be waited on."""

    def now(self) -> int:
        """Nanoseconds since some fixed moment."""

    def sleep_until(self, moment_ns: int) -> None:
        """Return at `moment_ns`, or at once if that has passed."""


class SystemClock:
    """The machine's own.

    Args:
        spin_ns: how long before a moment to stop sleeping and spin; 0 = sleep up to it, and be as late as the
            kernel makes it.
        now: nanoseconds, monotonic.
        sleep: seconds.
        spin: called over and over while spinning.
    """

    def __init__(
        self,
        spin_ns: int = SPIN_NS,
        *,
        now: Callable[[], int] = time.perf_counter_ns,
        sleep: Callable[[float], None] = time.sleep,
        spin: Callable[[], object] = lambda: None,
    ) -> None:
        self.now = now
        self._spin_ns = spin_ns
        self._sleep = sleep
        self._spin = spin

    def sleep_until(self, moment_ns: int) -> None:
        """Sleep until shortly before, then spin."""
        now, spin = self.now, self._spin
        while (left := moment_ns - now()) > 0:
            if left > self._spin_ns:
                self._sleep((left - self._spin_ns) / 1e9)
            else:
                spin()


def yielding() -> None:
    """A step of spinning that lets Python's other threads run; `time.sleep(0)` takes the timer's 50 µs."""
    select.select((), (), (), 0)
