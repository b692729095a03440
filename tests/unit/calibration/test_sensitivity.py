"""Repair on layers whose errors and times are known: what goes back, in which order, and when it stops."""

from __future__ import annotations

import math
from collections.abc import Collection

import pytest

from edgead.calibration.sensitivity import Repair, repair
from edgead.progress import Silent

# Error alone, and microseconds: the second is the cheapest to be rid of, the first the largest.
LAYERS = {"large": (0.4, 100.0), "cheap": (0.3, 10.0), "small": (0.05, 10.0), "least": (0.01, 10.0)}


class Engines:
    """Independent errors of rounding; of several layers times `together`."""

    def __init__(self, together: float = 1.0, bad: Collection[str] = ()) -> None:
        self.together, self.bad = together, frozenset(bad)
        self.made: list[frozenset[str]] = []
        self.asked: list[frozenset[str]] = []

    def error(self, kept: Collection[str]) -> float:
        self.made.append(frozenset(kept))
        found = math.sqrt(sum(LAYERS[name][0] ** 2 for name in kept))
        return found * (self.together if len(kept) > 1 else 1.0)

    def gate(self, kept: Collection[str]) -> tuple[str, ...]:
        assert frozenset(kept) == self.made[-1]
        self.asked.append(frozenset(kept))
        return tuple(f"{name} flips" for name in sorted(self.bad & set(kept)))

    def mend(self, goal: float) -> Repair:
        done = repair(
            list(LAYERS),
            goal=goal,
            error=self.error,
            alone=lambda name: self.error([name]),
            gate=self.gate,
            microseconds=lambda: {name: time for name, (_, time) in LAYERS.items()},
            progress=Silent(),
        )
        assert set(LAYERS) - set(done.steps[-1].returned) == self.made[-1], "the last engine is the one taken"
        return done


def test_nothing_goes_back_where_everything_holds() -> None:
    engines = Engines()
    done = engines.mend(0.6)
    assert (done.holds, done.layers, len(done.steps)) == (True, (), 1)
    assert engines.made == [frozenset(LAYERS)]


@pytest.mark.parametrize(
    ("goal", "returned"),
    [(0.45, ("cheap",)), (0.06, ("cheap", "large")), (0.02, ("cheap", "large", "small"))],
)
def test_the_most_harmful_per_microsecond_go_back_first(goal: float, returned: tuple[str, ...]) -> None:
    done = Engines().mend(goal)
    assert done.holds
    assert done.steps[-1].returned == returned
    assert [layer.name for layer in done.layers] == ["cheap", "large", "small", "least"]
    assert done.microseconds(done.steps[-1]) == sum(LAYERS[name][1] for name in returned)
    assert done.steps[1].returned == returned, "the sum of squares says at once how many"
    assert all(step.failures != () for step in done.steps if len(step.returned) < len(returned))


def test_errors_that_add_up_to_more_need_more() -> None:
    """Together thrice as bad: the sum of squares was too kind, so what it says is measured and more goes."""
    done = Engines(together=3.0).mend(0.1)
    assert done.holds
    assert set(done.steps[-1].returned) == {"cheap", "large", "small"}


def test_the_gate_is_asked_within_the_goal_alone_and_may_want_more() -> None:
    engines = Engines(bad={"large"})
    done = engines.mend(0.45)
    assert done.holds
    assert [step.failures for step in done.steps[:3]] == [None, ("large flips",), ()]
    assert done.steps[-1].returned == ("cheap", "large")
    assert frozenset(LAYERS) not in engines.asked


def test_where_nothing_helps_the_fastest_engine_within_the_goal_is_taken() -> None:
    done = Engines(bad=LAYERS).mend(0.45)
    assert not done.holds
    assert done.steps[-1].returned == ("cheap",)
    assert done.steps[-1].failures == ("large flips", "least flips", "small flips")


def test_a_goal_out_of_reach_takes_the_nearest_engine() -> None:
    done = Engines().mend(1e-6)
    assert not done.holds
    assert done.steps[-1].failures is None
    assert done.steps[-1].returned == ("cheap", "large", "small")
    assert len(done.steps) <= 1 + len(LAYERS)
    assert done.to_values()["holds"] is False


def test_one_layer_that_does_not_hold_stays_alone() -> None:
    done = repair(
        ["only"],
        goal=0.1,
        error=lambda kept: 0.5,
        alone=lambda name: 0.5,
        gate=lambda kept: (),
        microseconds=lambda: {"only": 1.0},
        progress=Silent(),
    )
    assert (done.holds, done.steps[-1].returned) == (False, ())


@pytest.mark.parametrize("least", range(1, 40))
def test_no_more_go_back_than_must(least: int) -> None:
    """Where the single errors mislead, the bisection still finds the smallest number that holds."""
    names = [f"layer{number:02}" for number in range(40)]

    def error(kept: Collection[str]) -> float:
        return 1.0 if len(kept) > len(names) - least else 0.4

    done = repair(
        names,
        goal=0.5,
        error=error,
        alone=lambda name: error([name]),
        gate=lambda kept: (),
        microseconds=lambda: dict.fromkeys(names, 1.0),
        progress=Silent(),
    )
    assert done.holds
    assert len(done.steps[-1].returned) == least
    assert len(done.steps) <= 9
