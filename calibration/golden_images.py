"""Golden images: a few held-out good images, and the same with a synthetic defect, for the self-test."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgead.data.split import ranked
from edgead.errors import DatasetError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_BLOB_RADIUS = 0.06  # of the shorter side
_SCRATCH_LENGTH = 0.3
_SCRATCH_WIDTH = 0.008
_STRENGTH = 0.9


def choose(hashes: Sequence[str], *, count: int = 2, seed: int = 0) -> tuple[int, ...]:
    """Indices of the images that become golden: `count` different ones, chosen by content, or all if fewer.

    Raises:
        DatasetError: there is no image.
    """
    if not hashes:
        raise DatasetError("no held-out good images to make golden images of: give at least one")
    return tuple(sorted(hashes.index(name) for name in ranked(hashes, seed)[:count]))


def synthetic_defect(image: npt.NDArray[np.uint8], seed: int) -> npt.NDArray[np.uint8]:
    """A copy of `image` with a soft blob and a scratch through it, somewhere in the middle.

    The defect is dark where its surroundings are bright and bright where they are dark, so that a person sees
    it. It exercises an engine; it is no measure of how well defects are found.

    Args:
        image: (H, W) or (H, W, C) uint8.
        seed: place, direction and shape; the same seed gives the same pixels.
    """
    import numpy as np

    rng = np.random.default_rng(seed)
    height, width = image.shape[:2]
    side = min(width, height)
    centre_x, centre_y = width * rng.uniform(0.35, 0.65), height * rng.uniform(0.35, 0.65)
    angle, stretch = rng.uniform(0, np.pi), rng.uniform(0.6, 1.0)
    x = np.arange(width, dtype=np.float32)[None, :] + 0.5 - centre_x
    y = np.arange(height, dtype=np.float32)[:, None] + 0.5 - centre_y
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)

    radius = max(_BLOB_RADIUS * side, 1.0)
    blob = np.exp(-(((along / radius) ** 2 + (across / (radius * stretch)) ** 2) ** 2))
    beyond = np.maximum(np.abs(along) - _SCRATCH_LENGTH * side / 2, 0)
    scratch = np.exp(-((across / max(_SCRATCH_WIDTH * side, 0.7)) ** 2) - (beyond / radius) ** 2)
    cover = _STRENGTH * np.maximum(blob, scratch)

    around = image[blob > np.exp(-1)] if (blob > np.exp(-1)).any() else image
    paint = 0.0 if around.mean() > 127.5 else 255.0
    cover = cover.reshape(cover.shape + (1,) * (image.ndim - 2))
    painted: npt.NDArray[np.uint8] = np.rint(image * (1 - cover) + paint * cover).astype(np.uint8)
    return painted
