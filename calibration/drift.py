"""Are calibration images of the product that the MODEL was trained on? Its own scores tell."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

SHARES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
_LOW, _HIGH = SHARES.index(0.05), SHARES.index(0.95)


def score_quantiles(scores: npt.ArrayLike) -> list[float]:
    """The quantiles at `SHARES` of (n,) raw scores, n >= 1, as a MODEL keeps them of its reserved images."""
    import numpy as np

    return [float(value) for value in np.quantile(np.asarray(scores, np.float64), SHARES)]


def drift(known: Sequence[float], scores: npt.ArrayLike) -> str:
    """A sentence where good images score unlike those that `train` reserved; empty where they do not.

    They do where their median lies outside the middle nine tenths of the known scores. Of the same product,
    with five images or more, that happens a few times in a thousand: three of five would have to lie in
    the same outer twentieth.

    Args:
        known: what `score_quantiles` gave at the end of training.
        scores: (n,) raw scores of other good images by the same MODEL.
    """
    import numpy as np

    median = float(np.median(np.asarray(scores, np.float64)))
    if known[_LOW] <= median <= known[_HIGH]:
        return ""
    side = "above" if median > known[_HIGH] else "below"
    return (
        f"half of the {np.size(scores)} calibration images score {side} {median:.4g}, but nine in ten of the "
        f"good images that train reserved score between {known[_LOW]:.4g} and {known[_HIGH]:.4g}: another "
        "product, light or camera? Thresholds and INT8 ranges hold for what the calibration images show; if "
        "the line looks like them, train on such images"
    )
