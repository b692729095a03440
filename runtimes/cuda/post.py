"""Launches of post.cu: from raw maps in device memory to scores, maps, masks and heatmaps."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from edgead._native.postprocessor import SCORE_RULES
from edgead.errors import UsageError
from edgead.imaging.map_operator import Banded
from edgead.runtimes.cuda._device import Device, constant
from edgead.types import PostRecipe, Thresholds

if TYPE_CHECKING:
    import numpy.typing as npt

RawType = Literal["float32", "float16"]

# As post.cu has them.
_EXPAND_THREADS, _ROWS_THREADS, _ROWS_PER_BLOCK, _SELECT_THREADS, _SELECT_BINS = 128, 128, 4, 256, 2048
_SELECT_VALUES = 16  # of the map per thread and pass
_SELECT_BLOCKS = 256  # at most, of one image
_LIMITS_BYTES, _STATE_BYTES, _RESULT_BYTES = 12, 28, 8
_SPAN = np.dtype([("first", "<u4"), ("count", "<u4"), ("weights", "<u4")])
_TOP_K = ("top_k_sum", "top_k_mean")


class PostParams(ctypes.Structure):
    """`PostParams` of post.cu."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("raw", "alpha", "columns", "rows")),
        *((name, ctypes.c_void_p) for name in ("column_weights", "row_weights", "limits", "graph_score")),
        *((name, ctypes.c_void_p) for name in ("expanded", "map", "mask", "heatmap")),
        *((name, ctypes.c_void_p) for name in ("state", "result", "histogram", "sums")),
        *(
            (name, ctypes.c_uint32)
            for name in ("channels", "grid_height", "grid_width", "map_height", "map_width")
        ),
        *((name, ctypes.c_uint32) for name in ("score_rule", "top_k")),
        *((name, ctypes.c_float) for name in ("gamma_before", "gamma_after")),
    )


class SelectParams(ctypes.Structure):
    """`SelectParams` of post.cu."""

    _fields_ = (("post", PostParams), ("pass", ctypes.c_uint32))


@dataclass(frozen=True, slots=True, eq=False)
class PostFound:
    """What one run says of one image, in host memory; None = not wanted.

    Attributes:
        score_raw: as `edgead.imaging.postprocess.PostOutput` has it.
        map_max: as there.
        anomaly_map: (H, W) float32.
        mask: (H, W) uint8.
        heatmap: (H, W) uint8.
    """

    score_raw: float
    map_max: float
    anomaly_map: npt.NDArray[np.float32] | None
    mask: npt.NDArray[np.uint8] | None
    heatmap: npt.NDArray[np.uint8] | None


class CudaPost:
    """A recipe made ready on a device, bit for bit what `Postprocess` gives of the same raw maps.

    Regions are not looked for here: they are found on the host, in maps that have any.
    """

    def __init__(
        self,
        device: Device,
        recipe: PostRecipe,
        operator: tuple[Banded, Banded],
        *,
        images: int = 1,
        raw_type: RawType = "float32",
        anomaly_map: bool = True,
        mask: bool = True,
        heatmap: bool = True,
    ) -> None:
        """Put the operator on the device and take the memory that runs need.

        Args:
            device: where to run.
            recipe: what to do.
            operator: (M_h, M_w).
            images: N, of a batch.
            raw_type: of the engine's map.
            anomaly_map: whether runs bring the map to the host.
            mask: likewise; what is not wanted is not computed.
            heatmap: likewise.

        Raises:
            UsageError: recipe and operator do not fit, or the rule is unknown.
            EngineError: not enough device memory.
        """
        rows, columns = operator
        height, width = recipe.output
        if (rows.rows, columns.rows, rows.cols, columns.cols) != (height, width, *recipe.grid):
            raise UsageError(
                f"post recipe: grid {recipe.grid}, output {recipe.output}, operator of "
                f"{rows.rows}×{rows.cols} and {columns.rows}×{columns.cols}"
            )
        if recipe.score_rule not in SCORE_RULES or len(recipe.alpha) != recipe.channels:
            raise UsageError(
                f"post recipe: score rule {recipe.score_rule!r}, {len(recipe.alpha)} alphas for "
                f"{recipe.channels} channels"
            )
        top_k = recipe.score_rule in _TOP_K
        if top_k and not 1 <= recipe.top_k <= height * width:
            raise UsageError(f"post recipe: top_k is {recipe.top_k}; the map has {height * width} pixels")
        self._device, self._images, self._raw_type = device, images, raw_type
        self._graph = recipe.score_rule == "graph"
        pixels = images * height * width
        blocks = min(_SELECT_BLOCKS, -(-height * width // (_SELECT_THREADS * _SELECT_VALUES)))
        self._select_blocks = blocks if top_k else 0

        def taken(size: int, what: str) -> int:
            return device.allocate(size, f"the post kernel's {what}")

        def kept(values: npt.NDArray[np.generic]) -> int:
            return constant(device, values, "the post kernel's operator")

        p = self._params = PostParams()
        spans, weights = _spans(columns)
        p.columns, p.column_weights = kept(spans), kept(weights)
        spans, weights = _spans(rows)
        p.rows, p.row_weights = kept(spans), kept(weights)
        p.alpha = kept(np.asarray(recipe.alpha, np.float32))
        p.limits = taken(_LIMITS_BYTES, "limits")
        p.expanded = taken(4 * images * recipe.grid[0] * width, "grid")
        p.state, p.result = taken(_STATE_BYTES * images, "state"), taken(_RESULT_BYTES * images, "result")
        if anomaly_map or top_k:
            p.map = taken(4 * pixels, "map")
        if mask:
            p.mask = taken(pixels, "mask")
        if heatmap:
            p.heatmap = taken(pixels, "heatmap")
        if top_k:
            p.histogram = taken(4 * _SELECT_BINS * images, "histogram")
            p.sums = taken(8 * 2 * self._select_blocks * images, "sums")
        p.channels, (p.grid_height, p.grid_width) = recipe.channels, recipe.grid
        p.map_height, p.map_width = height, width
        p.score_rule, p.top_k = SCORE_RULES[recipe.score_rule], recipe.top_k if top_k else 0
        before = recipe.gamma_stage == "before"
        p.gamma_before, p.gamma_after = (recipe.gamma, 0.0) if before else (0.0, recipe.gamma)

        shape = (images, height, width)
        self._host_limits = device.pinned((3,), "float32")
        self._result = device.pinned((images, 2), "float32")
        self._map = device.pinned(shape, "float32") if anomaly_map else None
        self._mask = device.pinned(shape, "uint8") if mask else None
        self._heatmap = device.pinned(shape, "uint8") if heatmap else None

    def set_limits(self, thresholds: Thresholds, heatmap_range: tuple[float, float]) -> None:
        """Bring the limits that decide to the device. Not while a run is under way, nor while recording.

        Args:
            thresholds: `pixel` makes the mask.
            heatmap_range: raw values shown as 0 and 255, the second one larger.
        """
        low, high = (float(np.float32(limit)) for limit in heatmap_range)
        scale = min(255.0 / (high - low), float(np.finfo(np.float32).max))
        self._host_limits[:] = (thresholds.pixel, low, scale)
        self._device.copy_in(self._params.limits, self._host_limits)

    def enqueue(self, raw: int, graph_score: int = 0) -> None:
        """Put the kernels and the copies of what is wanted into the stream.

        Args:
            raw: address of (N, K, h, w) in the raw type.
            graph_score: address of (N,) float32, for the rule ``graph``.

        Raises:
            UsageError: the rule is ``graph`` and there is no score.
        """
        if self._graph and not graph_score:
            raise UsageError("post recipe: the score rule is 'graph', but the engine gave no image_score")
        p, device = self._params, self._device
        p.raw, p.graph_score = raw, graph_score or None
        suffix = "fp32" if self._raw_type == "float32" else "fp16"
        grid = (-(-p.map_width // _EXPAND_THREADS), p.grid_height, self._images)
        device.launch("post", f"post_expand_{suffix}", grid, _EXPAND_THREADS, p)
        grid = (-(-p.map_width // _ROWS_THREADS), -(-p.map_height // _ROWS_PER_BLOCK), self._images)
        device.launch("post", "post_rows", grid, _ROWS_THREADS, p)
        for number in range(3 if self._select_blocks else 0):
            select = SelectParams(p, number)
            device.launch(
                "post", "post_select", (self._select_blocks, 1, self._images), _SELECT_THREADS, select
            )
        device.copy_out(self._result, p.result)
        for host, address in ((self._map, p.map), (self._mask, p.mask), (self._heatmap, p.heatmap)):
            if host is not None:
                device.copy_out(host, address)

    def found(self, image: int = 0) -> PostFound:
        """Copies of what the last run, now ended, found in one image."""

        def copied(array: npt.NDArray[np.generic] | None) -> npt.NDArray[np.generic] | None:
            return None if array is None else array[image].copy()

        score, largest = self._result[image]
        return PostFound(
            float(score),
            float(largest),
            copied(self._map),  # type: ignore[arg-type]  # of the type that it was made with
            copied(self._mask),  # type: ignore[arg-type]
            copied(self._heatmap),  # type: ignore[arg-type]
        )


def _spans(matrix: Banded) -> tuple[npt.NDArray[np.void], npt.NDArray[np.float32]]:
    """Each row from its first to its last non-zero weight, and all weights."""
    used = matrix.weights != 0
    filled = used.any(axis=1)
    first = np.where(filled, used.argmax(axis=1), 0)
    end = np.where(filled, matrix.band - used[:, ::-1].argmax(axis=1), 0)
    spans = np.empty(matrix.rows, _SPAN)
    spans["first"] = matrix.start + first
    spans["count"] = end - first
    spans["weights"] = np.arange(matrix.rows) * matrix.band + first
    return spans, np.ascontiguousarray(matrix.weights)
