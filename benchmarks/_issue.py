"""The loops that issue queries, which every scenario shares: all the code that runs between two queries."""

from __future__ import annotations

import gc
from array import array
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from edgead.benchmarks.clock import Clock
from edgead.benchmarks.run import Limits
from edgead.benchmarks.sut import SampleLibrary, SystemUnderTest
from edgead.benchmarks.warmup import Warmup
from edgead.progress import Task

Sample = TypeVar("Sample")
Row = tuple[int, ...]  # planned, started, done, then the stages
Take = Callable[[Row], None]
Drop = Callable[[int], None]
Stop = Callable[[npt.NDArray[np.int64]], bool]

QUEUE = 100
FIRST_LOOK = 1_000
_TICK_NS = 250_000_000  # progress is shown between queries, off the clock, this often at most
_TICK_SLACK_NS = 20_000_000  # and only if this long remains until the next planned start
_LOOK_SLACK_NS = 2_000_000


class Between(Protocol):
    """What is done between two queries, off the clock."""

    def __call__(self, queries: int, now_ns: int, slack_ns: int) -> bool:
        """After `queries`, with so long until the next planned start; True = stop here."""


class Pulse:
    """Shows progress, and asks at 1,000, 2,000, 4,000 … queries whether the run may stop.

    Args:
        task: where progress is shown.
        now_ns: the time at the start.
        enough: whether the queries so far are enough.
    """

    def __init__(self, task: Task, now_ns: int, enough: Callable[[], bool] = lambda: False) -> None:
        self._task, self._enough = task, enough
        self._shown, self._ticked = 0, now_ns
        self._look = FIRST_LOOK

    def __call__(self, queries: int, now_ns: int, slack_ns: int) -> bool:
        """See `Between`."""
        if now_ns - self._ticked > _TICK_NS and slack_ns > _TICK_SLACK_NS:
            self._task.advance(queries - self._shown)
            self._shown, self._ticked = queries, now_ns
        if queries < self._look or slack_ns < _LOOK_SLACK_NS:
            return False
        self._look *= 2
        return self._enough()

    def end(self, queries: int) -> None:
        """Show what was not shown yet."""
        self._task.advance(queries - self._shown)


def rows_of(values: array[int], width: int) -> npt.NDArray[np.int64]:
    """A copy as (n, width); a row that an interruption cut short is left out."""
    whole = len(values) - len(values) % width
    return np.array(values[:whole], dtype=np.int64).reshape(-1, width)


def warm_up(
    sut: SystemUnderTest[Sample], library: SampleLibrary[Sample], warmup: Warmup, clock: Clock
) -> tuple[int, bool]:
    """Issue untimed queries; how many, and whether they had settled."""
    now, size = clock.now, len(library)
    service: list[int] = []
    begin = now()
    settled: bool | None = None
    while settled is None:
        started = now()
        sut.issue(library[len(service) % size])
        done = now()
        service.append(done - started)
        settled = warmup.over(service, done - begin)
    return len(service), settled


def back_to_back(
    take: Take,
    sut: SystemUnderTest[Sample],
    library: SampleLibrary[Sample],
    limits: Limits,
    clock: Clock,
    between: Between,
    first: int = 0,
) -> None:
    """Issue the next query when the one before is done."""
    now, issue, size = clock.now, sut.issue, len(library)
    begin = done = now()
    queries = 0
    while not limits.reached(queries, done - begin):
        sample = library[(first + queries) % size]
        started = now()
        stages = issue(sample)
        done = now()
        take((started, started, done, *stages))
        queries += 1
        if between(queries, done, _TICK_NS):
            return


def as_planned(
    take: Take,
    drop: Drop,
    sut: SystemUnderTest[Sample],
    library: SampleLibrary[Sample],
    starts: Iterator[int],
    limits: Limits,
    queue: int,
    clock: Clock,
    between: Between,
    begin: int | None = None,
) -> None:
    """Issue queries at planned starts, whether or not the one before is done.

    What arrives meanwhile waits, at most `queue` of them; a further one is dropped, as by a camera without a
    free buffer. A query that waited keeps its planned start. Limits count what arrives.

    Args:
        take: gets a row per query.
        drop: gets the planned start of what is dropped.
        sut: answers them one at a time.
        library: issued in rotation, dropped ones included.
        starts: planned starts in ns from `begin`.
        limits: when no more arrives; what waits then is answered, unless the longest time is over.
        queue: how many may wait.
        clock: what to wait by.
        between: called after every query.
        begin: when the plan begins; None = now.
    """
    now, issue, size = clock.now, sut.issue, len(library)
    begin = now() if begin is None else begin
    waiting: deque[tuple[int, int]] = deque()
    arrived = queries = 0
    coming = begin + next(starts)
    done = begin
    while not limits.overtime(done - begin):
        over = limits.reached(arrived, coming - begin)
        while not over and coming <= done:
            if len(waiting) < queue:
                waiting.append((coming, arrived))
            else:
                drop(coming)
            arrived += 1
            coming = begin + next(starts)
            over = limits.reached(arrived, coming - begin)
        if waiting:
            planned, index = waiting.popleft()
        elif over:
            break
        else:
            planned, index = coming, arrived
            arrived += 1
            coming = begin + next(starts)
            clock.sleep_until(planned)
        sample = library[index % size]
        started = now()
        stages = issue(sample)
        done = now()
        take((planned, started, done, *stages))
        queries += 1
        if between(queries, done, coming - done):
            break


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """The collector would stop a query at a time that says nothing about the system under test."""
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
