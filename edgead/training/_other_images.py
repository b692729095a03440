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
        enlarge: show the centre of each file's image, twice as large, as the paper's penalty does; else all
            of it.
        drawn: share of drawn images among the folder's, 0 … 1.

    Raises:
        DatasetError: `folder` holds no images.
    """

    def __init__(
        self,
        folder: Path | None,
        size: tuple[int, int],
        *,
        seed: int,
        progress: Progress,
        use: str,
        enlarge: bool = True,
        drawn: float = 0.0,
    ) -> None:
        self._folder, self._size, self._seed, self._progress = folder, size, seed, progress
        self._files = () if folder is None else list_images(folder)
        self._drawn = 1.0 if folder is None else drawn
        factor = 2 if enlarge else 1
        geometry = Geometry(height=factor * size[0], width=factor * size[1], window=size)
        self._preprocess = Preprocess(geometry)
        self._unreadable: set[Path] = set()
        source = f"{len(self._files)} images of {folder}" if folder is not None else "procedurally drawn ones"
        mixed = f", {100 * drawn:g} % procedurally drawn ones among them" if folder and drawn else ""
        progress.say(f"{use}: {source}{mixed}")

    def image(self, index: int) -> npt.NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB.

        Raises:
            DatasetError: the folder's images cannot be read.
        """
        if derive(self._seed, "drawn", index) < self._drawn * 2**63:
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
        folder = None if self._folder is None else str(self._folder)
        return {"folder": folder, "files": len(self._files), "drawn": self._drawn}
