from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from edgead.errors import UsageError
from edgead.tiling import Axis, joined, laid_out, tiling_of
from edgead.types import Geometry, PostRecipe, Tiles


def ramps(axis: Axis) -> np.ndarray:
    """What tiles weigh by definition, cell by cell, in plain loops."""
    shared = axis.cells - axis.step_cells
    weights = np.zeros((axis.count, axis.cells))
    for tile in range(axis.count):
        for cell in range(axis.cells):
            before = (cell + 0.5) / shared if shared and tile > 0 else 1
            after = (axis.cells - cell - 0.5) / shared if shared and tile < axis.count - 1 else 1
            weights[tile, cell] = min(1, before, after)
    total = np.zeros(axis.grid)
    for tile in range(axis.count):
        for cell in range(axis.cells):
            total[tile * axis.step_cells + cell] += weights[tile, cell]
    for tile in range(axis.count):
        for cell in range(axis.cells):
            weights[tile, cell] /= total[tile * axis.step_cells + cell]
    return weights


@given(count=st.integers(1, 7), cells=st.integers(1, 70), data=st.data())
def test_weights_are_the_ramps_and_sum_up_to_one(count: int, cells: int, data: st.DataObject) -> None:
    step = data.draw(st.integers(1, cells)) if count > 1 else 0
    axis = Axis(count, 4 * cells, cells, 4 * step, step)
    weights = axis.weights()
    assert weights.dtype == np.float32
    np.testing.assert_allclose(weights, ramps(axis), rtol=1e-7)
    total = np.zeros(axis.grid)
    for tile in range(count):
        total[tile * step :][:cells] += weights[tile]
    np.testing.assert_allclose(total, 1, atol=2e-7)
    assert weights[0, 0] == 1
    assert weights[-1, -1] == 1
    np.testing.assert_array_equal(weights, weights[::-1, ::-1])  # neither end is preferred


def test_weights_of_a_plain_overlap() -> None:
    found = Axis(3, 32, 8, 16, 4).weights()
    np.testing.assert_array_equal(found[0], [1, 1, 1, 1, 0.875, 0.625, 0.375, 0.125])
    np.testing.assert_array_equal(found[1], [0.125, 0.375, 0.625, 0.875, 0.875, 0.625, 0.375, 0.125])
    np.testing.assert_array_equal(found[2], found[0][::-1])


def tiles(rows: int, columns: int, height: int, width: int) -> Tiles:
    return Tiles(rows=rows, columns=columns, height=height, width=width)


@pytest.mark.parametrize(
    ("size", "given_tiles", "message"),
    [
        ((448, 641), tiles(2, 3, 256, 256), "448x641 evenly; take the width 640 or 642"),
        ((513, 640), tiles(2, 3, 256, 256), "take the height 512$"),
        ((256, 640), tiles(2, 3, 256, 256), "take the height 257$"),
        ((300, 256), tiles(1, 1, 256, 256), "take the height 256$"),
        ((100, 640), tiles(1, 3, 256, 256), "take the height 256$"),
    ],
)
def test_tiles_that_do_not_fill_the_image(size: tuple[int, int], given_tiles: Tiles, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Geometry(height=size[0], width=size[1], tiles=given_tiles)


def test_tiles_go_with_the_whole_frame_only() -> None:
    for wrong in ({"window": (256, 256)}, {"mode": "shorter_side", "window": (256, 256), "width": 448}):
        with pytest.raises(UsageError, match="tiles fill the image"):
            Geometry(**{"height": 448, "width": 640, "tiles": tiles(2, 3, 256, 256), **wrong})  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="0 rows and 3 columns; give 1 to 256 of each"):
        tiles(0, 3, 256, 256)
    with pytest.raises(UsageError, match="tiles of 256x0 pixels; give sides from 1"):
        tiles(2, 3, 256, 0)


def test_a_geometry_with_tiles_comes_back_from_its_values() -> None:
    geometry = Geometry(height=448, width=640, roi=(1, 2, 3, 4), tiles=tiles(2, 3, 256, 256))
    values = {
        "height": 448,
        "width": 640,
        "roi": [1, 2, 3, 4],
        "tiles": {"rows": 2, "columns": 3, "height": 256, "width": 256},
    }
    assert Geometry.from_values(values) == geometry
    assert Geometry.from_values({**values, "tiles": None}).tiles is None
    assert geometry.resolve(1000, 3000).window == (0, 0, 448, 640)
    assert geometry.resized((96, 64)) == Geometry(height=96, width=64, roi=(1, 2, 3, 4))


RECIPE = PostRecipe(grid=(32, 32), output=(256, 256), blur_sigma=4.0, score_rule="max")


def test_the_default_layout() -> None:
    geometry = laid_out(Geometry(height=256, width=256, resampler="opencv_linear"), (2, 3), None, RECIPE)
    assert geometry == Geometry(
        height=448, width=640, resampler="opencv_linear", tiles=tiles(2, 3, 256, 256)
    )  # 64 shared
    recipe = joined(RECIPE, geometry)
    assert (recipe.grid, recipe.output) == ((56, 80), (448, 640))
    assert (recipe.blur_sigma, recipe.score_rule) == (4.0, "max")
    assert joined(RECIPE, Geometry(height=256, width=256)) is RECIPE


def test_zero_cells_around_a_tile_lie_around_the_image() -> None:
    """EfficientAD's map: 56 cells and 4 of zeros on each side are 64 cells of 4 pixels."""
    recipe = PostRecipe(grid=(56, 56), output=(256, 256), pad=(4, 4, 4, 4))
    geometry = laid_out(Geometry(height=256, width=256), (1, 2), None, recipe)
    assert geometry.image_size == (256, 448)
    found = tiling_of(geometry, recipe.grid, recipe.pad)
    assert found is not None
    assert (found.columns.step_cells, found.columns.grid) == (48, 104)  # 8 cells in common
    assert joined(recipe, geometry).grid == (56, 104)  # and 112 with its zeros: 448 / 4
    with pytest.raises(UsageError, match="take 32 or 36"):
        laid_out(Geometry(height=256, width=256), (1, 2), 34, recipe)
    with pytest.raises(UsageError, match=r"an overlap of 28 pixels .*; take 32"):
        laid_out(Geometry(height=256, width=256), (1, 2), 28, recipe)  # leaves cells without a map
    with pytest.raises(UsageError, match="let the tiles overlap by 8 cells or more"):
        tiling_of(Geometry(height=256, width=484, tiles=tiles(1, 2, 256, 256)), (56, 56), (4, 4, 4, 4))


@pytest.mark.parametrize(
    ("overlap", "near"), [(60, "56 or 64"), (65, "64 or 72"), (-8, "0"), (256, "248"), (999, "248")]
)
def test_an_overlap_between_two_cells(overlap: int, near: str) -> None:
    with pytest.raises(UsageError, match=f"an overlap of {overlap} pixels does not fit .*; take {near}$"):
        laid_out(Geometry(height=256, width=256), (2, 3), overlap, RECIPE)
    for good in map(int, near.split(" or ")):
        assert laid_out(Geometry(height=256, width=256), (2, 3), good, RECIPE).height == 512 - good


def test_too_many_tiles() -> None:
    with pytest.raises(UsageError, match=r"make an image of .* take fewer"):
        laid_out(Geometry(height=256, width=256), (256, 256), None, RECIPE)
    with pytest.raises(UsageError, match="257 rows and 1 columns; give 1 to 256 of each"):
        laid_out(Geometry(height=256, width=256), (257, 1), None, RECIPE)


def test_a_tile_between_two_cells() -> None:
    with pytest.raises(UsageError, match="between two cells; take a multiple of 8 pixels"):
        tiling_of(Geometry(height=256, width=444, tiles=tiles(1, 2, 256, 256)), (32, 32))


@given(
    tile=st.integers(1, 40).map(lambda n: 8 * n),
    cells=st.integers(1, 64),
    pad=st.integers(0, 3),
    counts=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    overlap=st.none() | st.integers(0, 64),
)
def test_every_layout_that_is_given_can_be_joined(
    tile: int, cells: int, pad: int, counts: tuple[int, int], overlap: int | None
) -> None:
    recipe = PostRecipe(grid=(cells, cells), output=(tile, tile), pad=(pad, pad, 0, 2 * pad))
    try:
        geometry = laid_out(Geometry(height=tile, width=tile), counts, overlap, recipe)
    except UsageError:
        assume(overlap is None)  # a given one may not fit, the default one must be found
        assert 2 * pad * tile / (cells + 2 * pad) > tile - tile / math.gcd(tile, cells + 2 * pad)
        return
    whole, found = joined(recipe, geometry), tiling_of(geometry, recipe.grid, recipe.pad)
    assert found is not None
    assert (found.image_size, found.grid) == (geometry.image_size, whole.grid) == (whole.output, whole.grid)
    for axis, size, grid in zip((found.rows, found.columns), whole.output, whole.grid, strict=True):
        assert (grid + 2 * pad) * tile == size * (cells + 2 * pad)  # cells have one size
        if overlap is None and axis.count > 1:
            assert axis.tile - axis.step >= tile / 4 or axis.step == tile // math.gcd(tile, cells + 2 * pad)


def test_cutting() -> None:
    found = tiling_of(Geometry(height=14, width=16, tiles=tiles(2, 3, 8, 8)), (4, 4))
    assert found is not None
    assert found.count == 6
    pixels = np.random.default_rng(0).integers(0, 256, (3, 14, 16, 3), np.uint8)
    cut = found.cut(pixels)
    assert cut.shape == (18, 8, 8, 3)
    for image in range(3):
        for row in range(2):
            for column in range(3):
                np.testing.assert_array_equal(
                    cut[6 * image + 3 * row + column],
                    pixels[image, 6 * row : 6 * row + 8, 4 * column : 4 * column + 8],
                )
