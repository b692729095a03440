"""Several streams run in threads: these tests use the machine's own clock, and bars that it cannot miss."""

from __future__ import annotations

import sys
import threading
import time

import numpy as np
import pytest

from edgead.benchmarks.parallel import multi_camera, offline
from edgead.benchmarks.run import Limits
from edgead.benchmarks.sut import SampleLibrary
from edgead.benchmarks.warmup import Warmup
from edgead.errors import EngineError, UsageError

MS = 1_000_000
NO_WARMUP = Warmup(max_queries=1)
LIBRARY = SampleLibrary(range(6))


class Sleeps:
    """Takes so long without a core, as an engine on a device of its own."""

    name, runtime, stages = "sleeps:fp32", "python", ("engine",)

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.samples: list[int] = []
        self.threads: set[int] = set()

    def issue(self, sample: int) -> tuple[int, ...]:
        self.samples.append(sample)
        self.threads.add(threading.get_ident())
        time.sleep(self.seconds)
        return (round(self.seconds * 1e9),)


def test_cameras_are_triggered_together_and_measured_apart() -> None:
    suts = [Sleeps(0.001), Sleeps(0.004), Sleeps(0.002)]
    run = multi_camera(suts, LIBRARY, fps=50, limits=Limits(min_queries=40), warmup=NO_WARMUP)
    assert (run.scenario, run.rate, run.complete, run.dropped) == ("multi-camera", 50, True, 0)
    assert run.groups == ("camera 1", "camera 2", "camera 3")
    parts = [run.select((name,)) for name in run.groups]
    assert [len(part) for part in parts] == [40, 40, 40]
    for part, sut in zip(parts, suts, strict=True):
        assert (part.times[:, 0] == parts[0].times[:, 0]).all()
        assert part.service_ns.min() >= sut.seconds * 1e9
        assert len(sut.threads) <= 2  # the warm-up's and its own
    assert (np.diff(parts[0].times[:, 0]) == 20 * MS).all()
    assert (np.diff(run.times[:, 2]) >= 0).all()
    assert suts[0].samples[1:7] == [0, 1, 2, 3, 4, 5]
    assert suts[1].samples[1:7] == [2, 3, 4, 5, 0, 1]


def test_a_camera_that_is_too_slow_drops_its_own_frames_only() -> None:
    suts = [Sleeps(0.0), Sleeps(0.05)]
    run = multi_camera(suts, LIBRARY, fps=100, queue=2, limits=Limits(min_queries=50), warmup=NO_WARMUP)
    fast, slow = (len(run.select((name,))) for name in run.groups)
    assert fast + slow + run.dropped == 100
    assert fast >= 45  # on a machine that stalls a frame may be lost
    assert slow <= 0.5 / 0.05 + 2 + 1
    assert run.throughput() < 20


def test_workers_share_a_pile() -> None:
    """Four that sleep 5 ms each: together four times as fast as one, whatever the number of cores."""
    alone = offline([Sleeps(0.005)], LIBRARY, limits=Limits(min_queries=60), warmup=NO_WARMUP)
    four = offline(
        [Sleeps(0.005) for _ in range(4)], LIBRARY, limits=Limits(min_queries=240), warmup=NO_WARMUP
    )
    assert len(alone) == 60
    assert 240 <= len(four) < 240 + 4
    assert four.throughput() > 2 * alone.throughput()
    assert four.throughput() <= 4 / 0.005 * 1.01
    assert four.fps == pytest.approx(four.throughput(), rel=0.01)
    assert four.groups == ()


def test_a_time_limit_ends_the_pile() -> None:
    run = offline(
        [Sleeps(0.002)] * 2,
        LIBRARY,
        limits=Limits(min_queries=10**6, max_duration_ns=100 * MS),
        warmup=NO_WARMUP,
    )
    assert 0 < len(run) <= 102


def test_a_failure_in_a_stream_ends_the_others_and_is_told() -> None:
    class Fails(Sleeps):
        def issue(self, sample: int) -> tuple[int, ...]:
            if len(self.samples) == 3:
                raise EngineError("broken:fp32 broke")
            return super().issue(sample)

    with pytest.raises(EngineError, match="broke"):
        multi_camera(
            [Sleeps(0.0), Fails(0.0)], LIBRARY, fps=100, limits=Limits(min_queries=10**6), warmup=NO_WARMUP
        )
    assert threading.active_count() == 1 or all(
        thread.daemon for thread in threading.enumerate() if thread is not threading.main_thread()
    )


def test_the_interpreter_is_left_as_it_was() -> None:
    before = sys.getswitchinterval()
    seen = []

    class Looks(Sleeps):
        def issue(self, sample: int) -> tuple[int, ...]:
            seen.append(sys.getswitchinterval())
            return (0,)

    offline([Looks(0.0)], LIBRARY, limits=Limits(min_queries=2), warmup=NO_WARMUP)
    assert max(seen) < 1e-3
    assert sys.getswitchinterval() == before


def test_no_stream_at_all() -> None:
    with pytest.raises(UsageError, match="at least one stream"):
        offline([], LIBRARY, limits=Limits())
