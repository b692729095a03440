"""A clock on which time passes only where a test says so, and a system that takes scripted times on it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest


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


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def scripted(clock: FakeClock) -> Callable[[Iterable[int]], Any]:
    """Makes a system under test on `clock` out of durations in ns."""
    return lambda durations_ns: ScriptedSut(clock, durations_ns)
