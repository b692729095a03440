"""How far a tile's edge disturbs what a network sees: the ground of `edgead train --tiles`' default overlap.

    python benchmarks/suites/tile_edges.py DATA [--preset patchcore] [--side 256] [--images 8] [--json]

Patch features of the middle tile of an image of three by three sides, against those of the same place where
the network sees the whole image: root mean square by distance from the tile's edge, as a share of their
deviation over the image. DATA: a folder of images. No bar: the figures are reported.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgead.benchmarks.environment import record
from edgead.cli._progress import RichProgress
from edgead.data.folder import list_images
from edgead.detectors import _registry
from edgead.discovery import load
from edgead.imaging.frame import read_image
from edgead.imaging.preprocess import Preprocess
from edgead.types import Geometry


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    """A row per ring of cells, the outermost first."""
    side = options.side
    preset = _registry.preset(options.preset)
    config = {**preset["config"], "geometry": asdict(Geometry(height=side, width=side))}
    network: Any = _registry.detector_class(preset["detector"]).from_config(config).eval()
    load("edgead.training", preset["detector"], kind="training recipe").load_frozen(
        network, None, progress=RichProgress()
    )
    preprocess = Preprocess(Geometry(height=3 * side, width=3 * side))
    rows, columns = network.grid
    ring = np.minimum.outer(
        *(np.minimum(np.arange(cells), np.arange(cells)[::-1]) for cells in (rows, columns))
    )
    squares, deviation = np.zeros((rows, columns)), 0.0
    files = list_images(options.data)[: options.images]
    for file in files:
        image = torch.from_numpy(preprocess(read_image(file))[None])
        with torch.inference_mode():
            whole = network.embed(image)[0, rows : 2 * rows, columns : 2 * columns].numpy()
            tile = network.embed(image[:, side : 2 * side, side : 2 * side].contiguous())[0].numpy()
        squares += np.square(tile - whole, dtype=np.float64).mean(-1) / len(files)
        deviation += float(np.square(whole - whole.mean((0, 1)), dtype=np.float64).mean()) / len(files)
    return [
        {
            "pixels": [index * side // rows, (index + 1) * side // rows],
            "off": float(np.sqrt(squares[ring == index].mean() / deviation)),
        }
        for index in range(int(ring.max()) + 1)
    ]


def main() -> int:
    """Measure and print a table or JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="a folder of images")
    parser.add_argument("--preset", default="patchcore", help="patchcore or simplenet, or a variant")
    parser.add_argument("--side", type=int, default=256, help="of a tile, in pixels")
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = measure(options)
    environment = record()
    if options.json:
        values = {"preset": options.preset, "side": options.side, "rings": found, "passed": True}
        print(json.dumps(values | {"environment": asdict(environment)}))
        return 0
    print(f"{options.preset}, tiles of {options.side} pixels; {environment.cpu}")
    for row in found:
        print(f"{row['pixels'][0]:4} to {row['pixels'][1]:4} pixels from the edge: off by {row['off']:.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
