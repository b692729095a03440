"""How long one engine of a MODEL takes beside another one, on this machine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from edgead.runtimes._base import Runtime

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_ROUNDS, _SECONDS = 40, 4.0


def times_as_long(
    first: Runtime,
    second: Runtime,
    pixels: npt.NDArray[np.uint8],
    *,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Median of the ratio of an image's times, `first` over `second`, who take turns.

    One round warms up; then up to 40 rounds, or as many as begin within 4 seconds, at least one.

    Args:
        first: open.
        second: open, of the same input shape.
        pixels: (N, H, W, 3) uint8 RGB, N ≥ 1, each what the engines take.
        clock: gives seconds.
    """
    ratios: list[float] = []
    begin = clock()
    for turn in range(-1, _ROUNDS):
        if turn > 0 and clock() - begin > _SECONDS:
            break
        image = pixels[turn % len(pixels)][None]
        spent = []
        for engine in (first, second):
            start = clock()
            engine.infer(image)
            spent.append(clock() - start)
        if turn >= 0:
            ratios.append(spent[0] / spent[1])
    return statistics.median(ratios)
