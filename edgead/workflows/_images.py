"""Decode and preprocess many images once: the one pixel path of training, calibration and verification."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgead.data.folder import ImageItem, content_hash
from edgead.errors import DatasetError, ImageError
from edgead.imaging.frame import read_image
from edgead.imaging.preprocess import Preprocess
from edgead.progress import Progress
from edgead.types import Geometry

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class Skipped:
    """An image that could not be used, and why."""

    path: Path
    reason: str


@dataclass(frozen=True, slots=True)
class LoadedImages:
    """Images after preprocessing, of which the network sees all or tiles.

    Attributes:
        items: the images that could be read, in the order given.
        pixels: (N, H, W, 3) uint8 RGB, in the order of `items`.
        frame_sizes: (height, width) of each frame before the resize.
        skipped: the others.
    """

    items: tuple[ImageItem, ...]
    pixels: npt.NDArray[np.uint8]
    frame_sizes: tuple[tuple[int, int], ...]
    skipped: tuple[Skipped, ...]


def hash_readable(
    items: Sequence[ImageItem], progress: Progress
) -> tuple[tuple[ImageItem, ...], tuple[str, ...], tuple[Skipped, ...]]:
    """Content hashes before anything is decoded: (items, hash of each, skipped).

    A file that cannot be opened (a dangling link, no right to read) is set aside and said.
    """
    good: list[ImageItem] = []
    hashes: list[str] = []
    skipped: list[Skipped] = []
    for item in items:
        try:
            hashes.append(content_hash(item.path))
        except ImageError as err:
            skipped.append(Skipped(item.path, str(err)))
            progress.say(f"skipped: {err}")
        else:
            good.append(item)
    return tuple(good), tuple(hashes), tuple(skipped)


def load_pixels(
    items: Sequence[ImageItem],
    geometry: Geometry,
    *,
    progress: Progress,
    name: str,
    bit_depth: int | None = None,
) -> LoadedImages:
    """Read `items` through libedgead's preprocessing; unreadable ones are set aside and said.

    Raises:
        DatasetError: not one image could be read.
    """
    import numpy as np

    preprocess = Preprocess(geometry)
    height, width = geometry.image_size
    pixels = np.empty((len(items), height, width, 3), np.uint8)
    good: list[ImageItem] = []
    sizes: list[tuple[int, int]] = []
    skipped: list[Skipped] = []
    with progress.task(name, len(items)) as task:
        for item in items:
            try:
                frame = read_image(item.path, bit_depth=bit_depth)
                preprocess(frame, out=pixels[len(good)])
            except ImageError as err:
                skipped.append(Skipped(item.path, str(err)))
                progress.say(f"skipped: {err}")
            else:
                good.append(item)
                sizes.append((frame.height, frame.width))
            task.advance()
    if not good:
        if not items:
            raise DatasetError("not one of the images could be opened; check the folder's rights and links")
        raise DatasetError(f"not one of {len(items)} images could be read; the first: {skipped[0].reason}")
    return LoadedImages(tuple(good), pixels[: len(good)], tuple(sizes), tuple(skipped))
