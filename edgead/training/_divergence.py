"""Stop a training whose losses are no numbers any more."""

from __future__ import annotations

import math
from collections.abc import Sequence

from edgead.errors import InputError


def check_finite(names: Sequence[str], values: Sequence[float], step: int) -> None:
    """Make sure that each loss is a finite number, before the optimiser sees it.

    Raises:
        InputError: one is not; names it and the step, which counts from 1.
    """
    for name, value in zip(names, values, strict=True):
        if not math.isfinite(value):
            raise InputError(
                f"training diverged: the loss '{name}' became {value} in step {step}; the last saved state "
                "is kept; look for odd images among the good ones, or train with another seed"
            )
