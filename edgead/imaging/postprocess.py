"""From raw maps to score, map, mask, heatmap and regions: the recipe's view of the fused post kernel."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgead._native._library import ALL_CPU_FEATURES
from edgead._native.postprocessor import Postprocessor
from edgead.errors import UsageError
from edgead.imaging.map_operator import Banded, build
from edgead.types import Geometry, PostRecipe, Region, Thresholds


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PostOutput:
    """What one raw map says.

    Attributes:
        score_raw: by the recipe's score rule, raw units; NaN where the raw map holds a NaN: ERROR, never OK.
        map_max: highest value of `anomaly_map`; NaN where that holds a NaN.
        anomaly_map: (H, W) float32, raw units.
        mask: (H, W) uint8, 255 where the map is at or above the pixel threshold, 0 elsewhere and at NaN.
        heatmap: (H, W) uint8, `Thresholds.display_range` on 0 … 255, clamped; 0 at NaN.
        regions: in MAP pixels, highest peak first.
        regions_total: how many regions of at least the minimum area there are, in `regions` or not.
    """

    score_raw: float
    map_max: float
    anomaly_map: npt.NDArray[np.float32]
    mask: npt.NDArray[np.uint8]
    heatmap: npt.NDArray[np.uint8]
    regions: tuple[Region, ...]
    regions_total: int


class Postprocess:
    """A recipe made ready. Not for concurrent use: one instance per thread."""

    def __init__(
        self,
        recipe: PostRecipe,
        operator: tuple[Banded, Banded] | None = None,
        *,
        cpu_mask: int = ALL_CPU_FEATURES,
    ) -> None:
        """Build the operator and the native plan.

        Args:
            recipe: what to do.
            operator: (M_h, M_w) as stored with a bundle; None builds them from the recipe.
            cpu_mask: instruction sets that the kernel may use, for tests.

        Raises:
            UsageError: the recipe or the operator does not fit together.
        """
        if len(recipe.alpha) != recipe.channels:
            raise UsageError(f"post recipe: {len(recipe.alpha)} alphas for {recipe.channels} channels")
        if operator is None:
            dense_h, dense_w = build(recipe)
            operator = Banded.from_dense(dense_h), Banded.from_dense(dense_w)
        if (operator[0].rows, operator[1].rows) != tuple(recipe.output):
            raise UsageError(
                f"post recipe: output {recipe.output}, operator of {operator[0].rows}×{operator[1].rows}"
            )
        self._recipe = recipe
        self._raw_shape = (recipe.channels, *recipe.grid)
        self._kernel = Postprocessor(
            recipe.grid,
            *operator,
            alpha=recipe.alpha,
            gamma=recipe.gamma,
            gamma_stage=recipe.gamma_stage,
            score_rule=recipe.score_rule,
            top_k=recipe.top_k,
            cpu_mask=cpu_mask,
        )

    @property
    def recipe(self) -> PostRecipe:
        """What was made ready."""
        return self._recipe

    def __call__(
        self,
        raw: npt.NDArray[np.float32],
        thresholds: Thresholds,
        graph_score: float | None = None,
        max_regions: int = 64,
        min_area: int = 1,
    ) -> PostOutput:
        """Everything that the decision and the display need, in one pass.

        Args:
            raw: (K, h, w) float32, as the engine gives it.
            thresholds: `pixel` for the mask and the regions, `display_range` for the heatmap.
            graph_score: the graph's own image score, for the rule ``graph``.
            max_regions: at most so many regions, those with the highest peaks.
            min_area: smaller regions are left out, in map pixels.

        Raises:
            UsageError: `raw` has another shape or type than the recipe, or the graph's score is missing.
        """
        shape = self._kernel.map_shape
        anomaly_map = np.empty(shape, np.float32)
        mask = np.empty(shape, np.uint8)
        heatmap = np.empty(shape, np.uint8)
        found = self._kernel.run(
            self._checked(raw),
            anomaly_map=anomaly_map,
            mask=mask,
            heatmap=heatmap,
            max_regions=max_regions,
            pixel_threshold=thresholds.pixel,
            heatmap_range=heatmap_range(thresholds),
            graph_score=self._graph_score(graph_score),
            min_area=min_area,
        )
        return PostOutput(
            score_raw=found.score_raw,
            map_max=found.map_max,
            anomaly_map=anomaly_map,
            mask=mask,
            heatmap=heatmap,
            regions=found.regions,
            regions_total=found.regions_total,
        )

    def scores(
        self, raw: npt.NDArray[np.float32], graph_score: float | None = None
    ) -> tuple[float, float, npt.NDArray[np.float32]]:
        """(score_raw, map_max, anomaly_map), for calibration: no thresholds are needed.

        Raises:
            UsageError: as for a call.
        """
        anomaly_map = np.empty(self._kernel.map_shape, np.float32)
        found = self._kernel.run(
            self._checked(raw), anomaly_map=anomaly_map, graph_score=self._graph_score(graph_score)
        )
        return found.score_raw, found.map_max, anomaly_map

    def _checked(self, raw: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        if raw.shape != self._raw_shape or raw.dtype != np.float32:
            raise UsageError(
                f"raw map of {raw.shape} {raw.dtype}; the recipe takes {self._raw_shape} float32"
            )
        return np.ascontiguousarray(raw)

    def _graph_score(self, score: float | None) -> float:
        if self._recipe.score_rule != "graph":
            return 0.0
        if score is None:
            raise UsageError("post recipe: the score rule is 'graph', but the engine gave no image_score")
        return float(score)


class RegionFinder:
    """Regions of maps that something else made, by the kernel that makes them for `Postprocess`.

    Args:
        map_size: (H, W).
    """

    def __init__(self, map_size: tuple[int, int]) -> None:
        rows, columns = (Banded.from_dense(np.eye(side)) for side in map_size)
        self._kernel = Postprocessor(map_size, rows, columns)  # the map is its own operator's output

    def __call__(
        self, anomaly_map: npt.NDArray[np.float32], thresholds: Thresholds, max_regions: int = 64
    ) -> tuple[Region, ...]:
        """In map pixels, highest peak first.

        Args:
            anomaly_map: (H, W) float32, raw units.
            thresholds: `pixel` counts.
            max_regions: at most so many.
        """
        found = self._kernel.run(anomaly_map, max_regions=max_regions, pixel_threshold=thresholds.pixel)
        return found.regions


def heatmap_range(thresholds: Thresholds) -> tuple[float, float]:
    """`display_range`; where it is empty (threshold not above the median), a step at the pixel threshold."""
    low, high = (float(np.float32(limit)) for limit in thresholds.display_range)
    if low < high:
        return low, high
    step = np.float32(thresholds.pixel)
    below, above = np.nextafter(step, np.float32(-math.inf)), np.nextafter(step, np.float32(math.inf))
    return float(below), float(above)


def map_to_frame(
    box: tuple[int, int, int, int],
    map_size: tuple[int, int],
    geometry: Geometry,
    frame_size: tuple[int, int],
) -> tuple[int, int, int, int]:
    """A box of map pixels as the smallest box of whole frame pixels that covers it.

    The map covers the network's window, whatever the map's resolution. Edges scale exactly (in integers), are
    rounded outward, and clipped to the ROI, which is the frame where the geometry has none.

    Args:
        box: (x, y, w, h) in map pixels.
        map_size: (H, W) of the map.
        geometry: how the frame became the network's pixels.
        frame_size: (height, width) of the frame.

    Returns:
        (x, y, w, h) in frame pixels.
    """
    roi_x, roi_y, roi_w, roi_h = geometry.roi or (0, 0, frame_size[1], frame_size[0])
    resolved = geometry.resolve(roi_h, roi_w)
    top, left, height, width = resolved.window
    x, w = _edges(box[0], box[2], map_size[1], left, width, resolved.width, roi_w)
    y, h = _edges(box[1], box[3], map_size[0], top, height, resolved.height, roi_h)
    return roi_x + x, roi_y + y, w, h


def _edges(
    first: int, size: int, map_size: int, offset: int, window: int, resized: int, source: int
) -> tuple[int, int]:
    """One axis: map position p lies at (offset + p·window/map_size)·source/resized."""
    scale = map_size * resized
    begin = (offset * map_size + first * window) * source // scale
    end = -(-(offset * map_size + (first + size) * window) * source // scale)
    begin, end = max(begin, 0), min(end, source)
    return begin, end - begin


def region_to_frame(
    region: Region, map_size: tuple[int, int], geometry: Geometry, frame_size: tuple[int, int]
) -> Region:
    """The region with its box and area in frame pixels (area: scaled and rounded, at least 1)."""
    roi_w, roi_h = (geometry.roi or (0, 0, frame_size[1], frame_size[0]))[2:]
    resolved = geometry.resolve(roi_h, roi_w)
    cell = (resolved.window[2] * roi_h) / (map_size[0] * resolved.height)
    cell *= (resolved.window[3] * roi_w) / (map_size[1] * resolved.width)
    return Region(
        map_to_frame(region.box, map_size, geometry, frame_size),
        max(1, round(region.area * cell)),
        region.peak,
    )
