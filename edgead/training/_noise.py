"""Small disturbances of an image that a detector must not mind: single pixels, and the light."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Pixels = npt.NDArray[np.uint8]

_MOST_PIXELS = 0.03
_LIGHT = 0.1


def salt_and_pepper(image: Pixels, random: np.random.Generator) -> Pixels:
    """At most 3 % of the pixels of (H, W, 3) uint8 RGB become white or black, half and half."""
    share = random.uniform(0, _MOST_PIXELS)
    place = random.random(image.shape[:2])
    changed = image.copy()
    changed[place < share] = 0
    changed[place < share / 2] = 255
    return changed


def lighter(image: Pixels, random: np.random.Generator) -> Pixels:
    """Lightness (of hue, lightness, saturation) times 0.9 … 1.1: (H, W, 3) uint8 RGB."""
    parts = cv2.cvtColor(image, cv2.COLOR_RGB2HLS)
    scaled = parts[..., 1] * np.float32(random.uniform(1 - _LIGHT, 1 + _LIGHT))
    parts[..., 1] = np.clip(scaled, 0, 255).astype(np.uint8)
    return np.asarray(cv2.cvtColor(parts, cv2.COLOR_HLS2RGB), np.uint8)
