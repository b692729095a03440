"""The map operator against scipy.ndimage and an explicit bilinear formula, and by its properties."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from edgead.errors import UsageError
from edgead.imaging.map_operator import Banded, build, gaussian_matrix, upsample_matrix
from edgead.types import PostRecipe

BORDERS = ("reflect", "mirror", "nearest")


def bilinear(grid: np.ndarray, height: int, width: int) -> np.ndarray:
    """align_corners=False by map_coordinates: sample at (i + 0.5)·n/N − 0.5, the edge repeated."""
    y = (np.arange(height) + 0.5) * grid.shape[0] / height - 0.5
    x = (np.arange(width) + 0.5) * grid.shape[1] / width - 0.5
    return ndimage.map_coordinates(grid, np.meshgrid(y, x, indexing="ij"), order=1, mode="nearest")


@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("sigma", [0.3, 1.0, 4.0, 7.5])
@pytest.mark.parametrize("size", [1, 2, 3, 5, 16, 40])
def test_gaussian_is_scipys_at_every_radius(border: str, sigma: float, size: int) -> None:
    lines = np.random.default_rng(size).normal(size=(size, 3))
    expected = ndimage.gaussian_filter1d(lines, sigma, axis=0, mode=border)
    np.testing.assert_allclose(
        gaussian_matrix(size, sigma, 4.0, border) @ lines, expected, rtol=0, atol=1e-13
    )


@pytest.mark.parametrize("truncate", [0.0, 1.0, 2.6, 4.0])
def test_gaussian_truncates_as_scipy(truncate: float) -> None:
    line = np.random.default_rng(0).normal(size=30)
    expected = ndimage.gaussian_filter1d(line, 2.0, truncate=truncate)
    np.testing.assert_allclose(
        gaussian_matrix(30, 2.0, truncate, "reflect") @ line, expected, rtol=0, atol=1e-14
    )


@pytest.mark.parametrize("sizes", [(1, 1), (1, 9), (2, 3), (7, 56), (36, 288), (5, 12), (9, 4)])
def test_bilinear_is_align_corners_false(sizes: tuple[int, int]) -> None:
    cells, pixels = sizes
    grid = np.random.default_rng(1).normal(size=(cells, 3))
    expected = bilinear(grid, pixels, 3)
    np.testing.assert_allclose(
        upsample_matrix(cells, pixels, "bilinear") @ grid, expected, rtol=0, atol=1e-14
    )


@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
@pytest.mark.parametrize("sizes", [(4, 9), (7, 56), (13, 100), (9, 4), (21, 224), (28, 225)])
def test_upsampling_is_torchs(mode: str, sizes: tuple[int, int]) -> None:
    torch = pytest.importorskip("torch")
    grid = np.random.default_rng(2).normal(size=(1, 1, sizes[0], 1))
    corners = {} if mode == "nearest" else {"align_corners": False}
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(grid), size=(sizes[1], 1), mode=mode, **corners
    )
    found = upsample_matrix(*sizes, mode) @ grid[0, 0]
    np.testing.assert_allclose(found, expected.numpy()[0, 0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("pad", [(0, 0, 0, 0), (2, 1, 0, 3)])
def test_build_is_pad_then_upsample_then_blur(border: str, pad: tuple[int, int, int, int]) -> None:
    recipe = PostRecipe(
        grid=(6, 9), output=(50, 66), pad=pad, blur_sigma=3.0, blur_truncate=3.0, border=border
    )
    grid = np.random.default_rng(3).normal(size=recipe.grid)
    padded = np.pad(grid, ((pad[0], pad[1]), (pad[2], pad[3])))
    expected = ndimage.gaussian_filter(bilinear(padded, 50, 66), 3.0, mode=border, truncate=3.0)
    rows, cols = build(recipe)
    assert rows.shape == (50, 6)
    assert cols.shape == (66, 9)
    np.testing.assert_allclose(rows @ grid @ cols.T, expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("upsample", ["none", "nearest", "bilinear"])
@pytest.mark.parametrize("border", BORDERS)
def test_a_constant_stays_constant_without_padding(upsample: str, border: str) -> None:
    output = (7, 8) if upsample == "none" else (61, 47)
    recipe = PostRecipe(grid=(7, 8), output=output, upsample=upsample, blur_sigma=4.0, border=border)
    for matrix in build(recipe):
        np.testing.assert_allclose(matrix.sum(axis=1), 1.0, rtol=0, atol=1e-14)
        assert (matrix >= 0).all()


def test_padding_brings_in_zeros() -> None:
    recipe = PostRecipe(grid=(3, 3), output=(5, 5), pad=(1, 1, 2, 0), upsample="none")
    rows, cols = build(recipe)
    np.testing.assert_array_equal(rows, np.eye(5)[:, 1:4])
    np.testing.assert_array_equal(cols, np.eye(5)[:, 2:5])


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"grid": (0, 3)}, "sizes"),
        ({"output": (5, 0)}, "sizes"),
        ({"pad": (0, -1, 0, 0)}, "sizes"),
        ({"upsample": "none"}, "cannot turn 3 cells into 9"),
        ({"upsample": "cubic"}, "'cubic' is unknown"),
        ({"blur_sigma": -1.0}, "sigma -1.0"),
        ({"blur_sigma": float("nan")}, "sigma nan"),
        ({"blur_sigma": 1.0, "blur_truncate": float("inf")}, "truncate inf"),
        ({"blur_sigma": 1.0, "border": "wrap"}, "'wrap' is unknown"),
    ],
)
def test_a_recipe_that_cannot_be_is_refused(change: dict[str, object], part: str) -> None:
    with pytest.raises(UsageError, match=part):
        build(PostRecipe(**{"grid": (3, 3), "output": (9, 9), **change}))  # type: ignore[arg-type]


def test_banded_keeps_all_that_is_not_zero() -> None:
    for recipe in (
        PostRecipe(grid=(36, 20), output=(288, 160), blur_sigma=4.0),
        PostRecipe(grid=(5, 5), output=(40, 40), pad=(1, 1, 1, 1), upsample="nearest"),
        PostRecipe(grid=(9, 9), output=(9, 9), upsample="none"),
    ):
        for dense in build(recipe):
            banded = Banded.from_dense(dense)
            np.testing.assert_array_equal(banded.to_dense(), dense.astype(np.float32))
            assert banded.start.min() >= 0
            assert (banded.start + banded.band <= banded.cols).all()


def test_the_band_is_as_narrow_as_the_blur_allows() -> None:
    # 33 taps on 8-fold bilinear cells reach (33 + 8 + 7) / 8 cells at most.
    dense, _ = build(PostRecipe(grid=(36, 36), output=(288, 288), blur_sigma=4.0))
    assert Banded.from_dense(dense).band == 6
    assert Banded.from_dense(np.zeros((4, 3))).band == 1


@pytest.mark.parametrize(
    "fields",
    [
        (2, 3, 1, np.zeros(3, np.int32), np.ones((2, 1), np.float32)),
        (2, 3, 4, np.zeros(2, np.int32), np.ones((2, 4), np.float32)),
        (2, 3, 0, np.zeros(2, np.int32), np.ones((2, 0), np.float32)),
        (2, 3, 1, np.zeros(2, np.int64), np.ones((2, 1), np.float32)),
        (2, 3, 2, np.array([0, 2], np.int32), np.ones((2, 2), np.float32)),
        (2, 3, 2, np.array([-1, 0], np.int32), np.ones((2, 2), np.float32)),
    ],
)
def test_a_banded_matrix_that_leaves_its_columns_is_refused(fields: tuple[object, ...]) -> None:
    with pytest.raises(UsageError, match="banded matrix"):
        Banded(*fields)  # type: ignore[arg-type]
