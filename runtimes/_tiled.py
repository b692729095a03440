"""An engine that sees tiles, behind the interface of one that sees the whole image."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edgead.errors import EngineError
from edgead.runtimes._base import Availability, RawOutput, Runtime
from edgead.tiling import Tiling
from edgead.types import Rest, Target

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


def tiled(runtime: Runtime, tiling: Tiling | None) -> Runtime:
    """`runtime`, not opened yet, for the images of `tiling`; itself where there are no tiles."""
    return runtime if tiling is None else TiledRuntime(runtime, tiling)


class TiledRuntime(Runtime):
    """Runs another runtime once per tile, and joins the maps.

    The joined map is the sum of each tile's weight of a cell, in float32, times its value, the tiles in their
    order: the same bits as `engines/tiled.cpp` of libedgead. `image_score`, where the graph gives one, is the
    highest of the tiles', and NaN where one is.
    """

    engine = ""  # and precisions: those of the runtime behind
    precisions = ()

    def __init__(self, runtime: Runtime, tiling: Tiling) -> None:
        super().__init__()
        self._runtime, self._tiling = runtime, tiling

    @classmethod
    def availability(cls) -> Availability:
        """That of the runtime behind it counts."""
        return Availability(True)

    def open(self, graph: Path, target: Target, *, threads: int = 0, rest: Rest = "fp32") -> Runtime:
        """As the runtime behind does it; the graph takes one tile."""
        self._rest = rest
        self._input_shape = self.open_impl(graph, target, threads)
        return self

    def open_impl(self, graph: Path, target: Target, threads: int) -> tuple[int, int, int, int]:
        """Open the runtime behind, and make room for a tile and the map."""
        import numpy as np

        rows, columns = self._tiling.rows, self._tiling.columns
        shape = self._runtime.open(graph, target, threads=threads, rest=self._rest).input_shape
        if shape != (1, rows.tile, columns.tile, 3):
            self._runtime.close()
            raise EngineError(
                f"{graph.name} takes {shape}, its tiles are one by one of {rows.tile}x{columns.tile} pixels"
            )
        self._tile = np.empty(shape, np.uint8)
        self._weights = [(down[:, None], across) for down in rows.weights() for across in columns.weights()]
        self._map: npt.NDArray[np.float32] | None = None
        return (1, *self._tiling.image_size, 3)

    def infer_impl(self, image: npt.NDArray[np.uint8]) -> RawOutput:
        """Tile by tile, row by row."""
        import numpy as np

        rows, columns = self._tiling.rows, self._tiling.columns
        scores = []
        for index, (down, across) in enumerate(self._weights):
            row, column = divmod(index, columns.count)
            y, x = row * rows.step, column * columns.step
            self._tile[0] = image[0, y : y + rows.tile, x : x + columns.tile]
            found = self._runtime.infer(self._tile)
            if self._map is None:
                self._map = np.empty((*found.anomaly_map.shape[:2], *self._tiling.grid), np.float32)
            if index == 0:
                self._map.fill(0)
            y, x = row * rows.step_cells, column * columns.step_cells
            self._map[..., y : y + rows.cells, x : x + columns.cells] += (down * across) * found.anomaly_map
            if found.image_score is not None:
                scores.append(found.image_score.copy())
        assert self._map is not None
        return RawOutput(self._map, np.max(scores, axis=0) if scores else None)

    def close_impl(self) -> None:
        """Close the runtime behind."""
        self._runtime.close()
