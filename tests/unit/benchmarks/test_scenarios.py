from __future__ import annotations

import gc
import itertools
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from edgead.benchmarks.histogram import Histogram
from edgead.benchmarks.clock import SystemClock
from edgead.benchmarks.run import Limits
from edgead.benchmarks.scenarios import paced, single_stream
from edgead.benchmarks.sut import NullSut, SampleLibrary
from edgead.benchmarks.warmup import Warmup
from edgead.errors import DatasetError, UsageError

MS = 1_000_000
ONE = SampleLibrary(["only"])
NO_WARMUP = Warmup(max_queries=1)


class FakeClock:
    """Time passes only where a test says so."""

    def __init__(self) -> None:
        self.time = 7_000

    def now(self) -> int:
        return self.time

    def sleep_until(self, moment_ns: int) -> None:
        self.time = max(self.time, moment_ns)


class ScriptedSut:
    """Takes the scripted time for each query, a quarter of it in preprocessing and the rest in the engine."""

    name = "scripted:fp32"
    runtime = "python"
    stages = ("preprocess", "engine")

    def __init__(self, clock: FakeClock, durations_ns: Iterable[int]) -> None:
        self.clock = clock
        self.durations = iter(durations_ns)
        self.samples: list[object] = []

    def issue(self, sample: object) -> tuple[int, ...]:
        duration = next(self.durations)
        self.samples.append(sample)
        self.clock.time += duration
        return (duration // 4, duration - duration // 4)


def test_single_stream_times_every_query_and_stage() -> None:
    clock = FakeClock()
    sut = ScriptedSut(clock, [99 * MS, 4 * MS, 8 * MS, 12 * MS])
    run = single_stream(sut, ONE, limits=Limits(min_queries=3), warmup=NO_WARMUP, clock=clock)
    assert run.latency_ns.tolist() == [4 * MS, 8 * MS, 12 * MS]
    assert run.service_ns.tolist() == run.latency_ns.tolist()
    assert run.times[:, 3:].tolist() == [[MS, 3 * MS], [2 * MS, 6 * MS], [3 * MS, 9 * MS]]
    assert run.fps == pytest.approx(3 / 0.024)
    assert (run.warmup_queries, run.complete, run.stages) == (1, True, ("preprocess", "engine"))


def test_samples_are_rotated() -> None:
    clock = FakeClock()
    sut = ScriptedSut(clock, itertools.repeat(MS))
    single_stream(sut, SampleLibrary("abc"), limits=Limits(min_queries=7), warmup=NO_WARMUP, clock=clock)
    assert "".join(map(str, sut.samples)) == "a" + "abcabca"


@pytest.mark.parametrize(
    ("limits", "queries"),
    [
        (Limits(min_queries=5), 5),
        (Limits(min_queries=5, min_duration_ns=100 * MS), 10),  # both minima
        (Limits(min_queries=50, min_duration_ns=100 * MS), 50),
        (Limits(min_queries=50, max_queries=20), 20),  # either maximum
        (Limits(min_queries=50, max_duration_ns=75 * MS), 8),  # the query that runs then is waited for
        (Limits(min_queries=1, min_duration_ns=10_000 * MS, max_duration_ns=30 * MS), 3),
    ],
)
def test_a_run_ends_when_both_minima_are_met_or_a_maximum_is_hit(limits: Limits, queries: int) -> None:
    clock = FakeClock()
    sut = ScriptedSut(clock, itertools.repeat(10 * MS))
    assert len(single_stream(sut, ONE, limits=limits, warmup=NO_WARMUP, clock=clock)) == queries


def test_a_stall_counts_for_every_query_that_it_delays() -> None:
    """100 Hz, 1,000 queries, one stall of 500 ms: latencies 500, 490, … 10 ms; back to back sees one."""

    def stalls() -> Iterator[int]:
        yield 0  # warm-up
        yield from (500 * MS if i == 300 else 0 for i in range(1_000))

    clock = FakeClock()
    run = paced(
        ScriptedSut(clock, stalls()),
        ONE,
        fps=100,
        limits=Limits(min_queries=1_000),
        warmup=NO_WARMUP,
        clock=clock,
    )
    assert run.latency_ns[300:351].tolist() == [(500 - 10 * i) * MS for i in range(51)]
    assert not run.latency_ns[:300].any()
    assert not run.latency_ns[351:].any()
    p99, p999 = np.quantile(run.latency_ns, [0.99, 0.999], method="inverted_cdf")
    assert (p99, p999) == (400 * MS, 490 * MS)
    assert Histogram(run.latency_ns.tolist()).at_ranks([990, 999]) == pytest.approx(
        [400 * MS, 490 * MS], rel=1e-3
    )

    back_to_back = single_stream(
        ScriptedSut(clock, stalls()), ONE, limits=Limits(min_queries=1_000), warmup=NO_WARMUP, clock=clock
    )
    assert np.quantile(back_to_back.latency_ns, 0.999, method="inverted_cdf") == 0
    assert np.quantile(run.service_ns, 0.999, method="inverted_cdf") == 0


def test_a_rate_that_cannot_be_held_ends_and_queues_up() -> None:
    """A query every 10 ms that takes 15: query i is 5·i ms late."""
    clock = FakeClock()
    sut = ScriptedSut(clock, itertools.repeat(15 * MS))
    run = paced(sut, ONE, fps=100, limits=Limits(min_queries=200), warmup=NO_WARMUP, clock=clock)
    assert run.latency_ns.tolist() == [(15 + 5 * i) * MS for i in range(200)]
    assert run.fps == pytest.approx(200 / (200 * 0.015))


def test_planned_starts_do_not_drift_with_a_period_that_is_no_whole_nanosecond() -> None:
    clock = FakeClock()
    sut = ScriptedSut(clock, itertools.repeat(0))
    run = paced(sut, ONE, fps=3, limits=Limits(min_queries=30_001), warmup=NO_WARMUP, clock=clock)
    assert run.times[-1, 0] - run.times[0, 0] == 10_000 * 10**9


def test_ctrl_c_keeps_what_was_measured() -> None:
    def interrupted() -> Iterator[int]:
        yield from [5 * MS] * 4
        raise KeyboardInterrupt

    clock = FakeClock()
    run = single_stream(
        ScriptedSut(clock, interrupted()), ONE, limits=Limits(min_queries=100), warmup=NO_WARMUP, clock=clock
    )
    assert not run.complete
    assert run.latency_ns.tolist() == [5 * MS] * 3


def test_ctrl_c_while_warming_up_leaves_nothing_to_report() -> None:
    def interrupted() -> Iterator[int]:
        yield from ()
        raise KeyboardInterrupt

    clock = FakeClock()
    with pytest.raises(KeyboardInterrupt):
        single_stream(ScriptedSut(clock, interrupted()), ONE, limits=Limits(min_queries=1), clock=clock)


def test_garbage_collection_is_off_during_the_run_only() -> None:
    seen = []

    class Watching(NullSut):
        def issue(self, sample: object) -> tuple[int, ...]:
            seen.append(gc.isenabled())
            return super().issue(sample)

    assert gc.isenabled()
    single_stream(Watching(), ONE, limits=Limits(min_queries=3), warmup=NO_WARMUP)
    assert gc.isenabled()
    assert not any(seen)


class CountingProgress:
    def __init__(self, now: Callable[[], int]) -> None:
        self.now = now
        self.total = 0
        self.ticks: list[tuple[int, int]] = []

    @contextmanager
    def task(self, name: str, total: int) -> Iterator[CountingProgress]:
        self.total = total
        yield self

    def advance(self, steps: int = 1, **status: object) -> None:
        self.ticks.append((self.now(), steps))

    def say(self, message: str) -> None: ...


def test_progress_counts_all_queries_and_shows_them_rarely() -> None:
    clock = FakeClock()
    progress = CountingProgress(clock.now)
    sut = ScriptedSut(clock, itertools.repeat(10 * MS))
    single_stream(sut, ONE, limits=Limits(min_queries=200), warmup=NO_WARMUP, clock=clock, progress=progress)
    assert progress.total == sum(steps for _, steps in progress.ticks) == 200
    assert len(progress.ticks) == 8  # 2 s, every 260 ms, and the rest


def test_progress_never_delays_a_planned_start() -> None:
    clock = FakeClock()
    progress = CountingProgress(clock.now)
    sut = ScriptedSut(clock, itertools.repeat(5 * MS))
    paced(sut, ONE, fps=100, limits=Limits(min_queries=200), warmup=NO_WARMUP, clock=clock, progress=progress)
    assert [steps for _, steps in progress.ticks] == [200]  # 5 ms of slack are too few to draw in


def test_the_system_clock_waits_to_the_moment() -> None:
    clock = SystemClock()
    moment = clock.now() + 3 * MS
    clock.sleep_until(moment)
    assert moment <= clock.now() < moment + 1_000 * MS
    before = clock.now()
    clock.sleep_until(before - MS)
    assert clock.now() - before < 1_000 * MS


def test_nothing_to_measure_with() -> None:
    with pytest.raises(DatasetError, match="no sample"):
        SampleLibrary([])
    with pytest.raises(UsageError, match="at least 1 query"):
        Limits(min_queries=0)
