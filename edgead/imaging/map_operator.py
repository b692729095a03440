"""The linear operator from the raw grid to the anomaly map: X ↦ M_h·X·M_wᵀ, as dense and as banded matrices.

Zero padding, separable up-sampling and a Gaussian blur act on rows and columns independently and are linear,
so their chain is one matrix per axis. Both are built in float64 and stored with float32 weights.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgead.errors import UsageError
from edgead.types import Border, PostRecipe, Upsample

Matrix = npt.NDArray[np.float64]


def build(recipe: PostRecipe) -> tuple[Matrix, Matrix]:
    """The recipe's operator as two dense float64 matrices.

    Args:
        recipe: `grid`, `output`, `pad`, `upsample`, `blur_sigma`, `blur_truncate` and `border` are read.

    Returns:
        (M_h, M_w) of shapes (H, h) and (W, w): map = M_h @ grid @ M_w.T.

    Raises:
        UsageError: a size is not positive, pad or sigma negative, or ``none`` would have to change the size.
    """
    top, bottom, left, right = recipe.pad
    return (
        _axis(recipe, recipe.grid[0], recipe.output[0], (top, bottom)),
        _axis(recipe, recipe.grid[1], recipe.output[1], (left, right)),
    )


def _axis(recipe: PostRecipe, cells: int, pixels: int, pad: tuple[int, int]) -> Matrix:
    if cells < 1 or pixels < 1 or min(pad) < 0:
        raise UsageError(
            f"post recipe: grid {recipe.grid}, output {recipe.output}, pad {recipe.pad}: sizes must be ≥ 1"
        )
    padded = np.zeros((cells + sum(pad), cells))
    padded[pad[0] : pad[0] + cells] = np.eye(cells)
    upsampled = upsample_matrix(len(padded), pixels, recipe.upsample) @ padded
    return gaussian_matrix(pixels, recipe.blur_sigma, recipe.blur_truncate, recipe.border) @ upsampled


def upsample_matrix(cells: int, pixels: int, mode: Upsample) -> Matrix:
    """One axis of torch.nn.functional.interpolate(mode, align_corners=False), shape (pixels, cells).

    ``nearest`` takes cell floor(i·cells/pixels), in float32 as torch does; ``bilinear`` samples at
    (i + 0.5)·cells/pixels − 0.5 with the edge cells repeated.

    Raises:
        UsageError: ``none`` with two different sizes, or a mode that is not known.
    """
    rows = np.arange(pixels)
    matrix = np.zeros((pixels, cells))
    if mode == "none":
        if cells != pixels:
            raise UsageError(
                f"post recipe: up-sampling 'none' cannot turn {cells} cells into {pixels} pixels"
            )
        return np.eye(cells)
    if mode == "nearest":
        scale = np.float32(cells) / np.float32(pixels)
        source = np.floor(rows.astype(np.float32) * scale).astype(np.intp)
        matrix[rows, np.minimum(source, cells - 1)] = 1.0
        return matrix
    if mode != "bilinear":
        raise UsageError(f"post recipe: up-sampling {mode!r} is unknown; use none, nearest or bilinear")
    position = np.clip((rows + 0.5) * cells / pixels - 0.5, 0.0, cells - 1.0)
    lower = np.floor(position).astype(np.intp)
    weight = position - lower
    matrix[rows, lower] = 1.0 - weight
    matrix[rows, np.minimum(lower + 1, cells - 1)] += weight
    return matrix


def gaussian_matrix(size: int, sigma: float, truncate: float, border: Border) -> Matrix:
    """One axis of scipy.ndimage.gaussian_filter, shape (size, size); σ = 0 is the identity.

    Weights exp(−x²/2σ²) for |x| ≤ int(truncate·σ + 0.5), scaled to sum 1. Pixels beyond the border are the
    image's own: ``reflect`` (d c b a | a b c d | d c b a), ``mirror`` (d c b | a b c d | c b a), repeated as
    often as the radius needs, or ``nearest`` (a a a a | a b c d | d d d d).

    Raises:
        UsageError: σ or truncate is negative or not finite, or the border is not known.
    """
    if not (np.isfinite(sigma) and np.isfinite(truncate) and sigma >= 0 and truncate >= 0):
        raise UsageError(f"post recipe: blur sigma {sigma} and truncate {truncate} must be finite and ≥ 0")
    if sigma == 0:
        return np.eye(size)
    radius = int(truncate * sigma + 0.5)
    offsets = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 / (sigma * sigma) * offsets.astype(np.float64) ** 2)
    weights /= weights.sum()
    rows, shifts = np.meshgrid(np.arange(size), offsets, indexing="ij")
    matrix = np.zeros((size, size))
    np.add.at(matrix, (rows, _inside(rows + shifts, size, border)), weights[None, :])
    return matrix


def _inside(index: npt.NDArray[np.intp], size: int, border: Border) -> npt.NDArray[np.intp]:
    """The image pixel that stands for position `index` on the endless line."""
    if border == "nearest":
        return np.clip(index, 0, size - 1)
    if border == "reflect":
        folded = index % (2 * size)
        return np.minimum(folded, 2 * size - 1 - folded)
    if border == "mirror":
        period = max(2 * size - 2, 1)
        folded = index % period
        return np.minimum(folded, period - folded)
    raise UsageError(f"post recipe: border {border!r} is unknown; use reflect, mirror or nearest")


@dataclass(frozen=True, slots=True, eq=False)
class Banded:
    """A matrix whose rows have few neighbouring non-zeros, as libedgead reads it.

    Attributes:
        rows: output size.
        cols: input size.
        band: weights per row.
        start: (rows,) int32, each row's first column; start + band ≤ cols.
        weights: (rows, band) float32.
    """

    rows: int
    cols: int
    band: int
    start: npt.NDArray[np.int32]
    weights: npt.NDArray[np.float32]

    def __post_init__(self) -> None:
        shapes = (self.start.shape, self.weights.shape)
        if shapes != ((self.rows,), (self.rows, self.band)) or not 1 <= self.band <= self.cols:
            raise UsageError(
                f"banded matrix {self.rows}×{self.cols}, band {self.band}: arrays of shapes {shapes}"
            )
        if self.start.dtype != np.int32 or self.weights.dtype != np.float32:
            raise UsageError(
                f"banded matrix: start {self.start.dtype}, weights {self.weights.dtype}: int32, float32"
            )
        if self.rows and (self.start.min() < 0 or self.start.max() > self.cols - self.band):
            raise UsageError(f"banded matrix: a row's band of {self.band} leaves its {self.cols} columns")

    @classmethod
    def from_dense(cls, matrix: npt.NDArray[np.floating]) -> Banded:
        """Round to float32 and keep each row from its first to its last non-zero.

        Only weights that are exactly 0 in float32 are dropped. `band` is the longest row's; shorter rows are
        filled with zeros.
        """
        dense = np.ascontiguousarray(matrix, dtype=np.float32)
        rows, cols = dense.shape
        used = dense != 0
        filled = used.any(axis=1)
        first = np.where(filled, used.argmax(axis=1), 0)
        end = np.where(filled, cols - used[:, ::-1].argmax(axis=1), 0)
        band = max(1, int((end - first).max(initial=0)))
        start = np.minimum(first, cols - band).astype(np.int32)
        weights = np.take_along_axis(dense, start[:, None] + np.arange(band)[None, :], axis=1)
        return cls(rows, cols, band, start, np.ascontiguousarray(weights))

    def to_dense(self) -> Matrix:
        """The (rows, cols) float64 matrix of these weights."""
        matrix = np.zeros((self.rows, self.cols))
        np.put_along_axis(
            matrix,
            self.start[:, None] + np.arange(self.band)[None, :],
            self.weights.astype(np.float64),
            axis=1,
        )
        return matrix
