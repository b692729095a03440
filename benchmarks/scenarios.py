"""What a line does to one stream: one after the other, at a camera's rate, after pauses.

Several streams are in `parallel`, days in `soak`.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np

from edgead.benchmarks._issue import (
    QUEUE,
    Pulse,
    Stop,
    as_planned,
    back_to_back,
    no_garbage_collection,
    rows_of,
    warm_up,
)
from edgead.benchmarks.clock import Clock, SystemClock
from edgead.benchmarks.run import STAGES, Limits, Run
from edgead.benchmarks.schedule import check_rate, pauses, periodic
from edgead.benchmarks.sut import SampleLibrary, SystemUnderTest
from edgead.benchmarks.warmup import WARMUP, Warmup
from edgead.errors import UsageError
from edgead.progress import Progress, Silent

Sample = TypeVar("Sample")

PAUSES_NS = tuple(round(seconds * 1e9) for seconds in (0, 0.03, 0.1, 0.3, 1, 3, 10))
KEEP_WARM_NS = 50_000_000


def single_stream(
    sut: SystemUnderTest[Sample],
    library: SampleLibrary[Sample],
    *,
    limits: Limits,
    warmup: Warmup = WARMUP,
    clock: Clock | None = None,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> Run:
    """Issue the next query when the one before is done.

    Args:
        sut: what is measured.
        library: issued in rotation.
        limits: when to end.
        warmup: when to end the untimed queries before.
        clock: None = `SystemClock`.
        progress: shown between queries; None = nowhere.
        stop: asked at 1,000, 2,000, 4,000 … queries whether they are enough.
    """
    clock = clock or SystemClock()

    def body(rows: array[int], dropped: array[int], pulse: Pulse) -> None:
        back_to_back(rows.extend, sut, library, limits, clock, pulse)

    return _run("single-stream", None, sut, library, limits, warmup, clock, progress, stop, body)


def paced(
    sut: SystemUnderTest[Sample],
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
    stop: Stop | None = None,
) -> Run:
    """Issue queries as a camera would, `fps` of them per second, whether or not the one before is done.

    A late query keeps its planned start, from which its latency counts; one query is answered at a time.

    Args:
        sut: what is measured.
        library: issued in rotation.
        fps: arrivals per second.
        jitter_ns: each is moved by a uniform draw from [−jitter, +jitter].
        seed: of those draws.
        queue: arrivals that may wait; what comes then is dropped.
        limits: when to end.
        warmup: when to end the untimed queries before, which are not paced.
        clock: None = `SystemClock`.
        progress: shown while there is time; None = nowhere.
        stop: as for `single_stream`.

    Raises:
        UsageError: the jitter is more than half of the period.
    """
    check_rate(fps, jitter_ns)
    clock = clock or SystemClock()

    def body(rows: array[int], dropped: array[int], pulse: Pulse) -> None:
        starts = periodic(fps, jitter_ns, seed)
        as_planned(rows.extend, dropped.append, sut, library, starts, limits, queue, clock, pulse)

    return _run("paced", fps, sut, library, limits, warmup, clock, progress, stop, body, queue=queue)


def idle_gap(
    sut: SystemUnderTest[Sample],
    library: SampleLibrary[Sample],
    *,
    pauses_ns: Sequence[int] = PAUSES_NS,
    keep_warm_ns: int = KEEP_WARM_NS,
    seed: int = 0,
    limits: Limits,
    warmup: Warmup = WARMUP,
    clock: Clock | None = None,
    progress: Progress | None = None,
) -> Run:
    """Issue a query after each of several pauses, with the system left alone and with it kept warm.

    Kept warm means an unmeasured query every `keep_warm_ns` of the pause. It knows no more of the next part
    than a line does: a query that finds one running waits for it, and that counts.

    Args:
        sut: what is measured.
        library: issued in rotation.
        pauses_ns: from an answer to the next planned start.
        keep_warm_ns: > 0.
        seed: of the order, and of when in its period keeping warm begins.
        limits: when to end.
        warmup: when to end the untimed queries before.
        clock: None = one that does not spin, which would keep the processor awake.
        progress: None = nowhere.

    Returns:
        Groups are named after the pause, such as «1 s» and «1 s, kept warm».

    Raises:
        UsageError: no pause, or a negative one.
    """
    if not pauses_ns or min(pauses_ns) < 0 or keep_warm_ns <= 0:
        raise UsageError("idle-gap needs pauses of 0 s or more, and keeps warm after a time above 0")
    clock = clock or SystemClock(spin_ns=0)
    plan = tuple(sorted(set(pauses_ns)))
    names = tuple(pause_name(pause, warm) for pause in plan for warm in (False, True))
    group: list[int] = []

    def body(rows: array[int], dropped: array[int], pulse: Pulse) -> None:
        random = np.random.default_rng(seed)
        now, size = clock.now, len(library)
        begin = done = now()
        for queries, (pause, warm) in enumerate(pauses(plan, seed), 1):
            planned = done + pause
            tick = done + round(keep_warm_ns * (1.0 - random.random()))
            while warm and tick < planned:
                clock.sleep_until(tick)
                sut.issue(library[queries % size])
                tick += keep_warm_ns
            clock.sleep_until(planned)
            sample = library[queries % size]
            started = now()
            stages = sut.issue(sample)
            done = now()
            group.append(names.index(pause_name(pause, warm)))
            rows.extend((planned, started, done, *stages))
            if pulse(queries, done, pause) or limits.reached(queries, done - begin):
                break

    run = _run("idle-gap", None, sut, library, limits, warmup, clock, progress, None, body, groups=names)
    return replace(run, group=np.array(group[: len(run)], np.int64))


def pause_name(pause_ns: int, warm: bool) -> str:
    """What the queries after such a pause are called."""
    return f"{pause_ns / 1e9:g} s" + (", kept warm" if warm else "")


def _run(
    scenario: str,
    rate: float | None,
    sut: SystemUnderTest[Sample],
    library: SampleLibrary[Sample],
    limits: Limits,
    warmup: Warmup,
    clock: Clock,
    progress: Progress | None,
    stop: Stop | None,
    body: Callable[[array[int], array[int], Pulse], None],
    queue: int = 0,
    groups: tuple[str, ...] = (),
) -> Run:
    """Warm up, let `body` fill the rows and note what it dropped, keep what Ctrl-C leaves."""
    rows, dropped, width = array("q"), array("q"), STAGES + len(sut.stages)
    complete = True
    with no_garbage_collection():
        warm, settled = warm_up(sut, library, warmup, clock)
        with (progress or Silent()).task(f"{sut.name}, {scenario}", limits.total) as task:
            pulse = Pulse(task, clock.now(), lambda: stop is not None and stop(rows_of(rows, width)))
            try:
                body(rows, dropped, pulse)
            except KeyboardInterrupt:
                complete = False
            pulse.end(len(rows) // width)
    return Run(
        scenario=scenario,
        rate=rate,
        stages=sut.stages,
        times=rows_of(rows, width),
        warmup_queries=warm,
        complete=complete,
        settled=settled,
        dropped=len(dropped),
        queue=queue,
        groups=groups,
    )
