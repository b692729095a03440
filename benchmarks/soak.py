"""Minutes to days: the harness's own memory does not grow, so that growth is the system's."""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from edgead.benchmarks._issue import QUEUE, Pulse, Row, as_planned, back_to_back, warm_up
from edgead.benchmarks.clock import Clock, SystemClock
from edgead.benchmarks.histogram import Histogram
from edgead.benchmarks.order_statistics import allowed_exceedances, rank
from edgead.benchmarks.run import DONE, PLANNED, STAGES, STARTED, Limits
from edgead.benchmarks.schedule import check_rate, periodic
from edgead.benchmarks.stability import trend
from edgead.benchmarks.sut import SampleLibrary, SystemUnderTest
from edgead.benchmarks.warmup import WARMUP, Warmup
from edgead.progress import Progress, Silent

Sample = TypeVar("Sample")

WINDOW_NS = 10_000_000_000
WINDOW_QUERIES = 500  # and as many queries: below 459, a p99 says nothing
_LEAK_SHARE = 0.02  # of the memory, over the run
_DRIFT_SHARE = 0.1  # of the p99, over the run
_NS_PER_HOUR = 3.6e12


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A stretch of a soak.

    Attributes:
        begin_ns: since the start.
        end_ns: since the start.
        queries: answered in it.
        p50_ms: of the latency.
        p99_ms: of the latency, sample quantile.
        max_ms: of the latency.
        fps: queries per second that the system could have taken.
        rss_bytes: memory of the process at its end; 0 where it cannot be read.
    """

    begin_ns: int
    end_ns: int
    queries: int
    p50_ms: float
    p99_ms: float
    max_ms: float
    fps: float
    rss_bytes: int


class Soak:
    """The counts of a soak: an `Evidence` that grows with its length by a `Window` now and then, no more.

    Args:
        stages: names of the stages.
        limits_ns: latencies whose exceedances are counted exactly.
        rate: planned arrivals per second, None = one after the other.
        rss: reads the memory of the process in bytes.
    """

    scenario = "soak"

    def __init__(
        self,
        stages: tuple[str, ...],
        limits_ns: Sequence[int],
        rate: float | None,
        rss: Callable[[], int],
        window_ns: int = WINDOW_NS,
        window_queries: int = WINDOW_QUERIES,
    ) -> None:
        self.stages, self.rate = stages, rate
        self.latency, self.service = Histogram(), Histogram()
        self.stage_times = {name: Histogram() for name in stages}
        self.windows: list[Window] = []
        self.complete, self.settled, self.dropped, self.warmup_queries, self.queue = True, True, 0, 0, 0
        self._over = dict.fromkeys(limits_ns, 0)
        self._rss, self._window_ns, self._window_queries = rss, window_ns, window_queries
        self._begin = self._opened = self._last = 0
        self._served = 0
        self._current = array("q")
        self._started = False

    def take(self, row: Row) -> None:
        """Count one query."""
        planned, started, done = row[PLANNED], row[STARTED], row[DONE]
        if not self._started:
            self._begin = self._opened = planned
            self._started = True
        latency = done - planned
        self.latency.record(latency)
        self.service.record(done - started)
        for histogram, duration in zip(self.stage_times.values(), row[STAGES:], strict=True):
            histogram.record(duration)
        for limit in self._over:
            self._over[limit] += latency > limit
        self._current.append(latency)
        self._served += done - started
        self._last = done
        if done - self._opened >= self._window_ns and len(self._current) >= self._window_queries:
            self.close_window()

    def close_window(self) -> None:
        """End the stretch that runs now, if anything is in it."""
        if not self._current:
            return
        latency = np.sort(np.array(self._current, np.int64))
        n = len(latency)
        self.windows.append(
            Window(
                begin_ns=self._opened - self._begin,
                end_ns=self._last - self._begin,
                queries=n,
                p50_ms=latency[rank(0.5, n) - 1] / 1e6,
                p99_ms=latency[rank(0.99, n) - 1] / 1e6,
                max_ms=latency[-1] / 1e6,
                fps=n / (max(self._served, 1) / 1e9),
                rss_bytes=self._rss(),
            )
        )
        self._opened, self._served = self._last, 0
        del self._current[:]

    def __len__(self) -> int:
        return len(self.latency)

    @property
    def fps(self) -> float:
        """Queries per second from the first planned start to the last answer; 0 for an empty run."""
        return len(self) / (max(self._last - self._begin, 1) / 1e9) if len(self) else 0.0

    @property
    def slowest_ns(self) -> int:
        """The longest latency."""
        return self.latency.max_ns

    def over(self, limit_ns: int) -> int:
        """How many latencies are over one of the limits that were named at the start."""
        return self._over[limit_ns]

    def proven(self, percentile: float) -> int | None:
        """The smallest limit in ns that this percentile is proven to meet, to a thousandth."""
        allowed = allowed_exceedances(percentile, len(self) + self.dropped)
        if allowed is None or allowed < self.dropped:
            return None
        return self.latency.at_ranks([len(self) - (allowed - self.dropped)])[0]

    def throughput(self) -> float:
        """Queries per second that the system can take."""
        total = sum(window.queries / window.fps for window in self.windows)
        return sum(window.queries for window in self.windows) / total if total else 0.0

    def throughputs(self, stretches: int) -> list[float]:
        """The same for stretches of whole windows."""
        parts = np.array_split(np.arange(len(self.windows)), min(len(self.windows), stretches) or 1)
        found = []
        for part in parts:
            chosen = [self.windows[index] for index in part]
            if chosen:
                busy = sum(window.queries / window.fps for window in chosen)
                found.append(sum(window.queries for window in chosen) / busy)
        return found

    def histograms(self) -> tuple[Histogram, Histogram, dict[str, Histogram]]:
        """Of the latency, the service time, and each stage."""
        return self.latency, self.service, self.stage_times

    def trends(self) -> dict[str, float | bool]:
        """How memory and p99 move per hour, and whether that is beyond doubt.

        From the second third on: caches, pools and the processor's temperature settle in the first. Beyond
        doubt means Mann-Kendall at 99 %, and more than 2 % of the memory, 10 % of the p99 over that time.
        """
        late = self.windows[len(self.windows) // 3 :]
        hours = np.array([window.end_ns / _NS_PER_HOUR for window in late])
        span = float(np.ptp(hours)) if len(hours) else 0.0
        found: dict[str, float | bool] = {}
        for name, unit, values, share in (
            ("rss", "mb_per_hour", [window.rss_bytes / 1e6 for window in late], _LEAK_SHARE),
            ("p99", "ms_per_hour", [window.p99_ms for window in late], _DRIFT_SHARE),
        ):
            slope, sure = trend(hours, np.array(values))
            found[f"{name}_slope_{unit}"] = slope
            level = float(np.median(values)) if values else 0.0
            found[f"{name}_rises"] = sure and slope * span > share * level
        return found


def rss_bytes(statm: Path = Path("/proc/self/statm")) -> int:
    """Resident memory of this process; 0 where the system does not tell."""
    try:
        return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


def soak(
    sut: SystemUnderTest[Sample],
    library: SampleLibrary[Sample],
    *,
    limits: Limits,
    limits_ns: Sequence[int] = (),
    fps: float | None = None,
    jitter_ns: int = 0,
    seed: int = 0,
    queue: int = QUEUE,
    window_ns: int = WINDOW_NS,
    window_queries: int = WINDOW_QUERIES,
    warmup: Warmup = WARMUP,
    clock: Clock | None = None,
    rss: Callable[[], int] = rss_bytes,
    progress: Progress | None = None,
) -> Soak:
    """Issue queries for a long time, and watch memory and p99.

    Args:
        sut: what is measured.
        library: issued in rotation.
        limits: when to end.
        limits_ns: latencies whose exceedances are to be counted: the targets.
        fps: arrivals per second; None = one after the other.
        jitter_ns: as for `paced`.
        seed: of the jitter.
        queue: arrivals that may wait.
        window_ns: a window lasts at least this long,
        window_queries: and has at least so many queries.
        warmup: when to end the untimed queries before.
        clock: None = `SystemClock`.
        rss: reads the memory.
        progress: None = nowhere.

    Raises:
        UsageError: the jitter is more than half of the period.
        RuntimeMissingError: hdrhistogram is not installed.
    """
    if fps is not None:
        check_rate(fps, jitter_ns)
    clock = clock or SystemClock()
    found = Soak(sut.stages, limits_ns, fps, rss, window_ns, window_queries)

    def drop(planned: int) -> None:
        found.dropped += 1

    # The garbage collector stays on, as on the line: what it would have freed must not look like a leak.
    found.warmup_queries, found.settled = warm_up(sut, library, warmup, clock)
    with (progress or Silent()).task(f"{sut.name}, soak", limits.total) as task:
        pulse = Pulse(task, clock.now())
        try:
            if fps is None:
                back_to_back(found.take, sut, library, limits, clock, pulse)
            else:
                found.queue = queue
                starts = periodic(fps, jitter_ns, seed)
                as_planned(found.take, drop, sut, library, starts, limits, queue, clock, pulse)
        except KeyboardInterrupt:
            found.complete = False
        found.close_window()
        pulse.end(len(found))
    return found
