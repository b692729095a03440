"""Several streams on one device: cameras triggered together, or workers that share a pile of images."""

from __future__ import annotations

import sys
import threading
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import numpy as np

from edgead.benchmarks._issue import (
    QUEUE,
    as_planned,
    back_to_back,
    no_garbage_collection,
    rows_of,
    warm_up,
)
from edgead.benchmarks.clock import Clock, SystemClock, yielding
from edgead.benchmarks.run import DONE, OPEN_END, STAGES, Limits, Run
from edgead.benchmarks.schedule import check_rate, periodic
from edgead.benchmarks.sut import SampleLibrary, SystemUnderTest
from edgead.benchmarks.warmup import WARMUP, Warmup
from edgead.errors import UsageError
from edgead.progress import Progress, Silent

Sample = TypeVar("Sample")

_TICK_S = 0.25
_START_NS = (
    50_000_000  # from the planning of the first trigger to the trigger: every thread waits for it then
)
# What one thread may hold Python's lock for while another one's engine has finished. The default is 5 ms.
_SWITCH_S = 1e-4
_SPIN_NS = 300_000  # several threads that spin for long would take the cores of the engines


class _Stream:
    """One thread's times."""

    def __init__(self, stages: int) -> None:
        self.width = STAGES + stages
        self.rows, self.dropped = array("q"), array("q")
        self.failure: BaseException | None = None

    @property
    def queries(self) -> int:
        return len(self.rows) // self.width


Body = Callable[[int, _Stream, Callable[[], bool]], None]


def multi_camera(
    suts: Sequence[SystemUnderTest[Sample]],
    library: SampleLibrary[Sample],
    *,
    fps: float,
    jitter_ns: int = 0,
    seed: int = 0,
    queue: int = QUEUE,
    limits: Limits,
    warmup: Warmup = WARMUP,
    clock: Clock | None = None,
    progress: Progress | None = None,
) -> Run:
    """Let each of several cameras deliver `fps` images per second, to a system of its own.

    All are triggered at the same moments, which is the worst case; jitter draws them apart.

    Args:
        suts: one per camera; each is used by one thread only.
        library: issued in rotation; each camera begins elsewhere.
        fps: of each camera.
        jitter_ns: each arrival is moved by a uniform draw from [−jitter, +jitter].
        seed: of those draws, another one for each camera.
        queue: arrivals per camera that may wait; what comes then is dropped.
        limits: for each camera.
        warmup: when to end the untimed queries before, of each in turn.
        clock: None = one that lets the other threads run while it waits.
        progress: None = nowhere.

    Returns:
        A group per camera.

    Raises:
        UsageError: no camera, or the jitter is more than half of the period.
    """
    check_rate(fps, jitter_ns)
    clock = clock or SystemClock(_SPIN_NS, spin=yielding)
    begin: list[int] = []

    def body(number: int, stream: _Stream, stopping: Callable[[], bool]) -> None:
        as_planned(
            stream.rows.extend,
            stream.dropped.append,
            suts[number],
            _turned(library, number, len(suts)),
            periodic(fps, jitter_ns, seed + number),
            limits,
            queue,
            clock,
            lambda queries, now_ns, slack_ns: stopping(),
            begin[0],
        )

    names = tuple(f"camera {number + 1}" for number in range(len(suts)))
    total = limits.total * len(suts)
    return _run("multi-camera", fps, suts, library, total, warmup, clock, progress, body, begin, queue, names)


def offline(
    suts: Sequence[SystemUnderTest[Sample]],
    library: SampleLibrary[Sample],
    *,
    limits: Limits,
    warmup: Warmup = WARMUP,
    clock: Clock | None = None,
    progress: Progress | None = None,
) -> Run:
    """Answer a pile of images as fast as possible: each system takes the next one when it is free.

    Args:
        suts: the workers; each is used by one thread only.
        library: issued in rotation; each worker begins elsewhere.
        limits: for all of them together.
        warmup: when to end the untimed queries before, of each in turn.
        clock: None = `SystemClock`.
        progress: None = nowhere.

    Raises:
        UsageError: no worker.
    """
    clock = clock or SystemClock(_SPIN_NS, spin=yielding)
    streams_of: list[_Stream] = []

    def body(number: int, stream: _Stream, stopping: Callable[[], bool]) -> None:
        streams_of.append(stream)
        started = clock.now()

        def between(queries: int, now_ns: int, slack_ns: int) -> bool:
            return stopping() or limits.reached(sum(one.queries for one in streams_of), now_ns - started)

        endless = Limits(min_queries=OPEN_END)
        back_to_back(
            stream.rows.extend,
            suts[number],
            _turned(library, number, len(suts)),
            endless,
            clock,
            between,
        )

    return _run("offline", None, suts, library, limits.total, warmup, clock, progress, body, [], 0, ())


def _turned(library: SampleLibrary[Sample], number: int, of: int) -> SampleLibrary[Sample]:
    """The library from another beginning, so that no two streams look at the same image at once."""
    first = number * len(library) // of
    return SampleLibrary([library[(first + index) % len(library)] for index in range(len(library))])


def _run(
    scenario: str,
    rate: float | None,
    suts: Sequence[SystemUnderTest[Sample]],
    library: SampleLibrary[Sample],
    total: int,
    warmup: Warmup,
    clock: Clock,
    progress: Progress | None,
    body: Body,
    begin: list[int],
    queue: int,
    groups: tuple[str, ...],
) -> Run:
    """Warm up each, run `body` in a thread each, and put their times together in the order of the answers."""
    if not suts:
        raise UsageError(f"{scenario} needs at least one stream")
    streams = [_Stream(len(sut.stages)) for sut in suts]
    with no_garbage_collection(), _quick_switches():
        warm = [warm_up(sut, library, warmup, clock) for sut in suts]
        begin.append(clock.now() + _START_NS)
        with (progress or Silent()).task(f"{len(suts)} × {suts[0].name}, {scenario}", total) as task:
            complete = _join(streams, body, task.advance)
    for stream in streams:
        if stream.failure is not None:
            raise stream.failure
    parts = [rows_of(stream.rows, stream.width) for stream in streams]
    times = np.concatenate(parts)
    group = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    order = np.argsort(times[:, DONE], kind="stable")
    return Run(
        scenario=scenario,
        rate=rate,
        stages=suts[0].stages,
        times=times[order],
        warmup_queries=sum(queries for queries, _ in warm),
        complete=complete,
        settled=all(settled for _, settled in warm),
        dropped=sum(len(stream.dropped) for stream in streams),
        queue=queue,
        group=group[order] if groups else None,
        groups=groups,
    )


def _join(streams: Sequence[_Stream], body: Body, advance: Callable[[int], None]) -> bool:
    """Run to the end, or to Ctrl-C or the first failure; whether it was the end."""
    stop = threading.Event()

    def work(number: int) -> None:
        try:
            body(number, streams[number], stop.is_set)
        except BaseException as error:  # raised again by the caller, in its own thread
            streams[number].failure = error
            stop.set()

    threads = [threading.Thread(target=work, args=(n,), daemon=True) for n in range(len(streams))]
    shown, complete = 0, True
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        try:
            for thread in threads:
                thread.join(_TICK_S / len(threads))
            done = sum(stream.queries for stream in streams)
            advance(done - shown)
            shown = done
        except KeyboardInterrupt:
            complete = False
            stop.set()
    return complete


@contextmanager
def _quick_switches() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH_S)
    try:
        yield
    finally:
        sys.setswitchinterval(before)
