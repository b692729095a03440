"""Python as the driver: preprocess kernel, an engine's own package, post kernel."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from edgead.imaging.frame import Frame
from edgead.imaging.map_operator import Banded
from edgead.imaging.postprocess import Postprocess, region_to_frame
from edgead.imaging.preprocess import Preprocess
from edgead.runtimes._base import Runtime
from edgead.runtimes._driver import RawScores, RuntimeName
from edgead.runtimes._registry import runtime_for
from edgead.runtimes._tiled import tiled
from edgead.types import Geometry, Prediction, Target, Thresholds

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from edgead.bundle.reader import Bundle


class EngineScorer:
    """An open engine and the map operator: the `Scorer` of everything that is not yet a bundle."""

    def __init__(self, runtime: Runtime, postprocess: Postprocess) -> None:
        self._runtime = runtime
        self._postprocess = postprocess

    def scores_of(self, pixels: npt.NDArray[np.uint8]) -> RawScores:
        """Raw score and map of network pixels, (1, H, W, 3)."""
        return RawScores(*self._postprocess.scores(*_infer(self._runtime, pixels)))


class PythonDriver:
    """One target of a bundle, driven from Python."""

    name: RuntimeName = "python"

    def __init__(
        self,
        runtime: Runtime,
        geometry: Geometry,
        postprocess: Postprocess,
        thresholds: Thresholds,
        target: Target,
    ) -> None:
        import numpy as np

        self.thresholds = thresholds
        self._runtime = runtime
        self._geometry = geometry
        self._postprocess = postprocess
        self._target = target
        self._scorer = EngineScorer(runtime, postprocess)
        self._preprocess = Preprocess(geometry)
        self._input: npt.NDArray[np.uint8] = np.empty(runtime.input_shape, np.uint8)

    @classmethod
    def open(cls, bundle: Bundle, target: Target, *, threads: int) -> PythonDriver:
        """Open `target` of `bundle`, which must stay open as long as the driver.

        Raises:
            UsageError: the bundle has no such target.
            RuntimeMissingError: the engine's package is missing here.
            EngineError: the engine refuses the work on this machine.
        """
        entry = bundle.entry(str(target))
        manifest = bundle.manifest
        runtime = tiled(runtime_for(target.engine), manifest.tiling)
        runtime.open(bundle.path(entry.main_file), target, threads=threads, rest=entry.rest)
        h, w = (Banded(*matrix) for matrix in bundle.operator())
        postprocess = Postprocess(manifest.post, (h, w))
        return cls(runtime, manifest.geometry, postprocess, bundle.thresholds(entry.target), target)

    def predict(self, frame: Frame) -> Prediction:
        """Judge one frame."""
        limits = self.thresholds
        start = time.perf_counter_ns()
        pixels = self._pixels(frame)
        preprocessed = time.perf_counter_ns()
        raw, graph_score = _infer(self._runtime, pixels)
        inferred = time.perf_counter_ns()
        post = self._postprocess(raw, limits, graph_score)
        regions = tuple(
            region_to_frame(region, post.anomaly_map.shape, self._geometry, (frame.height, frame.width))
            for region in post.regions
        )
        done = time.perf_counter_ns()
        score_raw = post.score_raw
        finite = math.isfinite(score_raw)
        return Prediction(
            score_raw=score_raw,
            score=limits.normalise(score_raw) if finite else math.nan,
            # a NaN never reads as OK
            decision="ERROR" if not finite else "NG" if score_raw >= limits.image else "OK",
            regions=regions,
            anomaly_map=post.anomaly_map,
            heatmap=post.heatmap,
            mask=post.mask,
            target=str(self._target),
            timings_ms={
                "preprocess": (preprocessed - start) / 1e6,
                "engine": (inferred - preprocessed) / 1e6,
                "post": (done - inferred) / 1e6,
            },
        )

    def scores(self, frame: Frame) -> RawScores:
        """Raw score and map of one frame."""
        return self.scores_of(self._pixels(frame))

    def scores_of(self, pixels: npt.NDArray[np.uint8]) -> RawScores:
        """Raw score and map of network pixels, (1, H, W, 3)."""
        return self._scorer.scores_of(pixels)

    def close(self) -> None:
        """Free the engine."""
        self._runtime.close()

    def _pixels(self, frame: Frame) -> npt.NDArray[np.uint8]:
        """What the network sees of `frame`, valid until the next call."""
        self._preprocess(frame, out=self._input[0])
        return self._input


def _infer(runtime: Runtime, pixels: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.float32], float | None]:
    """Raw channels (K, h, w) and the graph's own score, if it has one."""
    output = runtime.infer(pixels)
    score = None if output.image_score is None else float(output.image_score[0])
    return output.anomaly_map[0], score
