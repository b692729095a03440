"""How bundle_v2.edgead was made: the network of v1 on tiles. Run: python make_bundle_v2.py NEW_FOLDER

2×3 tiles of 8×8 on an image of 14×16: of their 4×4 grids one row and two columns are shared, the weights
there are 1/2, and 1/4 and 3/4, so that the joined grid is, exactly, that of block sums over the whole image.
The bundle beside this file must stay readable for ever.
"""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgead.bundle.hashes import sha256_bytes
from edgead.bundle.manifest import GoldenExpectation, GoldenImage, Manifest
from edgead.bundle.reader import BandedArrays, open_bundle
from edgead.bundle.writer import BundleWriter
from edgead.types import Geometry, PostRecipe, Thresholds, Tiles

HERE = Path(__file__).parent
_SPEC = importlib.util.spec_from_file_location("make_bundle_v1", HERE / "make_bundle_v1.py")
assert _SPEC is not None
assert _SPEC.loader is not None
v1 = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(v1)

SIZE = (14, 16)


def images() -> dict[str, npt.NDArray[np.uint8]]:
    """A good image, and the same with a bright 2×2 block in the row that two tiles share."""
    y, x, c = np.mgrid[: SIZE[0], : SIZE[1], :3]
    good = ((7 * x + 13 * y + 3 * c) % 97).astype(np.uint8)
    defect = good.copy()
    defect[6:8, 4:6] = 255
    return {"good": good, "synthetic_defect": defect}


def grid_of(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """The joined map, exact."""
    height, width = image.shape[0] // 2, image.shape[1] // 2
    return image.astype(np.float64).reshape(height, 2, width, 2, 3).sum((1, 3, 4)) / 16


def operator(cells: int) -> BandedArrays:
    """2× bilinear: row r looks at (r - 0.5)/2, between the grid cells beside it."""
    start = np.clip((np.arange(2 * cells) - 1) // 2, 0, cells - 2).astype(np.int32)
    place = np.clip((np.arange(2 * cells) - 0.5) / 2, 0, cells - 1) - start
    return BandedArrays(2 * cells, cells, 2, start, np.stack([1 - place, place], 1).astype(np.float32))


def dense(banded: BandedArrays) -> npt.NDArray[np.float64]:
    """The operator as a matrix."""
    matrix = np.zeros((banded.rows, banded.cols))
    for row, (first, weights) in enumerate(zip(banded.start, banded.weights, strict=True)):
        matrix[row, first : first + 2] = weights
    return matrix


def map_of(grid: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """The operator applied to the grid, exact in float32."""
    h, w = (dense(operator(cells)) for cells in grid.shape)
    return (h @ grid @ w.T).astype(np.float32)


def build(path: Path) -> str:
    """Write the bundle and return its digest."""
    with open_bundle(HERE / "bundle_v1.edgead") as old:
        first = old.manifest
    with BundleWriter(path) as writer:
        writer.add_file("graph.onnx", v1.graph())
        golden, scores, peaks, ranges = [], [], [], []
        for kind, image in images().items():
            grid = grid_of(image)
            scores.append(float(grid.max()))
            peaks.append(float(map_of(grid).max()))
            ranges.append(float(np.ptp(grid)))
            writer.add_file(f"golden/{kind}.png", v1.png(image))
            writer.add_map(f"golden/{kind}.map.f32", map_of(grid))
            expected = tuple(
                GoldenExpectation(target=target, score_raw=scores[-1], map_file=f"golden/{kind}.map.f32")
                for target in v1.TARGETS
            )
            golden.append(GoldenImage(file=f"golden/{kind}.png", kind=kind, expected=expected))
        limits = Thresholds(
            image=sum(scores) / 2,
            pixel=sum(peaks) / 2,
            image_median=scores[0],
            pixel_median=peaks[0],
            method={"rule": "midway", "images": 2},
        )
        held_out = (sha256_bytes(v1.png(images()["good"])),)
        parity = replace(first.provenance.graph_parity, map_range=ranges[0])
        manifest: Manifest = replace(
            first,
            schema=2,
            geometry=Geometry(
                height=SIZE[0], width=SIZE[1], tiles=Tiles(rows=2, columns=3, height=8, width=8)
            ),
            post=PostRecipe(grid=(7, 8), output=SIZE),
            operator=writer.add_operator(operator(7), operator(8)),
            targets=tuple(replace(entry, thresholds=limits) for entry in first.targets),
            reference=limits,
            golden=tuple(golden),
            reports=(),
            provenance=replace(first.provenance, held_out=held_out, graph_parity=parity),
        )
        return writer.finish(manifest)


if __name__ == "__main__":
    build(Path(sys.argv[1]))
