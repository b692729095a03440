"""When queries are issued, and the raw times that come of it.

A `Run` keeps every query's times; what they mean (percentiles, verdicts) is worked out afterwards.
"""

from __future__ import annotations

import gc
import time
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from edgead.benchmarks.sut import SampleLibrary, SystemUnderTest
from edgead.errors import UsageError
from edgead.progress import Progress, Silent

Sample = TypeVar("Sample")

_TICK_NS = 250_000_000  # progress is shown between queries, off the clock, this often at most
_TICK_SLACK_NS = 20_000_000  # and only if this long remains until the next planned start
_SPIN_NS = 150_000  # the kernel's wake-up error; the rest of a wait is spun


class Clock(Protocol):
    """A monotonic clock that can be waited on."""

    def now(self) -> int:
        """Nanoseconds since some fixed moment."""

    def sleep_until(self, moment_ns: int) -> None:
        """Return at `moment_ns`, or at once if that has passed."""


class SystemClock:
    """The machine's own: `time.perf_counter_ns`."""

    now = staticmethod(time.perf_counter_ns)

    def sleep_until(self, moment_ns: int) -> None:
        """Sleep, then spin over the last microseconds."""
        while (left := moment_ns - time.perf_counter_ns()) > 0:
            if left > _SPIN_NS:
                time.sleep((left - _SPIN_NS) / 1e9)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """When a run ends: both minima are met, or either maximum is hit.

    Attributes:
        min_queries: queries wanted.
        min_duration_ns: time wanted.
        max_queries: 0 = no limit.
        max_duration_ns: 0 = no limit. A query that runs then is waited for.
    """

    min_queries: int = 1
    min_duration_ns: int = 0
    max_queries: int = 0
    max_duration_ns: int = 0

    def __post_init__(self) -> None:
        if self.min_queries < 1:
            raise UsageError(f"a run needs at least 1 query, not {self.min_queries}")

    def reached(self, queries: int, elapsed_ns: int) -> bool:
        """Whether the run is over after `queries` in `elapsed_ns`."""
        if queries >= self.min_queries and elapsed_ns >= self.min_duration_ns:
            return True
        return 0 < self.max_queries <= queries or 0 < self.max_duration_ns <= elapsed_ns


WARMUP = Limits(min_queries=10, min_duration_ns=500_000_000, max_duration_ns=30_000_000_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """The raw times of one run.

    Attributes:
        scenario: single-stream or paced.
        rate: planned starts per second, None where a query starts when the one before is done.
        stages: names of the stage columns.
        times: (n, 3 + len(stages)) int64 ns: planned start, actual start, done, then what each stage took.
        warmup_queries: queries issued before, not among `times`.
        complete: False when the run was interrupted.
    """

    scenario: str
    rate: float | None
    stages: tuple[str, ...]
    times: npt.NDArray[np.int64]
    warmup_queries: int
    complete: bool

    def __len__(self) -> int:
        return len(self.times)

    @property
    def latency_ns(self) -> npt.NDArray[np.int64]:
        """Planned start → done: a stall counts for every query that it delays."""
        return self.times[:, 2] - self.times[:, 0]

    @property
    def service_ns(self) -> npt.NDArray[np.int64]:
        """Actual start → done."""
        return self.times[:, 2] - self.times[:, 1]

    @property
    def fps(self) -> float:
        """Queries per second from the first planned start to the last answer; 0 for an empty run."""
        return len(self) / (int(self.times[-1, 2] - self.times[0, 0]) / 1e9) if len(self) else 0.0


def single_stream(
    sut: SystemUnderTest[Sample],
    library: SampleLibrary[Sample],
    *,
    limits: Limits,
    warmup: Limits = WARMUP,
    clock: Clock | None = None,
    progress: Progress | None = None,
) -> Run:
    """Issue the next query when the one before is done.

    Args:
        sut: what is measured.
        library: issued in rotation.
        limits: when to end.
        warmup: when to end the untimed queries before.
        clock: None = `SystemClock`.
        progress: shown between queries; None = nowhere.
    """
    return _run("single-stream", None, sut, library, limits, warmup, clock, progress)


def paced(
    sut: SystemUnderTest[Sample],
    library: SampleLibrary[Sample],
    *,
    fps: float,
    limits: Limits,
    warmup: Limits = WARMUP,
    clock: Clock | None = None,
    progress: Progress | None = None,
) -> Run:
    """Issue queries as a camera would, `fps` of them per second, whether or not the one before is done.

    A late query keeps its planned start, from which its latency counts; one query is answered at a time, and
    none is dropped. The other arguments are those of `single_stream`.
    """
    return _run("paced", fps, sut, library, limits, warmup, clock, progress)


def _run(
    scenario: str,
    rate: float | None,
    sut: SystemUnderTest[Sample],
    library: SampleLibrary[Sample],
    limits: Limits,
    warmup: Limits,
    clock: Clock | None,
    progress: Progress | None,
) -> Run:
    clock = clock or SystemClock()
    width = 3 + len(sut.stages)
    warm, times = array("q"), array("q")
    complete = True
    with _no_garbage_collection():
        _issue(warm, sut, library, warmup, None, clock, lambda steps: None)
        with (progress or Silent()).task(f"{sut.name}, {scenario}", limits.min_queries) as task:
            try:
                _issue(times, sut, library, limits, rate, clock, task.advance)
            except KeyboardInterrupt:
                complete = False
    whole = len(times) - len(times) % width
    return Run(
        scenario=scenario,
        rate=rate,
        stages=sut.stages,
        times=np.array(times[:whole], dtype=np.int64).reshape(-1, width),
        warmup_queries=len(warm) // width,
        complete=complete,
    )


def _issue(
    times: array[int],
    sut: SystemUnderTest[Sample],
    library: SampleLibrary[Sample],
    limits: Limits,
    rate: float | None,
    clock: Clock,
    advance: Callable[[int], None],
) -> None:
    now, issue, size = clock.now, sut.issue, len(library)
    begin = ticked = now()
    queries = shown = 0
    period_ns = 1e9 / rate if rate else 0.0
    done = begin
    while not limits.reached(queries, done - begin):
        sample = library[queries % size]
        if rate is None:
            planned = started = now()
        else:
            planned = begin + round(queries * period_ns)
            clock.sleep_until(planned)
            started = now()
        stages = issue(sample)
        done = now()
        times.extend((planned, started, done, *stages))
        queries += 1
        if done - ticked > _TICK_NS and (rate is None or begin + queries * period_ns - done > _TICK_SLACK_NS):
            advance(queries - shown)
            ticked, shown = done, queries
    advance(queries - shown)


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
