"""Two systems in turn on the same samples, so that whatever the machine does, it does to both."""

from __future__ import annotations

from array import array
from typing import TypeVar

from edgead.benchmarks._issue import Pulse, no_garbage_collection, rows_of, warm_up
from edgead.benchmarks.clock import Clock, SystemClock
from edgead.benchmarks.run import STAGES, Limits, Run
from edgead.benchmarks.sut import SampleLibrary, SystemUnderTest
from edgead.benchmarks.warmup import WARMUP, Warmup
from edgead.progress import Progress, Silent

Sample = TypeVar("Sample")


def interleaved(
    suts: tuple[SystemUnderTest[Sample], ...],
    library: SampleLibrary[Sample],
    *,
    limits: Limits,
    warmup: Warmup = WARMUP,
    clock: Clock | None = None,
    progress: Progress | None = None,
) -> tuple[Run, ...]:
    """Issue each sample to every system before the next sample, in an order that turns round each time.

    Each query so comes after one of another system, whose data fill the caches: that costs the same for all,
    and more than a system pays that runs alone.

    Args:
        suts: at least two.
        library: issued in rotation.
        limits: when to end; queries of each system count.
        warmup: when to end the untimed queries before, of each in turn.
        clock: None = `SystemClock`.
        progress: None = nowhere.

    Returns:
        A run of each, of equal length: query i of all is the same sample.
    """
    clock = clock or SystemClock()
    now, size = clock.now, len(library)
    rows = [array("q") for _ in suts]
    complete = True
    with no_garbage_collection():
        warm = [warm_up(sut, library, warmup, clock) for sut in suts]
        name = " and ".join(sut.name for sut in suts)
        with (progress or Silent()).task(f"{name}, in turn", limits.total) as task:
            pulse = Pulse(task, now())
            begin = done = now()
            queries = 0
            try:
                while not limits.reached(queries, done - begin):
                    sample = library[queries % size]
                    turn = range(len(suts)) if queries % 2 == 0 else range(len(suts) - 1, -1, -1)
                    for number in turn:
                        started = now()
                        stages = suts[number].issue(sample)
                        done = now()
                        rows[number].extend((started, started, done, *stages))
                    queries += 1
                    pulse(queries, done, 10**9)
            except KeyboardInterrupt:
                complete = False
            pulse.end(queries)
    return tuple(
        Run(
            scenario="single-stream",
            rate=None,
            stages=sut.stages,
            times=rows_of(part, STAGES + len(sut.stages))[:queries],
            warmup_queries=count,
            complete=complete,
            settled=settled,
        )
        for sut, part, (count, settled) in zip(suts, rows, warm, strict=True)
    )
