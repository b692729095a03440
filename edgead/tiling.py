"""Tiles of a larger image: where they lie, in pixels and on one common map, and how their maps are joined.

A network that sees an image tile by tile looks to all that follows like one network with a larger input and
a larger map. In overlaps the maps are mixed, each weighed less toward its tile's edge, where a network sees
least.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from edgead.errors import UsageError
from edgead.types import MAX_AREA, MAX_SIDE, Geometry, PostRecipe, Tiles

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_OVERLAP = 4
"""The default overlap is the tile's side by this. Padding in its layers disturbs a network along the edges:
the light preset's features are off by more than they vary over an image at the edge itself, by about as much
32 pixels on, by 0.4 of it 64 pixels on (benchmarks/suites/tile_edges.py). With a quarter of 256, what lies
nearer than 32 weighs less than half; a defect of up to 64 pixels lies whole in some tile; and many tiles cost
16/9 of the image. Half would cost 4."""


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis of a tiling.

    Attributes:
        count: tiles.
        tile: pixels of a tile.
        cells: map cells of a tile.
        step: pixels from a tile to the next one; 0 for one alone.
        step_cells: the same in cells.
    """

    count: int
    tile: int
    cells: int
    step: int
    step_cells: int

    @property
    def size(self) -> int:
        """Pixels of the image."""
        return self.tile + (self.count - 1) * self.step

    @property
    def grid(self) -> int:
        """Cells of the joined map."""
        return self.cells + (self.count - 1) * self.step_cells

    def weights(self) -> npt.NDArray[np.float32]:
        """(count, cells): what each tile's cells weigh in the joined map, where they sum up to 1.

        A ramp over the cells that two neighbours share: cell i of n, sharing v, weighs min(1, (i + 0.5)/v)
        from a neighbour on and as much from the other end, the lesser of the two, over the sum of what all
        tiles weigh there. In float64, rounded once; the same bits in libedgead.
        """
        import numpy as np

        shared = self.cells - self.step_cells
        ramp = np.ones(self.cells)
        if shared > 0:
            ramp = np.minimum((np.arange(self.cells) + 0.5) / shared, 1.0)
        found = np.ones((self.count, self.cells))
        found[1:] = np.minimum(found[1:], ramp)
        found[:-1] = np.minimum(found[:-1], ramp[::-1])
        total = np.zeros(self.grid)
        for tile, own in enumerate(found):
            total[tile * self.step_cells :][: self.cells] += own
        for tile, own in enumerate(found):
            own /= total[tile * self.step_cells :][: self.cells]
        return found.astype(np.float32)


@dataclass(frozen=True, slots=True)
class Tiling:
    """Tiles of an image, from its top left, row by row."""

    rows: Axis
    columns: Axis

    @property
    def count(self) -> int:
        """How many tiles."""
        return self.rows.count * self.columns.count

    @property
    def image_size(self) -> tuple[int, int]:
        """(H, W) of the image."""
        return self.rows.size, self.columns.size

    @property
    def grid(self) -> tuple[int, int]:
        """(h, w) of the joined map."""
        return self.rows.grid, self.columns.grid

    def cut(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """(N, H, W, 3) images to the tiles of the first, then of the second, …: (N · count, h, w, 3)."""
        import numpy as np

        rows, columns = self.rows, self.columns
        tiles = np.empty((len(pixels), rows.count, columns.count, rows.tile, columns.tile, 3), np.uint8)
        for row in range(rows.count):
            for column in range(columns.count):
                y, x = row * rows.step, column * columns.step
                tiles[:, row, column] = pixels[:, y : y + rows.tile, x : x + columns.tile]
        return tiles.reshape(-1, rows.tile, columns.tile, 3)


def tiling_of(
    geometry: Geometry, grid: tuple[int, int], pad: tuple[int, int, int, int] = (0, 0, 0, 0)
) -> Tiling | None:
    """The tiles of `geometry` on one common map; None where it has none.

    Args:
        geometry: of the image and its tiles.
        grid: (h, w) of a tile's map.
        pad: cells of a tile beyond its map, see `PostRecipe`.

    Raises:
        UsageError: the maps of the tiles do not fall on common cells, or leave gaps between them.
    """
    tiles = geometry.tiles
    if tiles is None:
        return None
    steps = tiles.steps(geometry.height, geometry.width)
    axes = zip(
        ("height", "width"),
        (tiles.rows, tiles.columns),
        (tiles.height, tiles.width),
        grid,
        steps,
        (sum(pad[:2]), sum(pad[2:])),
        strict=True,
    )
    rows, columns = (_axis(*values) for values in axes)
    return Tiling(rows, columns)


def _axis(name: str, count: int, tile: int, cells: int, step: int, pad: int) -> Axis:
    if step * (cells + pad) % tile:
        raise UsageError(
            f"tiles: a map of {cells + pad} cells for {tile} pixels of {name}, and the next tile {step} "
            f"pixels on, between two cells; take a multiple of {tile // math.gcd(tile, cells + pad)} pixels"
        )
    step_cells = step * (cells + pad) // tile
    if step_cells > cells:
        raise UsageError(
            f"tiles: the map of a tile has {cells} cells along its {name}, the next one begins {step_cells} "
            f"cells on; let the tiles overlap by {pad} cells or more"
        )
    return Axis(count, tile, cells, step, step_cells)


def joined(recipe: PostRecipe, geometry: Geometry) -> PostRecipe:
    """The recipe for the joined map, of a network's `recipe` for one tile; the same without tiles.

    Raises:
        UsageError: as `tiling_of`, or the shown map does not fall on whole pixels.
    """
    tiling = tiling_of(geometry, recipe.grid, recipe.pad)
    if tiling is None:
        return recipe
    output = []
    for axis, shown in zip((tiling.rows, tiling.columns), recipe.output, strict=True):
        if axis.step * shown % axis.tile:
            raise UsageError(
                f"tiles: {axis.step} pixels from one to the next are no whole pixels of the map of {shown} "
                f"for {axis.tile}; take a multiple of {axis.tile // math.gcd(axis.tile, shown)} pixels"
            )
        output.append(axis.size * shown // axis.tile)
    return replace(recipe, grid=tiling.grid, output=(output[0], output[1]))


def laid_out(geometry: Geometry, tiles: tuple[int, int], overlap: int | None, recipe: PostRecipe) -> Geometry:
    """An image of `tiles` = (rows, columns) tiles, each as large as `geometry` is now.

    Args:
        geometry: of one tile; its resampler and ROI stay.
        tiles: how many, one below and one beside the other.
        overlap: pixels that neighbours share; None = a quarter of a tile's side, or a little more.
        recipe: of one tile's map.

    Raises:
        UsageError: a number is out of range, or tiles with that overlap do not fall on a common map;
            says what would.
    """
    rows, columns = tiles
    height, width = geometry.input_size
    own = Tiles(rows=rows, columns=columns, height=height, width=width)
    axes = (
        (rows, height, recipe.grid[0], sum(recipe.pad[:2]), recipe.output[0]),
        (columns, width, recipe.grid[1], sum(recipe.pad[2:]), recipe.output[1]),
    )
    sizes = [
        tile + (count - 1) * (tile - _overlap(tile, cells, pad, shown, overlap) if count > 1 else 0)
        for count, tile, cells, pad, shown in axes
    ]
    if max(sizes) > MAX_SIDE or math.prod(sizes) > MAX_AREA:
        raise UsageError(
            f"{own} make an image of {sizes[0]}x{sizes[1]} pixels; at most {MAX_SIDE:,} a side and "
            f"{MAX_AREA:,} in all can be, so take fewer"
        )
    return replace(geometry, height=sizes[0], width=sizes[1], mode="exact", window=None, tiles=own)


def _overlap(tile: int, cells: int, pad: int, shown: int, wanted: int | None) -> int:
    """`wanted` pixels, or the least from the default on, of those that put the next tile on whole cells."""
    unit = math.lcm(tile // math.gcd(tile, cells + pad), tile // math.gcd(tile, shown))
    valid = [tile - step for step in range(unit, tile + 1, unit) if step * (cells + pad) <= tile * cells]
    if not valid:
        raise UsageError(
            f"tiles of {tile} pixels have a map of {cells} cells, which does not join; resize them"
        )
    if wanted is None:
        return min((one for one in valid if one * _OVERLAP >= tile), default=valid[0])
    if wanted not in valid:
        below, above = [one for one in valid if one < wanted], [one for one in valid if one > wanted]
        near = [*(str(max(below)) for _ in below[:1]), *(str(min(above)) for _ in above[:1])]
        raise UsageError(
            f"an overlap of {wanted} pixels does not fit tiles of {tile} whose map has {cells} cells; "
            f"take {' or '.join(near)}"
        )
    return wanted
