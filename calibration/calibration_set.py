"""Which good images may judge a MODEL, those that it was not trained on, and which give INT8 ranges, any."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgead.data.folder import ImageItem
from edgead.errors import DatasetError, InternalError, LeakageError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_THUMBNAIL = 16  # squares a side whose means tell images apart


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Good images for map statistics, thresholds, golden images and gates.

    Attributes:
        items: not trained on, each content once, in the order given.
        hashes: their content hashes.
        trained_on: how many images were left out because the MODEL was trained on them.
        copies: how many were left out as copies; counted twice they would feign certainty.
    """

    items: tuple[ImageItem, ...]
    hashes: tuple[str, ...]
    trained_on: int
    copies: int


def held_out(items: Sequence[ImageItem], hashes: Sequence[str], *, trained: Collection[str]) -> HeldOut:
    """Of the good images in `items`, those that were not trained on.

    Args:
        items: good images.
        hashes: content hash of each.
        trained: content hashes that the MODEL was trained on (empty for an imported MODEL that does not say).

    Raises:
        DatasetError: an item is anomalous, or there are no items.
        LeakageError: every image was trained on.
    """
    if len(items) != len(hashes):
        raise InternalError(f"{len(items)} images with {len(hashes)} hashes")
    anomalous = [item.path for item in items if item.label]
    if anomalous:
        raise DatasetError(
            f"{len(anomalous)} of {len(items)} calibration images are anomalous, the first is "
            f"{anomalous[0]}; give good images only"
        )
    if not items:
        raise DatasetError("no calibration images: give a folder of good images")
    known = frozenset(trained)
    kept: dict[str, ImageItem] = {}
    for item, name in zip(items, hashes, strict=True):
        if name not in known:
            kept.setdefault(name, item)
    if not kept:
        raise LeakageError(
            f"all {len(items)} calibration images, the first is {items[0].path}, were trained on: they would "
            "make the thresholds too tight; give the folder of the training images (the share that train "
            "held out of it is used), or good images that the model has not seen"
        )
    seen = sum(name in known for name in hashes)
    return HeldOut(tuple(kept.values()), tuple(kept), seen, len(items) - seen - len(kept))


def spread(pixels: npt.NDArray[np.uint8], count: int, seed: int) -> tuple[int, ...]:
    """Indices of `count` images that are as different as can be, or of all if there are fewer.

    Farthest-point choice on the means of 16 × 16 squares: beginning with a seeded one, always the image that
    is farthest from all that were chosen. Rare parts and lights come first, copies last.

    Args:
        pixels: (N, H, W, 3) uint8 RGB.
        count: how many, at least 1.
        seed: of the first one.
    """
    import cv2
    import numpy as np

    if len(pixels) <= count:
        return tuple(range(len(pixels)))
    size = (_THUMBNAIL, _THUMBNAIL)
    small = np.stack([cv2.resize(image, size, interpolation=cv2.INTER_AREA).ravel() for image in pixels])
    points = small.astype(np.float32)
    chosen = [int(np.random.default_rng(seed).integers(len(pixels)))]
    nearest = np.square(points - points[chosen[0]]).sum(1)
    while len(chosen) < count:
        nearest[chosen] = -1.0
        chosen.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, np.square(points - points[chosen[-1]]).sum(1))
    return tuple(sorted(chosen))
