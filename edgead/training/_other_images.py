"""Images that are not of the product: from a folder that the user names, or drawn (`_procedural_images`)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgead.data.folder import list_images
from edgead.errors import DatasetError, ImageError
from edgead.imaging.frame import read_image
from edgead.imaging.preprocess import Preprocess
from edgead.progress import Progress
from edgead.training._procedural_images import draw
from edgead.training._seeds import derive
from edgead.types import Geometry

if TYPE_CHECKING:
    import numpy.typing as npt

_TRIES = 20


class OtherImages:
    """An endless series of images, the same for the same seed and files.

    Args:
        folder: its images and those of its subfolders, read when they are wanted; None = drawn ones.
        size: (H, W).
        seed: of the series.
        progress: is told where the images come from, and of each unreadable one, once.
        use: what they are for, in that message.

    Raises:
        DatasetError: `folder` holds no images.
    """

    def __init__(
        self, folder: Path | None, size: tuple[int, int], *, seed: int, progress: Progress, use: str
    ) -> None:
        self._folder, self._size, self._seed, self._progress = folder, size, seed, progress
        self._files = () if folder is None else list_images(folder)
        # As the paper does: twice the size, then the centre, so that things are seen larger than life.
        enlarged = Geometry(height=2 * size[0], width=2 * size[1], window=size)
        self._preprocess = Preprocess(enlarged)
        self._unreadable: set[Path] = set()
        source = f"{len(self._files)} images of {folder}" if folder is not None else "procedurally drawn ones"
        progress.say(f"{use}: {source}")

    def image(self, index: int) -> npt.NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB.

        Raises:
            DatasetError: the folder's images cannot be read.
        """
        if self._folder is None:
            return draw(self._seed, index, self._size)
        start = derive(self._seed, "other images", index)
        for attempt in range(_TRIES):
            path = self._files[(start + attempt) % len(self._files)]
            try:
                return self._preprocess(read_image(path))
            except ImageError as err:
                if path not in self._unreadable:
                    self._progress.say(f"skipped: {err}")
                self._unreadable.add(path)
        raise DatasetError(f"{self._folder}: {_TRIES} images one after the other could not be read")

    def identity(self) -> dict[str, Any]:
        """JSON values that tell this series from another, for the resume state."""
        return {"folder": None if self._folder is None else str(self._folder), "files": len(self._files)}
