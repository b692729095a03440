"""Network input sizes and tiles as text: ``192x512``, height x width, or one number for a square."""

from __future__ import annotations

from edgead.errors import UsageError


def parse_size(text: str, option: str = "--size") -> tuple[int, int]:
    """Read ``HEIGHTxWIDTH`` or ``SIDE`` as (H, W) in pixels.

    Raises:
        UsageError: neither one nor two whole numbers above 0.
    """
    sides = _numbers(text)
    if len(sides) not in (1, 2) or min(sides) < 1:
        raise UsageError(
            f"{option} {text!r}: give height x width in pixels, for instance 192x512, or one side of a square"
        )
    return sides[0], sides[-1]


def parse_tiles(text: str, option: str = "--tiles") -> tuple[int, int]:
    """Read ``ROWSxCOLUMNS``.

    Raises:
        UsageError: not two whole numbers above 0.
    """
    counts = _numbers(text)
    if len(counts) != 2 or min(counts) < 1:
        raise UsageError(f"{option} {text!r}: give rows x columns, for instance 2x3, or 1x4 for a strip")
    return counts[0], counts[1]


def _numbers(text: str) -> list[int]:
    """Whole numbers between ``x``; none where one is not."""
    try:
        return [int(part) for part in text.lower().replace("×", "x").split("x")]
    except ValueError:
        return []
