"""Faint synthetic defects on good images, to rank and judge detectors by where no real defect is known.

Every detector finds loud defects: their AUROC is 1 for all and ranks none. So there are several kinds, each
at several strengths down to barely visible ones, painted on the frame before it is scaled: a detector with a
larger input sees small ones better, as on the line. What is compared is the mean of the AUROCs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Pixels = npt.NDArray[np.uint8]

KINDS = ("spot", "scratch", "moved", "smeared")
STRENGTHS = (0.1, 0.25, 0.5)
"""Opacity of what is laid on."""

_RADIUS = (0.02, 0.07)  # of the shorter side, least and most
_LENGTH, _WIDTH = (0.15, 0.5), 0.006


def paint(image: Pixels, kind: str, strength: float, seed: int) -> Pixels:
    """A copy of `image` with one defect, see `paint_masked`."""
    return paint_masked(image, kind, strength, seed)[0]


def paint_masked(
    image: Pixels, kind: str, strength: float, seed: int
) -> tuple[Pixels, npt.NDArray[np.bool_]]:
    """A copy of `image` with one defect, and its mask (H, W): where at least half of what is laid on shows.

    The same arguments give the same pixels; the mask does not depend on `strength`.

    Args:
        image: (H, W, 3) uint8 RGB.
        kind: one of `KINDS`: a soft spot, lighter or darker; a thin line likewise; a piece of the image from
            elsewhere; a place without its texture.
        strength: opacity, above 0, at most 1.
        seed: of place, size and direction.
    """
    import cv2
    import numpy as np

    random = np.random.default_rng(seed)
    height, width = image.shape[:2]
    side = min(height, width)
    x0, y0 = width * random.uniform(0.15, 0.85), height * random.uniform(0.15, 0.85)
    x = np.arange(width, dtype=np.float32)[None] - np.float32(x0)
    y = np.arange(height, dtype=np.float32)[:, None] - np.float32(y0)
    angle, radius = random.uniform(0, np.pi), max(side * random.uniform(*_RADIUS), 1.5)
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    if kind == "scratch":
        beyond = np.maximum(np.abs(along) - side * random.uniform(*_LENGTH) / 2, 0)
        cover = np.exp(-((across / max(_WIDTH * side, 0.7)) ** 2) - (beyond / radius) ** 2)
    else:
        stretch = random.uniform(0.5, 1.0)
        cover = np.exp(-(((along / radius) ** 2 + (across / (radius * stretch)) ** 2) ** 2))
    laid: npt.NDArray[np.float32]
    if kind in ("spot", "scratch"):
        laid = np.full_like(image, 0 if random.random() < 0.5 else 255, np.float32)
    elif kind == "moved":
        shift = (int(random.integers(height // 4, 3 * height // 4 + 1)), int(random.integers(width)))
        laid = np.roll(image, shift, (0, 1)).astype(np.float32)
    elif kind == "smeared":
        laid = np.asarray(cv2.blur(image, (2 * int(radius) + 1,) * 2), np.float32)
    else:
        raise ValueError(f"unknown kind {kind!r}")
    opacity = (np.float32(strength) * cover)[..., None]
    changed: Pixels = np.rint(image * (1 - opacity) + laid * opacity).astype(np.uint8)
    return changed, cover >= 0.5
