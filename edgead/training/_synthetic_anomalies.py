"""Synthetic anomalies: patches of a foreign texture, or of the image itself in disorder, on good images.

DRAEM's scheme (Zavrtanik et al., 2021) with the numbers of the detector that trains on it as data: Perlin
noise, turned and cut at a threshold, says where; a texture or the image's own shuffled squares say what; an
opacity says how strongly. Images have the size that the network sees: CPR's authors draw at 640 × 640 and
then shrink to 320 × 320, which costs four times as much and leaves the same shapes (noise and squares are
fractions of the side) with edges half a pixel softer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import cv2
import numpy as np

from edgead.errors import UsageError
from edgead.training._other_images import OtherImages
from edgead.training._seeds import derive
from edgead.training._variations import turned, varied

if TYPE_CHECKING:
    import numpy.typing as npt

    Pixels = npt.NDArray[np.uint8]
    Mask = npt.NDArray[np.bool_]

# Masks that are drawn before an image is left as it is, where none of them meets the object.
_TRIES = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class AnomalyRecipe:
    """The numbers of a generator; the defaults are CPR's.

    Attributes:
        share: of the images that get an anomaly, 0 … 1.
        cells: (least, most) exponent of 2 of the noise's cells per side, drawn for each direction.
        threshold: noise above it is anomalous.
        opacity: (least, most) of what is laid on.
        smallest: share of the image's area that a connected part covers at least.
        on_object: a part counts where it touches the object (``touches``), or is cut to it (``inside``).
        shuffled: share of the anomalies that are the image itself, its colours varied and its squares
            shuffled; 0 for textures, which would not look anomalous.
        grid: pieces per side; squares where the image is one.
        vary_textures: whether textures are varied, too (DRAEM).
    """

    share: float = 0.9
    cells: tuple[int, int] = (0, 5)
    threshold: float = 0.5
    opacity: tuple[float, float] = (0.5, 1.0)
    smallest: float = 0.001
    on_object: Literal["touches", "inside"] = "touches"
    shuffled: float = 0.5
    grid: int = 16
    vary_textures: bool = False

    def __post_init__(self) -> None:
        if not (0 <= self.share <= 1 and 0 <= self.shuffled <= 1 and 0 <= self.smallest < 1):
            raise UsageError(f"synthetic anomalies: shares are 0 … 1, not {self.share} and {self.shuffled}")
        if not 0 <= self.opacity[0] <= self.opacity[1] <= 1 or not 0 <= self.cells[0] <= self.cells[1]:
            raise UsageError(f"synthetic anomalies: ranges {self.opacity} and {self.cells} do not rise")
        if self.grid < 1:
            raise UsageError(f"synthetic anomalies: grid {self.grid}: give at least 1")


class SyntheticAnomalies:
    """An endless series of anomalies, the same for the same seed and textures; safe to use from threads.

    Args:
        recipe: the numbers.
        textures: images of the size of the good ones.
        seed: of the series.
    """

    def __init__(self, recipe: AnomalyRecipe, textures: OtherImages, *, seed: int) -> None:
        self._recipe, self._textures, self._seed = recipe, textures, seed

    def image(
        self, good: Pixels, index: int, shown: npt.NDArray[np.floating] | None = None
    ) -> tuple[Pixels, Mask]:
        """Anomaly `index` of the series on a good image.

        Args:
            good: (H, W, 3) uint8 RGB.
            index: which anomaly.
            shown: (H, W), above 0.5 where the object is; None = everywhere.

        Returns:
            (image, mask): (H, W, 3) uint8 RGB and (H, W) bool. By chance, or where the object is too small to
            be met, the image is the good one and the mask is empty.

        Raises:
            DatasetError: the textures cannot be read.
        """
        random = np.random.default_rng(derive(self._seed, "anomaly", index))
        size = good.shape[:2]
        mask = np.zeros(size, np.bool_)
        if random.random() < self._recipe.share:
            mask = self._mask(random, size, np.ones(size, np.bool_) if shown is None else shown > 0.5)
        if not mask.any():
            return good.copy(), mask
        if random.random() < self._recipe.shuffled:
            source = shuffled(varied(good, random), self._recipe.grid, random)
        else:
            source = self._textures.image(index)
            if self._recipe.vary_textures:
                source = varied(source, random)
        opacity = np.float32(random.uniform(*self._recipe.opacity))
        changed = good.copy()
        blend = opacity * source[mask].astype(np.float32) + (1 - opacity) * good[mask].astype(np.float32)
        changed[mask] = np.rint(blend).astype(np.uint8)
        return changed, mask

    def _mask(self, random: np.random.Generator, size: tuple[int, int], shown: Mask) -> Mask:
        recipe = self._recipe
        for _ in range(_TRIES):
            low, high = recipe.cells
            cells = tuple(2 ** int(value) for value in random.integers(low, high + 1, 2))
            noise = turned(perlin(random, size, cells), random.uniform(-90, 90))
            mask = noise > recipe.threshold
            if recipe.on_object == "inside":
                mask &= shown
            mask = large_parts(mask, shown, recipe.smallest)
            if mask.any():
                return mask
        return np.zeros(size, np.bool_)


def perlin(
    random: np.random.Generator, size: tuple[int, int], cells: tuple[int, ...]
) -> npt.NDArray[np.float32]:
    """Perlin's gradient noise (2002) times √2, so about −1 … 1.

    Args:
        random: draws the gradients.
        size: (H, W).
        cells: per column and per row of the image; the noise is 0 at their corners.
    """
    angles = random.uniform(0, 2 * np.pi, (cells[0] + 1, cells[1] + 1)).astype(np.float32)
    down, right = np.sin(angles), np.cos(angles)
    (row, y), (col, x) = (_places(*pair) for pair in zip(size, cells, strict=True))
    y, x = y[:, None], x[None]
    total = np.zeros(size, np.float32)
    for below in (0, 1):
        for beside in (0, 1):
            corner = np.ix_(row + below, col + beside)
            ramp = down[corner] * (y - below) + right[corner] * (x - beside)
            total += ramp * (_fade(y) if below else 1 - _fade(y)) * (_fade(x) if beside else 1 - _fade(x))
    return total * np.float32(np.sqrt(2))


def _places(pixels: int, cells: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float32]]:
    """The cell of each pixel along one side, and the place in it, 0 … 1."""
    place = np.arange(pixels) * (cells / pixels)
    return place.astype(np.intp), (place % 1).astype(np.float32)


def _fade(t: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return t * t * t * (t * (t * 6 - 15) + 10)


def large_parts(mask: Mask, shown: Mask, smallest: float) -> Mask:
    """The 8-connected parts of `mask`, (H, W), that touch `shown` and cover a share `smallest` of it."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=8)
    kept = stats[:, cv2.CC_STAT_AREA] >= smallest * mask.size
    kept &= np.bincount(labels[shown], minlength=count) > 0
    kept[0] = False  # what is not in the mask
    return np.asarray(kept[labels], np.bool_)


def shuffled(image: Pixels, grid: int, random: np.random.Generator) -> Pixels:
    """(H, W, 3), its grid × grid pieces in a random order.

    Where the sides are no multiples of `grid`, the last rows and columns, less than a piece, stay in place.
    """
    rows, cols = (side // grid for side in image.shape[:2])
    found = image.copy()
    inside = found[: grid * rows, : grid * cols]
    pieces = inside.reshape(grid, rows, grid, cols, 3).swapaxes(1, 2).reshape(grid**2, -1)
    pieces = pieces[random.permutation(grid**2)]
    inside[:] = pieces.reshape(grid, grid, rows, cols, 3).swapaxes(1, 2).reshape(inside.shape)
    return found
