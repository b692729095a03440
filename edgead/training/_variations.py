"""Strong random changes of an image's colours, sharpness and angle: what makes a copy of it look foreign."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, cast

import cv2
import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Pixels = npt.NDArray[np.uint8]
    Change = Callable[[Pixels, np.random.Generator], Pixels]

T = TypeVar("T", bound="npt.NDArray[Any]")

_AT_ONCE = 3


def varied(image: Pixels, random: np.random.Generator) -> Pixels:
    """Three different ones of ten changes, one after the other, as in DRAEM: (H, W, 3) uint8 RGB."""
    for choice in random.permutation(len(_CHANGES))[:_AT_ONCE]:
        image = _CHANGES[int(choice)](image, random)
    return image


def _looked_up(image: Pixels, values: npt.NDArray[np.floating]) -> Pixels:
    """Each pixel value v becomes values[v], in all channels, (256, 1), or in each by itself, (256, 3)."""
    table = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    table = np.ascontiguousarray(np.broadcast_to(table, (256, 3)))[None]
    return np.asarray(cv2.LUT(image, table), np.uint8)


_LEVELS = np.arange(256, dtype=np.float64)[:, None]


def _gamma(image: Pixels, random: np.random.Generator) -> Pixels:
    return _looked_up(image, 255 * (_LEVELS / 255) ** random.uniform(0.5, 2.0, 3))


def _brightness(image: Pixels, random: np.random.Generator) -> Pixels:
    return _looked_up(image, _LEVELS * random.uniform(0.8, 1.2) + random.uniform(-30, 30))


def _sharpness(image: Pixels, random: np.random.Generator) -> Pixels:
    soft = cv2.GaussianBlur(image, (3, 3), 0)
    factor = random.uniform(0, 3)
    return np.asarray(cv2.addWeighted(image, factor, soft, 1 - factor, 0), np.uint8)


def _hue(image: Pixels, random: np.random.Generator) -> Pixels:
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV).astype(np.int16)
    hue, saturation = (int(value) for value in random.integers(-50, 51, 2))
    hsv[..., 0] = (hsv[..., 0] + hue) % 180  # OpenCV's hue is in steps of 2 degrees
    hsv[..., 1] = np.clip(hsv[..., 1] + saturation, 0, 255)
    return np.asarray(cv2.cvtColor(hsv.astype(np.uint8), cv2.COLOR_HSV2RGB), np.uint8)


def _solarise(image: Pixels, random: np.random.Generator) -> Pixels:
    return _looked_up(image, np.where(random.integers(32, 129) > _LEVELS, _LEVELS, 255 - _LEVELS))


def _posterise(image: Pixels, random: np.random.Generator) -> Pixels:
    step = 256 >> int(random.integers(1, 8))
    return _looked_up(image, np.floor(_LEVELS / step) * step)


def _invert(image: Pixels, random: np.random.Generator) -> Pixels:
    return np.asarray(255 - image, np.uint8)


def _stretch(image: Pixels, random: np.random.Generator) -> Pixels:
    low, high = (np.percentile(image, q, axis=(0, 1)) for q in (1, 99))
    return _looked_up(image, (_LEVELS - low) * (255 / np.maximum(high - low, 1)))


def _equalise(image: Pixels, random: np.random.Generator) -> Pixels:
    return np.stack([cv2.equalizeHist(image[..., channel]) for channel in range(3)], axis=2)


def _turn(image: Pixels, random: np.random.Generator) -> Pixels:
    return turned(image, random.uniform(-45, 45))


_CHANGES: tuple[Change, ...] = (
    _gamma,
    _brightness,
    _sharpness,
    _hue,
    _solarise,
    _posterise,
    _invert,
    _stretch,
    _equalise,
    _turn,
)


def turned(image: T, degrees: float) -> T:
    """Turned about its centre; what comes from outside is 0."""
    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1.0)
    return cast("T", cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR))
