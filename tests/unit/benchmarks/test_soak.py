from __future__ import annotations

import itertools
import json
import tracemalloc
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest

from edgead.benchmarks.environment import record
from edgead.benchmarks.report import BenchReport, summarise
from edgead.benchmarks.run import Limits
from edgead.benchmarks.scenarios import paced, single_stream
from edgead.benchmarks.soak import Soak, rss_bytes, soak
from edgead.benchmarks.sut import SampleLibrary
from edgead.benchmarks.targets import Targets, judge
from edgead.benchmarks.warmup import Warmup

MS = 1_000_000
HOUR = 3_600 * 1_000 * MS
ONE = SampleLibrary(["only"])
NO_WARMUP = Warmup(max_queries=1)


def run(clock: Any, scripted: Any, durations: Any, queries: int, **options: Any) -> Soak:
    return soak(
        scripted(itertools.chain([0], durations)),
        ONE,
        limits=Limits(min_queries=queries),
        warmup=NO_WARMUP,
        clock=clock,
        **{"window_ns": 1_000 * MS, "window_queries": 100, **options},
    )


def report_of(found: Soak, targets: Targets) -> BenchReport:
    facts: dict[str, Any] = {"target": "a:fp32", "runtime": "python", "threads": 0, "images": 1}
    return summarise(found, targets, record(), skipped={}, **facts)


def test_windows_say_what_happened_in_them(clock: Any, scripted: Any) -> None:
    # 10 ms a query: a window has 100 of them. One of the second window takes 200 ms.
    durations = [10 * MS] * 150 + [200 * MS] + [10 * MS] * 149
    found = run(clock, scripted, durations, 300, rss=lambda: 5_000)
    assert len(found) == 300
    first, second, *_ = found.windows
    assert (first.queries, first.begin_ns, first.end_ns) == (100, 0, 1_000 * MS)
    assert (first.p50_ms, first.p99_ms, first.max_ms, first.fps, first.rss_bytes) == (10, 10, 10, 100, 5_000)
    assert second.max_ms == 200
    assert second.begin_ns == first.end_ns
    assert sum(window.queries for window in found.windows) == 300


def test_it_gives_the_same_figures_and_verdicts_as_a_run(clock: Any, scripted: Any) -> None:
    random = np.random.default_rng(6)
    durations = (8 * MS * random.lognormal(0, 0.4, 3_000)).astype(int).tolist()
    limits_ns = [9 * MS, 20 * MS, 40 * MS]
    soaked = run(clock, scripted, durations, 3_000, fps=100, limits_ns=limits_ns)
    options: dict[str, Any] = {"limits": Limits(min_queries=3_000), "warmup": NO_WARMUP, "clock": clock}
    plain = paced(scripted([0, *durations]), ONE, fps=100, **options)
    assert len(soaked) == len(plain)
    assert soaked.dropped == plain.dropped
    assert [soaked.over(limit) for limit in limits_ns] == [plain.over(limit) for limit in limits_ns]
    assert soaked.slowest_ns == plain.slowest_ns
    assert soaked.throughput() == pytest.approx(plain.throughput())
    proven = plain.proven(0.99)
    assert proven is not None
    assert soaked.proven(0.99) == pytest.approx(proven, rel=1e-3)
    targets = Targets(fps=100, p99_ns=20 * MS, p999_ns=40 * MS, deadline_ns=9 * MS)
    assert [(j.target, j.verdict) for j in judge(soaked, targets)] == [
        (j.target, j.verdict) for j in judge(plain, targets)
    ]
    assert report_of(soaked, targets).latency_ms == report_of(plain, targets).latency_ms  # type: ignore[arg-type]


def test_without_a_rate_it_goes_one_after_the_other(clock: Any, scripted: Any) -> None:
    durations = [5 * MS, 7 * MS] * 200
    found = run(clock, scripted, durations, 400)
    plain = single_stream(
        scripted([0, *durations]), ONE, limits=Limits(min_queries=400), warmup=NO_WARMUP, clock=clock
    )
    assert found.rate is None
    assert found.fps == pytest.approx(plain.fps)
    assert found.histograms()[0].at_ranks([1, 400]) == plain.histograms()[0].at_ranks([1, 400])


def test_a_leak_is_found_and_measured(clock: Any, scripted: Any) -> None:
    random = np.random.default_rng(4)

    def leaking() -> int:  # 100 MB, and 36 MB per hour = 10 kB per second on top, with noise of a page or so
        return int(100e6 + 10_000 * clock.time / 1e9 + random.normal(0, 4_096))

    found = run(clock, scripted, itertools.repeat(10 * MS), 200_000, rss=leaking, window_ns=10_000 * MS)
    trends = found.trends()
    assert trends["rss_rises"] is True
    assert trends["rss_slope_mb_per_hour"] == pytest.approx(36, rel=0.02)
    report = report_of(found, Targets())
    assert any("memory grows by 36 MB per hour" in warning for warning in report.warnings)


def test_memory_that_settles_is_no_leak(clock: Any, scripted: Any) -> None:
    begin = clock.time

    def settling() -> int:  # an allocator's pool fills up in the first quarter
        return int(100e6 + 50e6 * min(1.0, (clock.time - begin) / (500 * 1_000 * MS)))

    found = run(clock, scripted, itertools.repeat(10 * MS), 200_000, rss=settling, window_ns=10_000 * MS)
    assert found.trends()["rss_rises"] is False


def test_a_p99_that_creeps_up_is_found_though_the_median_stays(clock: Any, scripted: Any) -> None:
    def creeping() -> Iterator[int]:  # every fiftieth takes 20 ms at first, 30 ms in the end
        for i in range(100_000):
            yield round(20 * MS + 10 * MS * i / 100_000) if i % 50 == 0 else 10 * MS

    found = run(clock, scripted, creeping(), 100_000, window_ns=10_000 * MS, window_queries=500)
    trends = found.trends()
    assert trends["p99_rises"] is True
    # 10 ms in the 1,030 s that 98,000 queries of 10 ms and 2,000 of 25 ms on average take.
    assert trends["p99_slope_ms_per_hour"] == pytest.approx(10 / (1_030 / 3_600), rel=0.05)
    assert trends["rss_rises"] is False


def test_the_harness_itself_does_not_grow(clock: Any, scripted: Any) -> None:
    sizes = []

    def watching() -> int:
        sizes.append(tracemalloc.get_traced_memory()[0])
        return 0

    sut = scripted(itertools.repeat(10 * MS))
    sut.samples = deque(maxlen=1)  # the fake's own notes grow
    tracemalloc.start()
    try:
        limits, windows = Limits(min_queries=40_000), {"window_ns": 1_000 * MS, "window_queries": 100}
        soak(sut, ONE, limits=limits, warmup=NO_WARMUP, clock=clock, rss=watching, **windows)
    finally:
        tracemalloc.stop()
    assert len(sizes) == 400
    assert sizes[-1] - sizes[100] < 300 * 1_000  # a window of some hundred bytes, none of its 100 queries


def test_ctrl_c_keeps_what_was_measured(clock: Any, scripted: Any) -> None:
    def interrupted() -> Iterator[int]:
        yield from [10 * MS] * 150
        raise KeyboardInterrupt

    found = run(clock, scripted, interrupted(), 10**9)
    assert not found.complete
    assert len(found) == 150
    assert sum(window.queries for window in found.windows) == 150


def test_a_soak_that_has_only_begun(clock: Any, scripted: Any) -> None:
    def interrupted() -> Iterator[int]:
        yield from ()
        raise KeyboardInterrupt

    found = run(clock, scripted, interrupted(), 5, limits_ns=[MS])
    report = report_of(found, Targets(fps=1, p99_ns=MS))
    assert report.verdict == "inconclusive"
    json.dumps(asdict(report), allow_nan=False)


def test_the_memory_of_this_process_is_read(tmp_path: Any) -> None:
    assert rss_bytes() > 10**6
    assert rss_bytes(tmp_path / "nothing") == 0
