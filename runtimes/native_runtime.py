"""libedgead as the driver: it opens the bundle itself, and one call takes a frame to its decision."""

from __future__ import annotations

import importlib.util
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING

from edgead._native.model import NativeModel
from edgead._native.session import NativeSession
from edgead.bundle.head import SUFFIXES
from edgead.errors import BundleError, InternalError
from edgead.imaging.frame import Frame
from edgead.runtimes._driver import RawScores, RuntimeName
from edgead.types import Prediction, Target, Thresholds

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from edgead.bundle.reader import Bundle

# Engine → where its Python package keeps the C library, and the variable that names another one.
_LIBRARIES = {
    "openvino": ("libs/libopenvino_c.so*", "EDGEAD_OPENVINO_LIBRARY"),
    "onnxruntime": ("capi/libonnxruntime.so*", "EDGEAD_ONNXRUNTIME_LIBRARY"),
}
ENGINES = tuple(_LIBRARIES)
_OPENED = {engine + suffix: engine for engine in ENGINES for suffix in ("", *SUFFIXES)}
"""What libedgead opens → the engine whose library it needs: a head is libedgead's own."""


def named_library(engine: str) -> str:
    """What the engine's environment variable says; empty where it is not set."""
    return os.environ.get(_LIBRARIES[_OPENED[engine]][1], "") if engine in _OPENED else ""


def packaged_library(engine: str) -> Path | None:
    """The engine's C library in its Python package, which is not imported; None where there is none."""
    if engine not in _OPENED:
        return None
    package = _OPENED[engine]
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return None
    for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
        found = sorted(Path(folder).glob(_LIBRARIES[package][0]))
        if found:
            return found[-1]
    return None


def library_for(engine: str) -> Path | None:
    """What to tell libedgead: the package's library, or None where it will read the variable or search."""
    return None if named_library(engine) else packaged_library(engine)


def may_open(engine: str) -> bool:
    """Whether a library of the engine lies where libedgead will look; only opening it tells more."""
    named = named_library(engine)
    if named:
        return os.sep not in named or Path(named).is_file()
    return packaged_library(engine) is not None


class NativeDriver:
    """One target of a bundle, driven by libedgead."""

    name: RuntimeName = "native"

    def __init__(self, bundle: Bundle, target: Target, *, threads: int, self_test: bool) -> None:
        """Open `target` of the bundle at `bundle.source`.

        Args:
            bundle: for the path and the thresholds in force; the driver reads the files itself.
            target: engine, precision, device.
            threads: compute threads, 0 = the engine's own choice.
            self_test: run the golden images first, and refuse where they give other values.

        Raises:
            UsageError: the bundle has no such target.
            BundleError: it is damaged, or another one than a moment ago.
            RuntimeMissingError: the engine's library is missing, or libedgead was built without this engine.
            EngineError: the engine refuses the work, or the self-test failed.
        """
        library = library_for(target.engine)
        self._model = NativeModel(
            bundle.source,
            target=str(target),
            threads=threads,
            self_test=self_test,
            engine_library=library,
        )
        info = self._model.info
        if info.digest != bundle.digest:
            self._model.close()
            raise BundleError(f"{bundle.source} was replaced while it was being opened; open it again")
        self._session = NativeSession(self._model)
        self._input_shape = (1, *info.input_size, 3)
        self._target = target
        # As Python read them: they also say how they were chosen.
        self.thresholds = bundle.thresholds(str(target))

    @property
    def thresholds(self) -> Thresholds:
        """The limits that decide."""
        return self._thresholds

    @thresholds.setter
    def thresholds(self, values: Thresholds) -> None:
        self._model.thresholds = values
        self._thresholds = values

    def predict(self, frame: Frame) -> Prediction:
        """Judge one frame."""
        found = self._session.run(frame.data, frame.pixel_format)
        assert found.heatmap is not None
        assert found.mask is not None
        return Prediction(
            score_raw=found.score_raw,
            score=found.score if math.isfinite(found.score_raw) else math.nan,
            decision=found.decision,
            regions=found.regions,
            anomaly_map=found.anomaly_map,
            heatmap=found.heatmap,
            mask=found.mask,
            target=str(self._target),
            timings_ms={
                "preprocess": found.preprocess_ns / 1e6,
                "engine": found.engine_ns / 1e6,
                "post": found.post_ns / 1e6,
            },
        )

    def scores(self, frame: Frame) -> RawScores:
        """Raw score and map of one frame."""
        found = self._session.run(frame.data, frame.pixel_format, full=False)
        return RawScores(found.score_raw, found.map_max, found.anomaly_map)

    def scores_of(self, pixels: npt.NDArray[np.uint8]) -> RawScores:
        """Raw score and map of network pixels, (1, H, W, 3)."""
        if pixels.shape != self._input_shape or pixels.dtype.name != "uint8":
            raise InternalError(
                f"the network's input is uint8 {self._input_shape}, not {pixels.dtype} {pixels.shape}"
            )
        found = self._session.run_pixels(pixels[0])
        return RawScores(found.score_raw, found.map_max, found.anomaly_map)

    def close(self) -> None:
        """Free the session and the engine."""
        self._session.close()
        self._model.close()
