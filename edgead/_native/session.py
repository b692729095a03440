"""ctypes binding of edgead_session: one worker's way from frame to decision."""

from __future__ import annotations

import ctypes
import functools
import threading
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgead._native._library import check, error_buffer, library
from edgead._native.image import address, image_view
from edgead._native.postprocessor import RegionStruct
from edgead.errors import InternalError, UsageError
from edgead.types import Decision, Region

if TYPE_CHECKING:
    import numpy.typing as npt

    from edgead._native.image import Image, Pixels
    from edgead._native.model import NativeModel

MAX_REGIONS = 64
_DECISIONS: tuple[Decision, ...] = ("ERROR", "OK", "NG")
_FROM_CALL, _FROM_TRIGGER = 0, 1


class SessionOptions(ctypes.Structure):
    """`edgead_session_options`."""

    _fields_ = (
        ("struct_size", ctypes.c_uint32),
        ("min_area", ctypes.c_uint32),
        ("deadline_ns", ctypes.c_uint64),
        ("deadline_clock", ctypes.c_uint32),
        ("deadline_hard", ctypes.c_uint32),
    )


class ResultStruct(ctypes.Structure):
    """`edgead_result`."""

    _fields_ = (
        ("struct_size", ctypes.c_uint32),
        ("resolution", ctypes.c_uint32),
        ("map", ctypes.c_void_p),
        ("map_capacity", ctypes.c_size_t),
        ("mask", ctypes.c_void_p),
        ("mask_capacity", ctypes.c_size_t),
        ("heatmap", ctypes.c_void_p),
        ("heatmap_capacity", ctypes.c_size_t),
        ("regions", ctypes.POINTER(RegionStruct)),
        ("regions_capacity", ctypes.c_uint32),
        ("preprocessed", ctypes.c_uint32),
        ("decision", ctypes.c_int32),
        ("deadline_missed", ctypes.c_uint32),
        ("regions_count", ctypes.c_uint32),
        ("regions_total", ctypes.c_uint32),
        ("score_raw", ctypes.c_float),
        ("map_max", ctypes.c_float),
        ("score", ctypes.c_double),
        ("part_id", ctypes.c_uint64),
        ("trigger_timestamp_ns", ctypes.c_uint64),
        ("preprocess_ns", ctypes.c_uint64),
        ("engine_ns", ctypes.c_uint64),
        ("post_ns", ctypes.c_uint64),
        ("total_ns", ctypes.c_uint64),
        ("generation", ctypes.c_uint32),
        ("reserved", ctypes.c_uint32),
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SessionResult:
    """What one frame gave. The arrays are the result's own: the next frame leaves them alone.

    Attributes:
        decision: OK, NG, or ERROR where the score is no number or a hard deadline was missed.
        score_raw: the detector's units.
        score: 0.5 at the threshold.
        map_max: highest value of the map.
        anomaly_map: (H, W) float32, raw units.
        mask: (H, W) uint8, 0 or 255; None where only scores were wanted.
        heatmap: (H, W) uint8; None likewise.
        regions: in frame pixels (in map pixels for network pixels), highest peak first.
        regions_total: how many there are, in `regions` or not.
        preprocess_ns: frame to network pixels.
        engine_ns: the engine.
        post_ns: map, score, mask, heatmap and regions.
        total_ns: the whole call.
        deadline_missed: whether it took longer than the session's deadline.
        generation: of the bundle that judged.
    """

    decision: Decision
    score_raw: float
    score: float
    map_max: float
    anomaly_map: npt.NDArray[np.float32]
    mask: npt.NDArray[np.uint8] | None
    heatmap: npt.NDArray[np.uint8] | None
    regions: tuple[Region, ...]
    regions_total: int
    preprocess_ns: int
    engine_ns: int
    post_ns: int
    total_ns: int
    deadline_missed: bool
    generation: int


@functools.cache
def _functions() -> ctypes.CDLL:
    lib = library()
    message = [ctypes.c_char_p, ctypes.c_size_t]
    handle = ctypes.c_void_p
    calls: dict[str, list[Any]] = {
        "create": [handle, ctypes.POINTER(SessionOptions), ctypes.POINTER(handle)],
        "prepare": [handle, ctypes.c_void_p, ctypes.c_uint32],
        "warm_up": [handle, ctypes.c_uint32],
        "run": [handle, ctypes.c_void_p, ctypes.POINTER(ResultStruct)],
    }
    for name, arguments in calls.items():
        function = getattr(lib, f"edgead_session_{name}")
        function.restype = ctypes.c_int32
        function.argtypes = [*arguments, *message]
    lib.edgead_session_destroy.restype = None
    lib.edgead_session_destroy.argtypes = [handle]
    return lib


class NativeSession:
    """One worker's session of a model. One thread at a time; sessions of a model run at once.

    Args:
        model: may be closed while the session lives.
        min_area: smaller regions are left out, map pixels.
        deadline_ms: answers after it say so; None = no deadline.
        deadline_hard: a missed deadline makes the decision ERROR.

    Raises:
        UsageError: a number is out of range.
        RuntimeMissingError: the engine has no more memory for a session.
    """

    def __init__(
        self,
        model: NativeModel,
        *,
        min_area: int = 1,
        deadline_ms: float | None = None,
        deadline_hard: bool = False,
    ) -> None:
        if not 0 <= min_area < 2**32 or (deadline_ms is not None and not 0 < deadline_ms < 1e12):
            raise UsageError(f"min_area {min_area} or deadline {deadline_ms} ms is out of range")
        self._lib = _functions()
        self._map_size = model.info.map_size
        options = SessionOptions(
            struct_size=ctypes.sizeof(SessionOptions),
            min_area=min_area,
            deadline_ns=0 if deadline_ms is None else round(deadline_ms * 1e6),
            deadline_clock=_FROM_CALL,
            deadline_hard=deadline_hard,
        )
        handle = ctypes.c_void_p()
        message = error_buffer()
        status = self._lib.edgead_session_create(
            model.handle, ctypes.byref(options), ctypes.byref(handle), message, len(message)
        )
        check(status, message)
        self._handle = handle
        self._finalize = weakref.finalize(self, self._lib.edgead_session_destroy, handle)
        self._regions = (RegionStruct * MAX_REGIONS)()
        self._result = ResultStruct(struct_size=ctypes.sizeof(ResultStruct))
        self._message = message
        self._lock = threading.Lock()  # the struct above is filled before libedgead could notice

    def prepare(self, height: int, width: int, pixel_format: str) -> None:
        """Plan for frames of this size and format, so that the first one is as fast as the rest.

        Raises:
            ImageError: the format is unknown, or the frame does not fit the bundle's geometry.
        """
        from edgead._native.image import frame_layout

        channels, dtype = frame_layout(pixel_format)
        shape = (height, width, channels) if channels > 1 else (height, width)
        image, pixels = image_view(np.empty(shape, dtype), pixel_format)
        self._call("prepare", ctypes.byref(image), 0)
        del pixels

    def warm_up(self, runs: int = 3) -> None:
        """Run a golden image `runs` times."""
        self._call("warm_up", runs)

    def run(self, frame: Pixels, pixel_format: str, *, full: bool = True) -> SessionResult:
        """Judge one frame; the interpreter lock is released meanwhile.

        Args:
            frame: (H, W) or (H, W, C), as the format says; rows may lie any distance apart.
            pixel_format: a key of `edgead.types.PIXEL_FORMATS`.
            full: False = score and map only, without mask, heatmap and regions.

        Raises:
            ImageError: the frame is not what the format needs, or does not fit the bundle's geometry.
            EngineError: the engine failed, or the model's self-test has.
            InternalError: another thread uses this session.
        """
        return self._run(frame, pixel_format, full, preprocessed=False)

    def run_pixels(self, pixels: npt.NDArray[np.uint8]) -> SessionResult:
        """Score and map of what the network sees: (H, W, 3) uint8 RGB of its input size.

        Raises:
            As `run`.
        """
        return self._run(pixels, "RGB8", full=False, preprocessed=True)

    def _run(self, frame: Pixels, pixel_format: str, full: bool, *, preprocessed: bool) -> SessionResult:
        image, pixels = image_view(frame, pixel_format)
        if not self._lock.acquire(blocking=False):
            raise InternalError("a session is used by two threads at once; open one for each")
        try:
            found = self._locked_run(image, full, preprocessed)
        finally:
            self._lock.release()
        del pixels  # lives until here: `image` points into it
        return found

    def _locked_run(self, image: Image, full: bool, preprocessed: bool) -> SessionResult:
        result, size = self._result, self._map_size
        anomaly_map = np.empty(size, np.float32)
        mask = heatmap = None
        result.map, result.map_capacity = address(anomaly_map), anomaly_map.size
        if full:
            mask, heatmap = np.empty(size, np.uint8), np.empty(size, np.uint8)
            result.mask, result.mask_capacity = address(mask), mask.size
            result.heatmap, result.heatmap_capacity = address(heatmap), heatmap.size
            result.regions, result.regions_capacity = self._regions, MAX_REGIONS
        else:
            result.mask = result.heatmap = result.regions = None
            result.mask_capacity = result.heatmap_capacity = result.regions_capacity = 0
        result.preprocessed = preprocessed
        self._call("run", ctypes.byref(image), ctypes.byref(result))
        found = self._regions[: result.regions_count] if full else ()
        return SessionResult(
            decision=_DECISIONS[result.decision],
            score_raw=result.score_raw,
            score=result.score,
            map_max=result.map_max,
            anomaly_map=anomaly_map,
            mask=mask,
            heatmap=heatmap,
            regions=tuple(Region((r.x, r.y, r.width, r.height), r.area, r.peak) for r in found),
            regions_total=result.regions_total,
            preprocess_ns=result.preprocess_ns,
            engine_ns=result.engine_ns,
            post_ns=result.post_ns,
            total_ns=result.total_ns,
            deadline_missed=bool(result.deadline_missed),
            generation=result.generation,
        )

    def _call(self, name: str, *arguments: object) -> None:
        if not self._finalize.alive:
            raise InternalError("the session is closed")
        function = getattr(self._lib, f"edgead_session_{name}")
        check(function(self._handle, *arguments, self._message, len(self._message)), self._message)

    def close(self) -> None:
        """Free the session; closing twice is harmless."""
        self._finalize()
