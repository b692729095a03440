"""A threshold between two neighbouring scores."""

from __future__ import annotations


def midway(lower: float, upper: float) -> float:
    """The threshold t between two scores, lower < t ≤ upper: `score >= t` parts them.

    It is the middle, rounded to float32, in which the device compares; where float32 has no number in
    between, it is `upper`.
    """
    import numpy as np

    middle = float(np.float32(lower / 2 + upper / 2))
    return middle if lower < middle <= upper else upper


def just_above(value: float, floor: float) -> float:
    """`value` rounded to float32, or, where that is not above `floor`, the next float32 above `floor`."""
    import numpy as np

    result = np.float32(max(value, floor))
    while result <= floor:
        result = np.nextafter(result, np.float32(np.inf))
    return float(result)
