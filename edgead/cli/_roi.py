"""The option ``--roi X,Y,W,H``."""

from __future__ import annotations

from edgead.errors import UsageError


def parse_roi(text: str | None) -> tuple[int, int, int, int] | None:
    """Read ``X,Y,W,H``, all in frame pixels.

    Raises:
        UsageError: not four whole numbers, or no area.
    """
    if text is None:
        return None
    try:
        x, y, width, height = (int(part) for part in text.split(","))
    except ValueError as err:
        raise UsageError(f"--roi {text!r}: give X,Y,W,H in pixels, for instance 100,50,640,480") from err
    if min(x, y) < 0 or min(width, height) < 1:
        raise UsageError(f"--roi {text!r}: X and Y must be at least 0, W and H at least 1")
    return x, y, width, height
