"""ctypes binding of edgead_postprocessor: raw channels → map, score, mask, heatmap, regions."""

from __future__ import annotations

import ctypes
import functools
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from edgead._native._library import ALL_CPU_FEATURES, check, error_buffer, library
from edgead._native.image import address
from edgead.errors import UsageError
from edgead.types import Region

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

GAMMA_STAGES = {"before": 0, "after": 1}
SCORE_RULES = {"max_grid": 1, "max": 2, "top_k_sum": 3, "top_k_mean": 4, "graph": 5}

_FLOATS = ctypes.POINTER(ctypes.c_float)
_BYTES = ctypes.POINTER(ctypes.c_uint8)


class BandedStruct(ctypes.Structure):
    """`edgead_banded`."""

    _fields_ = (
        ("rows", ctypes.c_uint32),
        ("cols", ctypes.c_uint32),
        ("band", ctypes.c_uint32),
        ("start", ctypes.POINTER(ctypes.c_int32)),
        ("weights", _FLOATS),
    )


class _Options(ctypes.Structure):
    _fields_ = (
        ("struct_size", ctypes.c_uint32),
        ("channels", ctypes.c_uint32),
        ("grid_height", ctypes.c_uint32),
        ("grid_width", ctypes.c_uint32),
        ("alpha", _FLOATS),
        ("gamma", ctypes.c_float),
        ("gamma_stage", ctypes.c_uint32),
        ("operator_h", BandedStruct),
        ("operator_w", BandedStruct),
        ("score_rule", ctypes.c_uint32),
        ("top_k", ctypes.c_uint32),
        ("cpu_mask", ctypes.c_uint64),
    )


class RegionStruct(ctypes.Structure):
    """`edgead_region`."""

    _fields_ = (
        ("x", ctypes.c_uint32),
        ("y", ctypes.c_uint32),
        ("width", ctypes.c_uint32),
        ("height", ctypes.c_uint32),
        ("area", ctypes.c_uint32),
        ("peak", ctypes.c_float),
    )


class _Params(ctypes.Structure):
    _fields_ = (
        ("struct_size", ctypes.c_uint32),
        ("pixel_threshold", ctypes.c_float),
        ("heatmap_low", ctypes.c_float),
        ("heatmap_high", ctypes.c_float),
        ("graph_score", ctypes.c_float),
        ("min_area", ctypes.c_uint32),
    )


class _Result(ctypes.Structure):
    _fields_ = (
        ("struct_size", ctypes.c_uint32),
        ("regions_capacity", ctypes.c_uint32),
        ("map", ctypes.c_void_p),
        ("map_capacity", ctypes.c_size_t),
        ("mask", ctypes.c_void_p),
        ("mask_capacity", ctypes.c_size_t),
        ("heatmap", ctypes.c_void_p),
        ("heatmap_capacity", ctypes.c_size_t),
        ("regions", ctypes.POINTER(RegionStruct)),
        ("regions_count", ctypes.c_uint32),
        ("regions_total", ctypes.c_uint32),
        ("score_raw", ctypes.c_float),
        ("map_max", ctypes.c_float),
    )


class BandedMatrix(Protocol):
    """What the binding reads of a banded matrix: see `edgead_banded` in edgead.h."""

    @property
    def rows(self) -> int:
        """Output size."""

    @property
    def cols(self) -> int:
        """Input size."""

    @property
    def band(self) -> int:
        """Weights per row."""

    @property
    def start(self) -> npt.NDArray[np.int32]:
        """(rows,) first columns."""

    @property
    def weights(self) -> npt.NDArray[np.float32]:
        """(rows, band)."""


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a run wrote besides the caller's arrays.

    Attributes:
        score_raw: by the score rule; NaN where the input holds a NaN.
        map_max: highest value of the map; NaN where the map holds a NaN.
        regions: in map pixels, highest peak first.
        regions_total: how many there are; more than `regions` where these did not fit.
    """

    score_raw: float
    map_max: float
    regions: tuple[Region, ...]
    regions_total: int


@functools.cache
def _functions() -> ctypes.CDLL:
    lib = library()
    lib.edgead_postprocessor_create.restype = ctypes.c_int32
    lib.edgead_postprocessor_create.argtypes = [
        ctypes.POINTER(_Options),
        ctypes.POINTER(ctypes.c_void_p),
        ctypes.c_char_p,
        ctypes.c_size_t,
    ]
    lib.edgead_postprocessor_run.restype = ctypes.c_int32
    lib.edgead_postprocessor_run.argtypes = [
        ctypes.c_void_p,
        ctypes.c_void_p,
        ctypes.c_size_t,
        ctypes.POINTER(_Params),
        ctypes.POINTER(_Result),
        ctypes.c_char_p,
        ctypes.c_size_t,
    ]
    lib.edgead_postprocessor_destroy.restype = None
    lib.edgead_postprocessor_destroy.argtypes = [ctypes.c_void_p]
    return lib


def _banded(matrix: BandedMatrix) -> tuple[BandedStruct, object]:
    """The C struct, and the arrays that it points into (to be kept until create returns)."""
    import numpy as np

    start = np.ascontiguousarray(matrix.start, dtype=np.int32)
    weights = np.ascontiguousarray(matrix.weights, dtype=np.float32)
    if start.size != matrix.rows or weights.size != matrix.rows * matrix.band:
        raise UsageError(
            f"banded matrix {matrix.rows}×{matrix.cols}, band {matrix.band}: "
            f"{start.size} starts and {weights.size} weights"
        )
    struct = BandedStruct(
        matrix.rows,
        matrix.cols,
        matrix.band,
        start.ctypes.data_as(ctypes.POINTER(ctypes.c_int32)),
        weights.ctypes.data_as(_FLOATS),
    )
    return struct, (start, weights)


class Postprocessor:
    """One plan of the fused post kernel. Not for concurrent use: one instance per thread."""

    def __init__(
        self,
        grid: tuple[int, int],
        operator_h: BandedMatrix,
        operator_w: BandedMatrix,
        *,
        alpha: Sequence[float] = (1.0,),
        gamma: float = 0.0,
        gamma_stage: str = "before",
        score_rule: str = "max_grid",
        top_k: int = 0,
        cpu_mask: int = ALL_CPU_FEATURES,
    ) -> None:
        """Check the options and prepare everything that a run needs.

        Args:
            grid: (h, w) of each raw channel.
            operator_h: (H × h).
            operator_w: (W × w).
            alpha: one factor per channel.
            gamma: constant added to the combination.
            gamma_stage: ``before`` or ``after`` the operator.
            score_rule: a key of `SCORE_RULES`.
            top_k: values that the ``top_k_*`` rules take.
            cpu_mask: `CPU_*` bits of `edgead._native` that the kernel may use.

        Raises:
            UsageError: an option is out of range.
            RuntimeMissingError: the library is missing, or there is no memory.
        """
        if gamma_stage not in GAMMA_STAGES:
            raise UsageError(f"gamma stage {gamma_stage!r} is unknown; use {', '.join(GAMMA_STAGES)}")
        if score_rule not in SCORE_RULES:
            raise UsageError(f"score rule {score_rule!r} is unknown; use {', '.join(SCORE_RULES)}")
        self._lib = _functions()
        self._map_shape = (operator_h.rows, operator_w.rows)
        self._raw_count = len(alpha) * grid[0] * grid[1]
        banded_h, keep_h = _banded(operator_h)
        banded_w, keep_w = _banded(operator_w)
        options = _Options(
            struct_size=ctypes.sizeof(_Options),
            channels=len(alpha),
            grid_height=grid[0],
            grid_width=grid[1],
            alpha=(ctypes.c_float * len(alpha))(*alpha),
            gamma=gamma,
            gamma_stage=GAMMA_STAGES[gamma_stage],
            operator_h=banded_h,
            operator_w=banded_w,
            score_rule=SCORE_RULES[score_rule],
            top_k=top_k,
            cpu_mask=cpu_mask,
        )
        handle = ctypes.c_void_p()
        message = error_buffer()
        status = self._lib.edgead_postprocessor_create(
            ctypes.byref(options), ctypes.byref(handle), message, len(message)
        )
        del keep_h, keep_w
        check(status, message)
        self._handle = handle
        weakref.finalize(self, self._lib.edgead_postprocessor_destroy, handle)
        self._message = message
        self._params = _Params(struct_size=ctypes.sizeof(_Params))
        self._result = _Result(struct_size=ctypes.sizeof(_Result))
        self._regions: ctypes.Array[RegionStruct] = (RegionStruct * 0)()

    @property
    def map_shape(self) -> tuple[int, int]:
        """(H, W) of the map."""
        return self._map_shape

    def run(
        self,
        raw: npt.NDArray[np.float32],
        *,
        anomaly_map: npt.NDArray[np.float32] | None = None,
        mask: npt.NDArray[np.uint8] | None = None,
        heatmap: npt.NDArray[np.uint8] | None = None,
        max_regions: int | None = None,
        pixel_threshold: float = 0.0,
        heatmap_range: tuple[float, float] = (0.0, 1.0),
        graph_score: float = 0.0,
        min_area: int = 1,
    ) -> RunResult:
        """Run the kernel; each array that is given is written, None is not computed.

        Args:
            raw: channels × h × w values, C-contiguous float32.
            anomaly_map: (H, W), C-contiguous.
            mask: (H, W), C-contiguous.
            heatmap: (H, W), C-contiguous.
            max_regions: room for regions; None = they are not looked for.
            pixel_threshold: raw units.
            heatmap_range: raw values shown as 0 and 255, the second one larger.
            graph_score: for the rule ``graph``.
            min_area: smaller regions are left out, in map pixels.

        Raises:
            UsageError: an array has the wrong size, type or layout, or a limit is out of range.
        """
        if min_area < 0 or (max_regions or 0) < 0:
            raise UsageError(f"min_area {min_area} and max_regions {max_regions} must not be negative")
        params, result = self._params, self._result
        params.pixel_threshold = pixel_threshold
        params.heatmap_low, params.heatmap_high = heatmap_range
        params.graph_score = graph_score
        params.min_area = min_area
        result.map, result.map_capacity = _pointer(anomaly_map, "float32")
        result.mask, result.mask_capacity = _pointer(mask, "uint8")
        result.heatmap, result.heatmap_capacity = _pointer(heatmap, "uint8")
        if max_regions is not None and len(self._regions) != max(1, max_regions):
            self._regions = (RegionStruct * max(1, max_regions))()
        result.regions = (
            None if max_regions is None else ctypes.cast(self._regions, ctypes.POINTER(RegionStruct))
        )
        result.regions_capacity = max_regions or 0
        values, count = _pointer(raw, "float32")
        status = self._lib.edgead_postprocessor_run(
            self._handle,
            values,
            count,
            ctypes.byref(params),
            ctypes.byref(result),
            self._message,
            len(self._message),
        )
        check(status, self._message)
        found = self._regions[: result.regions_count] if max_regions is not None else ()
        return RunResult(
            result.score_raw,
            result.map_max,
            tuple(Region((r.x, r.y, r.width, r.height), r.area, r.peak) for r in found),
            result.regions_total,
        )


def _pointer(array: npt.NDArray[np.generic] | None, dtype: str) -> tuple[int | None, int]:
    """Address and number of elements."""
    if array is None:
        return None, 0
    if array.dtype != dtype or not array.flags.c_contiguous:
        raise UsageError(f"post kernel: an array of {array.dtype}, C-contiguous {dtype} is needed")
    return address(array), array.size
