"""Which layers an 8-bit engine's error comes from, and which go back to float until it holds.

Each layer is measured with itself alone in 8 bits, which gives the order in which they go back. How many go
back is found by bisection on engines that are made and measured. It begins where the squares of single errors
say, which add up where rounding is independent.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from edgead.progress import Progress

_VERSION = 1


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer that could be quantised.

    Attributes:
        name: of its node in the graph.
        error: of the map with this layer alone in 8 bits, against float: root mean square, as a share of the
            map's deviation.
        microseconds: that it takes in float, about.
    """

    name: str
    error: float
    microseconds: float

    @property
    def harm(self) -> float:
        """Squared error that a microsecond of float takes away."""
        return self.error**2 / max(self.microseconds, 1e-3)


@dataclass(frozen=True, slots=True)
class Step:
    """An engine that was tried.

    Attributes:
        returned: names of the layers that computed in float.
        error: of its map, measured.
        failures: what was over the gate's limits; None where it was not asked, for its error was too large.
    """

    returned: tuple[str, ...]
    error: float
    failures: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class Repair:
    """How an 8-bit engine came to hold.

    Attributes:
        goal: the error that was aimed at.
        layers: every layer that could be quantised, the most harmful first; none where nothing was wrong.
        steps: what was tried, in this order; the last one is the engine that was taken.
    """

    goal: float
    layers: tuple[Layer, ...]
    steps: tuple[Step, ...]

    @property
    def holds(self) -> bool:
        """Whether the last engine is within the goal and the gate."""
        return self.steps[-1].error <= self.goal and self.steps[-1].failures == ()

    def microseconds(self, step: Step) -> float:
        """Time in float of the layers that `step` returned."""
        times = {layer.name: layer.microseconds for layer in self.layers}
        return sum(times[name] for name in step.returned)

    def to_values(self) -> dict[str, Any]:
        """Values that `json.dumps` takes."""
        return {"version": _VERSION, **asdict(self), "holds": self.holds}


def repair(
    names: Sequence[str],
    *,
    goal: float,
    error: Callable[[Collection[str]], float],
    alone: Callable[[str], float],
    gate: Callable[[Collection[str]], tuple[str, ...]],
    microseconds: Callable[[], Mapping[str, float]],
    progress: Progress,
) -> Repair:
    """Return layers to float, the most harmful per microsecond first, until error and gate hold.

    The engine of the last step is the one that `error` was called for last: the caller keeps that one.

    Args:
        names: layers that may be quantised, at least one.
        goal: largest error of the map, see `Layer.error`.
        error: makes the engine with these layers in 8 bits, and measures it.
        alone: the same with one layer in 8 bits; it gives the order only, so that fewer images do.
        gate: what is over a limit in the engine that `error` made last, for the same layers.
        microseconds: about the float time of each of `names`; asked once, if something has to go back.
        progress: gets a bar for the layers.

    Returns:
        What was tried; the last step need not hold.
    """

    def tried(returned: Sequence[str]) -> Step:
        kept = [name for name in names if name not in returned]
        found = error(kept)
        return Step(tuple(returned), found, gate(kept) if found <= goal else None)

    steps = [tried(())]
    if steps[0].failures == ():
        return Repair(goal, (), tuple(steps))
    times = microseconds()
    layers = []
    with progress.task("INT8: layers one by one", len(names)) as bar:
        for name in names:
            layers.append(Layer(name, alone(name), times[name]))
            bar.advance()
    layers.sort(key=lambda layer: layer.harm, reverse=True)
    order = [layer.name for layer in layers]
    count = _needed(layers, goal)
    low, high = 0, len(order)  # so few do not hold; of so many nothing is left in 8 bits
    taken: Step | None = None
    while high - low > 1:
        steps.append(tried(order[:count]))
        if steps[-1].failures == ():
            high, taken = count, steps[-1]
        else:
            low = count
        count = (low + high) // 2
    # Where nothing helps it is not the rounding: the fastest engine within the goal, or the nearest to it.
    if taken is None:
        taken = next((step for step in steps if step.error <= goal), min(steps, key=lambda step: step.error))
    if steps[-1] is not taken:
        steps.append(tried(taken.returned))
    return Repair(goal, tuple(layers), tuple(steps))


def _needed(layers: Sequence[Layer], goal: float) -> int:
    """How many of `layers`, the first of them, must go back for the sum of the others' squares to fit."""
    left = [math.sqrt(sum(layer.error**2 for layer in layers[count:])) for count in range(len(layers))]
    return max(1, next((count for count, error in enumerate(left) if error <= goal), len(layers) - 1))
