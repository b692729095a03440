from __future__ import annotations

import gc
import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from edgead.benchmarks.clock import SystemClock
from edgead.benchmarks.histogram import Histogram
from edgead.benchmarks.run import Limits
from edgead.benchmarks.scenarios import idle_gap, paced, single_stream
from edgead.benchmarks.sut import NullSut, SampleLibrary
from edgead.benchmarks.warmup import Warmup
from edgead.errors import DatasetError, UsageError

MS = 1_000_000
ONE = SampleLibrary(["only"])
NO_WARMUP = Warmup(max_queries=1)


def test_single_stream_times_every_query_and_stage(clock: Any, scripted: Any) -> None:
    sut = scripted([99 * MS, 4 * MS, 8 * MS, 12 * MS])
    run = single_stream(sut, ONE, limits=Limits(min_queries=3), warmup=NO_WARMUP, clock=clock)
    assert run.latency_ns.tolist() == [4 * MS, 8 * MS, 12 * MS]
    assert run.service_ns.tolist() == run.latency_ns.tolist()
    assert run.times[:, 3:].tolist() == [[MS, 3 * MS], [2 * MS, 6 * MS], [3 * MS, 9 * MS]]
    assert run.fps == pytest.approx(3 / 0.024)
    assert (run.warmup_queries, run.complete, run.stages) == (1, True, ("preprocess", "engine"))


def test_samples_are_rotated(clock: Any, scripted: Any) -> None:
    sut = scripted(itertools.repeat(MS))
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
def test_a_run_ends_when_both_minima_are_met_or_a_maximum_is_hit(
    clock: Any, scripted: Any, limits: Limits, queries: int
) -> None:
    sut = scripted(itertools.repeat(10 * MS))
    assert len(single_stream(sut, ONE, limits=limits, warmup=NO_WARMUP, clock=clock)) == queries


def test_a_stall_counts_for_every_query_that_it_delays(clock: Any, scripted: Any) -> None:
    """100 Hz, 1,000 queries, one stall of 500 ms: latencies 500, 490, … 10 ms; back to back sees one."""

    def stalls() -> Iterator[int]:
        yield 0  # warm-up
        yield from (500 * MS if i == 300 else 0 for i in range(1_000))

    run = paced(
        scripted(stalls()),
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
        scripted(stalls()), ONE, limits=Limits(min_queries=1_000), warmup=NO_WARMUP, clock=clock
    )
    assert np.quantile(back_to_back.latency_ns, 0.999, method="inverted_cdf") == 0
    assert np.quantile(run.service_ns, 0.999, method="inverted_cdf") == 0


def test_for_real_a_stall_counts_for_every_query_that_it_delays() -> None:
    """The same with the machine's own clock: within one period of the closed form."""

    class Stalls(NullSut):
        queries = 0

        def issue(self, sample: object) -> tuple[int, ...]:
            self.queries += 1
            if self.queries == 301:
                time.sleep(0.5)
            return super().issue(sample)

    tries = []
    for _ in range(3):
        run = paced(Stalls(), ONE, fps=100, limits=Limits(min_queries=1_000), warmup=NO_WARMUP)
        p99, p999 = np.quantile(run.latency_ns, [0.99, 0.999], method="inverted_cdf")
        # The sleep itself ends late on a busy machine: the closed form is that of the stall that really was.
        stall = int(run.service_ns[run.service_ns.argmax()]) - 500 * MS
        if abs(p99 - 400 * MS) <= 10 * MS and 490 * MS - 10 * MS <= p999 <= 500 * MS + 10 * MS:
            back_to_back = single_stream(Stalls(), ONE, limits=Limits(min_queries=1_000), warmup=NO_WARMUP)
            assert np.quantile(back_to_back.latency_ns, 0.99, method="inverted_cdf") < 100 * MS
            return
        tries.append((p99 / MS, p999 / MS, stall / MS))
        late = np.sort(run.service_ns)[-11:-1]
        assert stall > 5 * MS or late.max() > 5 * MS, f"{tries}, though nothing stalled but the system"
    pytest.skip(f"the machine stalled in every try: p99, p99.9 and excess of the stall in ms: {tries}")


def test_a_rate_that_cannot_be_held_fills_a_bounded_queue(clock: Any, scripted: Any) -> None:
    """A query every 10 ms that takes 15 ms: query i is 5·i ms late, until the queue is full."""
    sut = scripted(itertools.repeat(15 * MS))
    run = paced(sut, ONE, fps=100, queue=20, limits=Limits(min_queries=200), warmup=NO_WARMUP, clock=clock)
    assert run.latency_ns[:40].tolist() == [(15 + 5 * i) * MS for i in range(40)]
    # Whoever is let in finds at most 20 waiting, each of which takes 15 ms, and one that is being answered.
    assert run.latency_ns.max() <= (20 + 2) * 15 * MS
    assert len(run) + run.dropped == 200
    # Answered: 2 of 3 in the 2 s of the plan, and what waits at its end.
    assert len(run) == pytest.approx(2_000 / 15 + 20, abs=2)
    assert run.throughput() == pytest.approx(1e3 / 15)
    assert run.times[-1, 2] - run.times[0, 0] <= (2_000 + 21 * 15) * MS


def test_a_system_that_never_keeps_up_does_not_make_the_run_endless(clock: Any, scripted: Any) -> None:
    """100 times too slow: the 10 s of the plan, one query of 1 s each, and the queue."""
    sut = scripted(itertools.repeat(1_000 * MS))
    run = paced(sut, ONE, fps=100, queue=5, limits=Limits(min_queries=1_000), warmup=NO_WARMUP, clock=clock)
    assert len(run) == 10 + 5
    assert run.dropped == 985


def test_the_longest_time_ends_a_run_though_some_still_wait(clock: Any, scripted: Any) -> None:
    limits = Limits(min_queries=1_000, max_duration_ns=1_000 * MS)
    run = paced(
        scripted(itertools.repeat(20 * MS)), ONE, fps=100, limits=limits, warmup=NO_WARMUP, clock=clock
    )
    assert len(run) == 50
    assert run.dropped == 0


def test_dropped_frames_are_those_of_a_queue_simulated_by_hand(clock: Any, scripted: Any) -> None:
    """Arrivals 0, 10, … 90 ms, 35 ms each, 1 may wait.

    0 runs 0–35: 10 waits, 20 and 30 are dropped. 10 runs 35–70: 40 waits, 50, 60 and 70 are dropped (the
    queue is full until the answer). 40 runs 70–105: 80 waits, 90 is dropped. 80 runs 105–140.
    """
    sut = scripted(itertools.repeat(35 * MS))
    clock.time = -35 * MS  # the warm-up takes it to 0
    run = paced(sut, SampleLibrary(range(10)), fps=100, queue=1, limits=Limits(min_queries=10),
                warmup=NO_WARMUP, clock=clock)  # fmt: skip
    assert (run.times[:, 0] // MS).tolist() == [0, 10, 40, 80]
    assert (run.latency_ns // MS).tolist() == [35, 60, 65, 60]
    assert run.dropped == 6
    assert sut.samples[1:] == [0, 1, 4, 8]  # a dropped frame's picture is gone


def test_jitter_moves_the_planned_starts_and_the_latency_counts_from_them(clock: Any, scripted: Any) -> None:
    sut = scripted(itertools.repeat(3 * MS))
    run = paced(
        sut, ONE, fps=100, jitter_ns=2 * MS, limits=Limits(min_queries=500), warmup=NO_WARMUP, clock=clock
    )
    gaps = np.diff(run.times[:, 0])
    assert gaps.min() < 7 * MS
    assert gaps.max() > 13 * MS
    assert set(run.latency_ns) == {3 * MS}  # no two starts are nearer than 6 ms
    with pytest.raises(UsageError, match="at most half of the period"):
        paced(sut, ONE, fps=100, jitter_ns=6 * MS, limits=Limits(), clock=clock)


class Cooling:
    """Takes 10 ms within 40 ms of its last answer, 80 ms after a longer pause."""

    name, runtime, stages = "cooling:fp32", "python", ()

    def __init__(self, clock: Any) -> None:
        self.clock, self.done, self.issued = clock, -(10**12), 0

    def issue(self, sample: object) -> tuple[int, ...]:
        self.issued += 1
        self.clock.time += (80 if self.clock.time - self.done > 40 * MS else 10) * MS
        self.done = self.clock.time
        return ()


def test_idle_gaps_show_what_a_pause_costs_and_what_keeping_warm_saves(clock: Any) -> None:
    sut = Cooling(clock)
    run = idle_gap(
        sut,
        ONE,
        pauses_ns=(0, 30 * MS, 1_000 * MS),
        keep_warm_ns=25 * MS,
        limits=Limits(min_queries=600),
        warmup=NO_WARMUP,
        clock=clock,
    )
    assert run.groups == ("0 s", "0 s, kept warm", "0.03 s", "0.03 s, kept warm", "1 s", "1 s, kept warm")
    latency = {name: run.select((name,)).latency_ns for name in run.groups}
    assert {len(values) for values in latency.values()} == {100}
    for name in ("0 s", "0.03 s"):
        assert set(latency[name][1:]) <= {10 * MS}
    assert set(latency["1 s"]) == {80 * MS}
    # 10 ms, and up to 10 ms more where it comes while one that keeps warm is still running.
    warm = latency["1 s, kept warm"]
    assert warm.min() == 10 * MS
    assert 10 * MS < warm.max() <= 20 * MS
    # A tick every 25 ms takes 10 ms: a part meets one with probability 0.4, and waits 5 ms of it on average.
    assert (warm > 10 * MS).mean() == pytest.approx(0.4, abs=4 * np.sqrt(0.4 * 0.6 / 100))
    assert (run.service_ns[run.group == 5] == 10 * MS).all()


@pytest.mark.parametrize(
    "options", [{"pauses_ns": ()}, {"pauses_ns": (-1,)}, {"pauses_ns": (0,), "keep_warm_ns": 0}]
)
def test_pauses_that_cannot_be(clock: Any, options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="idle-gap needs pauses"):
        idle_gap(Cooling(clock), ONE, limits=Limits(), clock=clock, **options)


def test_ctrl_c_in_a_pause_keeps_what_was_measured(clock: Any) -> None:
    class Impatient(type(clock)):  # type: ignore[misc]
        def sleep_until(self, moment_ns: int) -> None:
            super().sleep_until(moment_ns)
            if self.time > 3_000 * MS:
                raise KeyboardInterrupt

    impatient = Impatient()
    run = idle_gap(
        Cooling(impatient),
        ONE,
        pauses_ns=(100 * MS,),
        limits=Limits(min_queries=1_000),
        warmup=NO_WARMUP,
        clock=impatient,
    )
    assert not run.complete
    assert run.group is not None
    assert len(run) == len(run.group) > 10


def test_a_run_is_stopped_at_the_first_look_that_says_so(clock: Any, scripted: Any) -> None:
    looks: list[int] = []

    def enough(times: Any) -> bool:
        looks.append(len(times))
        return len(times) >= 4_000

    run = single_stream(
        scripted(itertools.repeat(MS)),
        ONE,
        limits=Limits(min_queries=10**6),
        warmup=NO_WARMUP,
        clock=clock,
        stop=enough,
    )
    assert looks == [1_000, 2_000, 4_000]
    assert len(run) == 4_000


def test_a_look_does_not_delay_a_planned_start(clock: Any, scripted: Any) -> None:
    looks: list[int] = []
    sut = scripted(itertools.chain(itertools.repeat(9 * MS, 1_500), itertools.repeat(5 * MS)))
    paced(
        sut, ONE, fps=100, limits=Limits(min_queries=3_000), warmup=NO_WARMUP, clock=clock,
        stop=lambda times: bool(looks.append(len(times))),
    )  # fmt: skip
    assert looks == [1_500, 2_000]  # 1 ms is too short for it; 5 ms are not


def test_planned_starts_do_not_drift_with_a_period_that_is_no_whole_nanosecond(
    clock: Any, scripted: Any
) -> None:
    sut = scripted(itertools.repeat(0))
    run = paced(sut, ONE, fps=3, limits=Limits(min_queries=30_001), warmup=NO_WARMUP, clock=clock)
    assert run.times[-1, 0] - run.times[0, 0] == 10_000 * 10**9


def test_ctrl_c_keeps_what_was_measured(clock: Any, scripted: Any) -> None:
    def interrupted() -> Iterator[int]:
        yield from [5 * MS] * 4
        raise KeyboardInterrupt

    run = single_stream(
        scripted(interrupted()), ONE, limits=Limits(min_queries=100), warmup=NO_WARMUP, clock=clock
    )
    assert not run.complete
    assert run.latency_ns.tolist() == [5 * MS] * 3


def test_ctrl_c_while_warming_up_leaves_nothing_to_report(clock: Any, scripted: Any) -> None:
    def interrupted() -> Iterator[int]:
        yield from ()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        single_stream(scripted(interrupted()), ONE, limits=Limits(min_queries=1), clock=clock)


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


def test_progress_counts_all_queries_and_shows_them_rarely(clock: Any, scripted: Any) -> None:
    progress = CountingProgress(clock.now)
    sut = scripted(itertools.repeat(10 * MS))
    single_stream(sut, ONE, limits=Limits(min_queries=200), warmup=NO_WARMUP, clock=clock, progress=progress)
    assert progress.total == sum(steps for _, steps in progress.ticks) == 200
    assert len(progress.ticks) == 8  # 2 s, every 260 ms, and the rest


def test_progress_never_delays_a_planned_start(clock: Any, scripted: Any) -> None:
    progress = CountingProgress(clock.now)
    sut = scripted(itertools.repeat(5 * MS))
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


def test_the_harness_costs_at_most_5_us_a_query() -> None:
    """Whatever else runs can only add to it: the best of ten runs is what it costs."""
    runs = (
        single_stream(NullSut(), ONE, limits=Limits(min_queries=5_000), warmup=NO_WARMUP) for _ in range(10)
    )
    assert min(1e6 / run.fps for run in runs) <= 5.0


def test_nothing_to_measure_with() -> None:
    with pytest.raises(DatasetError, match="no sample"):
        SampleLibrary([])
    with pytest.raises(UsageError, match="at least 1 query"):
        Limits(min_queries=0)
