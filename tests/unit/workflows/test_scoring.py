"""The ratio of two engines' times, on a clock that the engines themselves turn."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

import numpy as np
import pytest

from edgead.runtimes._base import Runtime
from edgead.workflows._scoring import times_as_long

PIXELS = np.arange(3 * 4, dtype=np.uint8).reshape(3, 1, 4, 1).repeat(3, 3)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Engine:
    """Takes so many seconds, the last for ever after."""

    def __init__(self, clock: Clock, seconds: Iterable[float]) -> None:
        self.clock, self.seconds, self.seen = clock, list(seconds), list[Any]()

    def infer(self, image: Any) -> None:
        self.seen.append(image)
        self.clock.now += self.seconds.pop(0) if len(self.seconds) > 1 else self.seconds[0]


def ratio(first: list[float], second: list[float]) -> tuple[float, list[Any]]:
    clock = Clock()
    one, other = Engine(clock, first), Engine(clock, second)
    found = times_as_long(cast(Runtime, one), cast(Runtime, other), PIXELS, clock=clock)
    assert len(one.seen) == len(other.seen)
    assert all(np.array_equal(a, b) for a, b in zip(one.seen, other.seen, strict=True))
    return found, one.seen


def test_the_median_of_ratios_without_the_first_round() -> None:
    # Warming up counts for nothing, and one slow round of forty for little.
    found, seen = ratio([9.0e-1, 0.5, 0.003], [0.1, 0.002])
    assert found == pytest.approx(1.5)
    assert len(seen) == 41
    assert {image.shape for image in seen} == {(1, 1, 4, 3)}


def test_slow_engines_have_fewer_rounds_and_one_at_least() -> None:
    found, seen = ratio([0.5], [0.5])
    assert (found, len(seen)) == (1.0, 5)  # rounds begin at 0, 1, … 4 s, the first of which warms up
    found, seen = ratio([100.0, 30.0], [60.0])
    assert (found, len(seen)) == (0.5, 2)
