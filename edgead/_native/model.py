"""ctypes binding of edgead_model: an opened bundle and the engine that is compiled from it."""

from __future__ import annotations

import ctypes
import functools
import os
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgead._native._library import ALL_CPU_FEATURES, check, error_buffer, library
from edgead.errors import InternalError, UsageError
from edgead.types import Thresholds

_LOG = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int32, ctypes.c_char_p)
_SELF_TESTS = ("not run", "passed", "failed")


class ModelOptions(ctypes.Structure):
    """`edgead_model_options`."""

    _fields_ = (
        ("struct_size", ctypes.c_uint32),
        ("threads", ctypes.c_uint32),
        ("streams", ctypes.c_uint32),
        ("pin_cores", ctypes.c_uint32),
        ("skip_self_test", ctypes.c_uint32),
        ("without_engine", ctypes.c_uint32),
        ("target", ctypes.c_char_p),
        ("engine_library", ctypes.c_char_p),
        ("cache_dir", ctypes.c_char_p),
        ("cpu_mask", ctypes.c_uint64),
        ("log", _LOG),
        ("log_user_data", ctypes.c_void_p),
    )


class ThresholdsStruct(ctypes.Structure):
    """`edgead_thresholds`."""

    _fields_ = (
        ("struct_size", ctypes.c_uint32),
        ("reserved", ctypes.c_uint32),
        ("image", ctypes.c_double),
        ("pixel", ctypes.c_double),
        ("image_median", ctypes.c_double),
        ("pixel_median", ctypes.c_double),
    )


class InfoStruct(ctypes.Structure):
    """`edgead_model_info`."""

    _fields_ = (
        ("struct_size", ctypes.c_uint32),
        ("schema", ctypes.c_uint32),
        ("input_width", ctypes.c_uint32),
        ("input_height", ctypes.c_uint32),
        ("map_width", ctypes.c_uint32),
        ("map_height", ctypes.c_uint32),
        ("has_roi", ctypes.c_uint32),
        ("roi_x", ctypes.c_uint32),
        ("roi_y", ctypes.c_uint32),
        ("roi_width", ctypes.c_uint32),
        ("roi_height", ctypes.c_uint32),
        ("targets_count", ctypes.c_uint32),
        ("self_test", ctypes.c_uint32),
        ("generation", ctypes.c_uint32),
        ("digest", ctypes.c_char_p),
        ("detector", ctypes.c_char_p),
        ("created_by", ctypes.c_char_p),
        ("target", ctypes.c_char_p),
        ("engine_version", ctypes.c_char_p),
        ("engine_library", ctypes.c_char_p),
        ("manifest_json", ctypes.c_char_p),
        ("file_hashes", ctypes.c_char_p),
    )


class SelfTestStruct(ctypes.Structure):
    """`edgead_self_test_result`."""

    _fields_ = (
        ("struct_size", ctypes.c_uint32),
        ("passed", ctypes.c_uint32),
        ("images", ctypes.c_uint32),
        ("reserved", ctypes.c_uint32),
        ("score_shift_max", ctypes.c_double),
        ("score_tolerance", ctypes.c_double),
        ("map_shift_max", ctypes.c_double),
        ("map_tolerance", ctypes.c_double),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInfo:
    """What a model is.

    Attributes:
        input_size: (H, W) that the network sees.
        map_size: (H, W) of map, mask and heatmap.
        roi: (x, y, w, h) in frame pixels; None = the whole frame.
        targets: the bundle's, the preferred one first.
        self_test: ``not run``, ``passed`` or ``failed``: the last one.
        generation: 1 after open, one more with each reload.
        digest: the bundle's identity.
        target: in use; empty without an engine.
        engine_version: of the engine's library.
        engine_library: where that was found.
    """

    input_size: tuple[int, int]
    map_size: tuple[int, int]
    roi: tuple[int, int, int, int] | None
    targets: tuple[str, ...]
    self_test: str
    generation: int
    digest: str
    target: str
    engine_version: str
    engine_library: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfTestFigures:
    """The golden images on this machine, in raw units: how far off, and how far off they may be."""

    passed: bool
    images: int
    score_shift_max: float
    score_tolerance: float
    map_shift_max: float
    map_tolerance: float


@functools.cache
def _functions() -> ctypes.CDLL:
    lib = library()
    message = [ctypes.c_char_p, ctypes.c_size_t]
    handle = ctypes.c_void_p
    calls: dict[str, list[Any]] = {
        "open": [ctypes.c_char_p, ctypes.POINTER(ModelOptions), ctypes.POINTER(handle)],
        "get_thresholds": [handle, ctypes.POINTER(ThresholdsStruct)],
        "set_thresholds": [handle, ctypes.POINTER(ThresholdsStruct)],
        "inspect": [handle, ctypes.POINTER(InfoStruct)],
        "self_test": [handle, ctypes.POINTER(SelfTestStruct)],
        "keep_warm": [handle, ctypes.c_uint64],
        "reload": [handle, ctypes.c_char_p],
    }
    for name, arguments in calls.items():
        function = getattr(lib, f"edgead_model_{name}")
        function.restype = ctypes.c_int32
        function.argtypes = [*arguments, *message]
    lib.edgead_model_close.restype = None
    lib.edgead_model_close.argtypes = [handle]
    lib.edgead_model_target.restype = ctypes.c_char_p
    lib.edgead_model_target.argtypes = [handle, ctypes.c_uint32]
    return lib


def _utf8(text: str | Path | None) -> bytes | None:
    return None if text is None else os.fsencode(text)


def _path(path: Path | str) -> bytes:
    name = os.fsencode(path)
    if b"\0" in name:
        raise UsageError(f"{str(path)!r} holds a NUL character; no file is called so")
    return name


class NativeModel:
    """An opened bundle with one engine, which sessions of several threads may share.

    Args:
        path: a bundle's directory or zip.
        target: such as ``openvino:fp32``; None = the bundle's first whose engine can be opened.
        threads: compute threads of the engine, 0 = its own choice.
        streams: frames that the engine works on at once, for sessions in parallel.
        pin_cores: whether the engine pins its threads to cores.
        self_test: whether the golden images are run before anything else.
        without_engine: for inspection: no session can be made.
        engine_library: path of the engine's library; None = environment variable, then the loader's search.
        cache_dir: an existing folder for compiled models; None = none.
        cpu_mask: instruction sets of libedgead's own kernels.
        log: gets (level, message); it must not raise.

    Raises:
        UsageError: there is no such bundle or target.
        BundleError: the bundle is damaged.
        RuntimeMissingError: the engine's library is not here, or this build of libedgead has no such engine.
        EngineError: the engine refuses the work, or the golden images give other values here.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        target: str | None = None,
        threads: int = 0,
        streams: int = 1,
        pin_cores: bool = False,
        self_test: bool = True,
        without_engine: bool = False,
        engine_library: Path | None = None,
        cache_dir: Path | None = None,
        cpu_mask: int = ALL_CPU_FEATURES,
        log: Callable[[int, str], None] | None = None,
    ) -> None:
        for name, number in (("threads", threads), ("streams", streams)):
            if not 0 <= number < 2**32:
                raise UsageError(f"{name} {number} is out of range; give a small number, or 0")
        self._lib = _functions()
        self._log = (
            _LOG() if log is None else _LOG(lambda _, level, text: log(level, text.decode(errors="replace")))
        )
        options = ModelOptions(
            struct_size=ctypes.sizeof(ModelOptions),
            threads=threads,
            streams=streams,
            pin_cores=pin_cores,
            skip_self_test=not self_test,
            without_engine=without_engine,
            target=_utf8(target),
            engine_library=_utf8(engine_library),
            cache_dir=_utf8(cache_dir),
            cpu_mask=cpu_mask,
            log=self._log,
        )
        handle = ctypes.c_void_p()
        message = error_buffer()
        status = self._lib.edgead_model_open(
            _path(path), ctypes.byref(options), ctypes.byref(handle), message, len(message)
        )
        check(status, message)
        self._handle = handle
        self._finalize = weakref.finalize(self, self._lib.edgead_model_close, handle)

    @property
    def handle(self) -> ctypes.c_void_p:
        """The C handle.

        Raises:
            InternalError: the model is closed.
        """
        if not self._finalize.alive:
            raise InternalError("the model is closed")
        return self._handle

    def _call(self, name: str, *arguments: Any) -> None:
        message = error_buffer()
        function = getattr(self._lib, f"edgead_model_{name}")
        check(function(self.handle, *arguments, message, len(message)), message)

    @property
    def info(self) -> ModelInfo:
        """What the model is now."""
        struct = InfoStruct(struct_size=ctypes.sizeof(InfoStruct))
        self._call("inspect", ctypes.byref(struct))
        targets = [self._lib.edgead_model_target(self.handle, index) for index in range(struct.targets_count)]
        return ModelInfo(
            input_size=(struct.input_height, struct.input_width),
            map_size=(struct.map_height, struct.map_width),
            roi=(struct.roi_x, struct.roi_y, struct.roi_width, struct.roi_height) if struct.has_roi else None,
            targets=tuple(target.decode() for target in targets),
            self_test=_SELF_TESTS[struct.self_test],
            generation=struct.generation,
            digest=struct.digest.decode(),
            target=struct.target.decode(),
            engine_version=struct.engine_version.decode(errors="replace"),
            engine_library=os.fsdecode(struct.engine_library),
        )

    @property
    def thresholds(self) -> Thresholds:
        """The limits that decide now; `method` is empty, the C library keeps numbers only."""
        struct = ThresholdsStruct(struct_size=ctypes.sizeof(ThresholdsStruct))
        self._call("get_thresholds", ctypes.byref(struct))
        return Thresholds(
            image=struct.image,
            pixel=struct.pixel,
            image_median=struct.image_median,
            pixel_median=struct.pixel_median,
        )

    @thresholds.setter
    def thresholds(self, values: Thresholds) -> None:
        struct = ThresholdsStruct(
            struct_size=ctypes.sizeof(ThresholdsStruct),
            image=values.image,
            pixel=values.pixel,
            image_median=values.image_median,
            pixel_median=values.pixel_median,
        )
        self._call("set_thresholds", ctypes.byref(struct))

    def self_test(self) -> SelfTestFigures:
        """Run the golden images. Where they fail, every run is an error until a self-test passes."""
        struct = SelfTestStruct(struct_size=ctypes.sizeof(SelfTestStruct))
        self._call("self_test", ctypes.byref(struct))
        return SelfTestFigures(
            passed=bool(struct.passed),
            images=struct.images,
            score_shift_max=struct.score_shift_max,
            score_tolerance=struct.score_tolerance,
            map_shift_max=struct.map_shift_max,
            map_tolerance=struct.map_tolerance,
        )

    def keep_warm(self, seconds: float) -> None:
        """Let a golden image run whenever no session has for `seconds`; 0 stops it.

        Raises:
            UsageError: `seconds` is negative, or longer than a month.
        """
        if not 0 <= seconds <= 31 * 86_400:
            raise UsageError(f"keep warm every {seconds:g} s: give a time from 0 to a month")
        self._call("keep_warm", round(seconds * 1e9))

    def reload(self, path: Path | str) -> None:
        """Open another bundle in the place of this one; sessions judge by it from their next frame on.

        Raises:
            UsageError, BundleError, RuntimeMissingError, EngineError: as for opening; the old bundle stays.
        """
        self._call("reload", _path(path))

    def close(self) -> None:
        """Give up the handle; sessions stay usable. Closing twice is harmless."""
        self._finalize()
