"""Network input sizes as text: ``192x512``, height x width, or one number for a square."""

from __future__ import annotations

from edgead.errors import UsageError


def parse_size(text: str, option: str = "--size") -> tuple[int, int]:
    """Read ``HEIGHTxWIDTH`` or ``SIDE`` as (H, W) in pixels.

    Raises:
        UsageError: neither one nor two whole numbers above 0.
    """
    try:
        sides = [int(part) for part in text.lower().replace("×", "x").split("x")]
    except ValueError:
        sides = []
    if len(sides) not in (1, 2) or min(sides) < 1:
        raise UsageError(
            f"{option} {text!r}: give height x width in pixels, for instance 192x512, or one side of a square"
        )
    return sides[0], sides[-1]
