from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from edgead.benchmarks.clock import SPIN_NS, SystemClock, yielding
from edgead.benchmarks.run import Limits
from edgead.benchmarks.scenarios import paced
from edgead.benchmarks.sut import NullSut, SampleLibrary
from edgead.benchmarks.warmup import Warmup

US, MS = 1_000, 1_000_000
START_BAR_NS = 200 * US


class Machine:
    """A fake machine: reading the clock costs 100 ns, and a sleeper wakes late."""

    def __init__(self, late_ns: int) -> None:
        self.time, self.late_ns, self.slept, self.spun = 5_000_000_000, late_ns, 0, 0

    def now(self) -> int:
        self.time += 100
        return self.time

    def sleep(self, seconds: float) -> None:
        self.slept += 1
        self.time += round(seconds * 1e9) + self.late_ns

    def spin(self) -> None:
        self.spun += 1

    def clock(self, spin_ns: int = SPIN_NS) -> SystemClock:
        return SystemClock(spin_ns, now=self.now, sleep=self.sleep, spin=self.spin)


@pytest.mark.parametrize("late_us", [0, 60, 1_100, 1_900])
def test_a_sleeper_that_wakes_late_still_starts_in_time(late_us: int) -> None:
    machine = Machine(late_us * US)
    moment = machine.time + 20 * MS
    machine.clock().sleep_until(moment)
    assert moment <= machine.time < moment + 200  # a read of the clock or two
    assert machine.slept == 1
    assert machine.spun > 0


def test_only_the_last_part_is_spun() -> None:
    machine = Machine(0)
    machine.clock().sleep_until(machine.time + 1_000 * MS)
    assert machine.spun <= SPIN_NS // 100


def test_without_spinning_a_start_is_as_late_as_the_sleeper() -> None:
    machine = Machine(1_100 * US)
    moment = machine.time + 20 * MS
    machine.clock(spin_ns=0).sleep_until(moment)
    assert 1_000 * US < machine.time - moment < 1_200 * US
    assert machine.spun == 0


def test_a_moment_that_has_passed_is_not_waited_for() -> None:
    machine = Machine(0)
    before = machine.time
    machine.clock().sleep_until(before - MS)
    assert (machine.time - before, machine.slept, machine.spun) == (100, 0, 0)


def test_a_jump_of_the_wall_clock_is_not_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def jumps() -> float:
        raise AssertionError("the wall clock was read")

    monkeypatch.setattr(time, "time", jumps)
    monkeypatch.setattr(time, "time_ns", jumps)
    run = paced(
        NullSut(),
        SampleLibrary("a"),
        fps=1_000,
        limits=Limits(min_queries=5),
        warmup=Warmup(max_queries=1),
    )
    assert len(run) == 5
    assert (np.diff(run.times[:, 0]) == MS).all()


def test_yielding_lets_another_thread_run() -> None:
    seen: list[int] = []
    thread = threading.Thread(target=lambda: seen.append(1))
    thread.start()
    deadline = time.monotonic() + 60
    while not seen and time.monotonic() < deadline:
        yielding()
    assert seen == [1]
    thread.join()


def waited_for_a_core_ns() -> int:
    """How long the kernel has kept this thread waiting though it could have run."""
    return int(Path("/proc/thread-self/schedstat").read_text().split()[1])


@contextmanager
def real_time(wanted: bool) -> Iterator[None]:
    """This process before all others, where the system allows that."""
    if not wanted:
        yield
        return
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(10))
    except (OSError, AttributeError):
        pytest.skip("the machine is busy, and this process may not go before the others")
    try:
        yield
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def test_planned_starts_at_500_hz_are_met_within_200_us() -> None:
    """For real. A try in which the kernel gave the core to another process says nothing.

    So where the machine is busy the later tries go before all others; they last 0.8 s, since Linux stops a
    process that has had real-time priority for 0.95 s.
    """
    tries = []
    for attempt in range(4):
        with real_time(attempt >= 2):
            try:
                before = waited_for_a_core_ns()
            except OSError:
                pytest.skip("this system does not tell whether the machine was stalled")
            run = paced(
                NullSut(),
                SampleLibrary("ab"),
                fps=500,
                limits=Limits(min_queries=400),
                warmup=Warmup(max_queries=1),
            )
            taken = waited_for_a_core_ns() - before
        late = float(np.quantile(run.times[:, 1] - run.times[:, 0], 0.99, method="inverted_cdf"))
        if late <= START_BAR_NS:
            return
        tries.append((round(late / US), round(taken / US)))
        # Five late starts make the p99 late; each takes longer than the bar.
        assert taken > START_BAR_NS, f"late by {late / US:.0f} µs, and the machine was not stalled"
    pytest.skip(f"stalled in every try; the p99's delay and the time without a core, in µs: {tries}")
