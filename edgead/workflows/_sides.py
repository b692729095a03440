"""Score the same pixels with several engines, and say how far each is from the reference."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgead.bundle.manifest import GraphParity
from edgead.errors import EngineError
from edgead.imaging.map_operator import Banded, build
from edgead.imaging.postprocess import Postprocess
from edgead.progress import Progress
from edgead.runtimes._driver import Scorer
from edgead.runtimes._pipeline import EngineScorer
from edgead.runtimes._tiled import tiled
from edgead.tiling import joined
from edgead.types import Target

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from edgead.detectors._base import Detector


@dataclass(frozen=True, slots=True)
class Side:
    """What one engine says of N images, in raw units.

    Attributes:
        scores: (N,) float64 image scores.
        map_max: (N,) float64 maxima of the maps.
        maps: (N, H, W) float32 maps after the post operator.
    """

    scores: npt.NDArray[np.float64]
    map_max: npt.NDArray[np.float64]
    maps: npt.NDArray[np.float32]


def score_side(
    scorer: Scorer,
    pixels: npt.NDArray[np.uint8],
    *,
    progress: Progress,
    name: str,
) -> Side:
    """Run `pixels` (N, H, W, 3) one by one through an open engine and the map operator."""
    import numpy as np

    scores, map_max = np.empty(len(pixels)), np.empty(len(pixels))
    maps: npt.NDArray[np.float32] | None = None
    with progress.task(name, len(pixels)) as task:
        for index in range(len(pixels)):
            scores[index], map_max[index], anomaly_map = scorer.scores_of(pixels[index : index + 1])
            if maps is None:
                maps = np.empty((len(pixels), *anomaly_map.shape), np.float32)
            maps[index] = anomaly_map
            task.advance()
    assert maps is not None, "callers give at least one image"
    return Side(scores, map_max, maps)


def check_finite(side: Side, target: Target) -> None:
    """No threshold can be set where an engine overflows."""
    import numpy as np

    failed = int((~(np.isfinite(side.scores) & np.isfinite(side.map_max))).sum())
    if failed:
        raise EngineError(
            f"{target} gives no finite score for {failed} of {len(side.scores)} images; leave it out, or try "
            "another precision"
        )


def model_side(
    detector: Detector, pixels: npt.NDArray[np.uint8], *, progress: Progress, name: str, threads: int = 0
) -> Side:
    """Run `pixels` (N, H, W, 3) through a MODEL in torch.

    Raises:
        EngineError: an image has no finite score.
    """
    from edgead.exporters.reference import TorchReference

    post = joined(detector.post_recipe, detector.geometry)
    matrix_h, matrix_w = (Banded.from_dense(matrix) for matrix in build(post))
    target = Target("torch", "fp32")
    with tiled(TorchReference(detector), detector.tiling).open(Path(), target, threads=threads) as opened:
        scorer = EngineScorer(opened, Postprocess(post, (matrix_h, matrix_w)))
        side = score_side(scorer, pixels, progress=progress, name=name)
    check_finite(side, target)
    return side


def graph_parity(reference: Side, graph: Side, images: int) -> GraphParity:
    """The graph (ONNX Runtime, fp32) beside the MODEL (torch) on the first `images`, raw units."""
    import numpy as np

    scores, maps = reference.scores[:images], reference.maps[:images]
    return GraphParity(
        images=images,
        score_shift_max=float(np.abs(graph.scores[:images] - scores).max()),
        score_range=float(np.ptp(scores)),
        map_shift_max=float(np.abs(graph.maps[:images] - maps).max()),
        map_range=float(np.ptp(maps)),
    )
