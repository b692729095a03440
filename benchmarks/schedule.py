"""When frames arrive: planned before a run and independent of how it goes."""

from __future__ import annotations

import random
from collections.abc import Iterator

from edgead.errors import UsageError


def check_rate(fps: float, jitter_ns: int) -> None:
    """Refuse arrivals that could overtake each other.

    Raises:
        UsageError: the jitter is negative, or more than half of the period.
    """
    half_ns = 0.5e9 / fps
    if not 0 <= jitter_ns <= half_ns:
        raise UsageError(
            f"a jitter of {jitter_ns / 1e6:g} ms does not fit {fps:g} images/s; it may be at most half of "
            f"the period, {half_ns / 1e6:g} ms"
        )


def periodic(fps: float, jitter_ns: int = 0, seed: int = 0) -> Iterator[int]:
    """Planned starts in ns from the first period on, without end and never decreasing.

    The period is that of a camera's own clock: it does not drift, whatever fraction of a nanosecond it is.

    Args:
        fps: per second, > 0.
        jitter_ns: every start is moved by a uniform draw from [−jitter, +jitter]; at most half of the period.
        seed: of those draws.
    """
    check_rate(fps, jitter_ns)
    draw = random.Random(seed).uniform
    period_ns = 1e9 / fps
    index = 0
    while True:
        moved = draw(-jitter_ns, jitter_ns) if jitter_ns else 0.0
        yield round(index * period_ns + moved) + jitter_ns  # the first one is not before 0
        index += 1


def pauses(pauses_ns: tuple[int, ...], seed: int = 0) -> Iterator[tuple[int, bool]]:
    """(pause in ns, whether kept warm), without end: every round has each combination once, in a drawn order.

    Drawn, so that neither a drift of the machine nor the pause before can pass for an effect of this one.
    """
    shuffle = random.Random(seed).shuffle
    combinations = [(pause, warm) for pause in pauses_ns for warm in (False, True)]
    while True:
        shuffle(combinations)
        yield from combinations
