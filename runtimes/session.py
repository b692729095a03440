"""One opened target of a bundle: frame in, `Prediction` out."""

from __future__ import annotations

import math
import time
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple

from edgead.errors import RuntimeMissingError
from edgead.imaging.frame import Frame
from edgead.imaging.map_operator import Banded
from edgead.imaging.postprocess import Postprocess, region_to_frame
from edgead.imaging.preprocess import Preprocess
from edgead.runtimes._base import Runtime
from edgead.runtimes._registry import engines, runtime_for
from edgead.types import Geometry, Prediction, Target, Thresholds

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from edgead.bundle.reader import Bundle


class RawScores(NamedTuple):
    """What calibration and verification look at, in raw units.

    score_raw: the image score. map_max: maximum of `anomaly_map`. anomaly_map: (h, w) float32.
    """

    score_raw: float
    map_max: float
    anomaly_map: npt.NDArray[np.float32]


class Pipeline:
    """Preprocess, engine and map operator of one runtime: frame in, raw scores out. No thresholds yet."""

    def __init__(self, runtime: Runtime, geometry: Geometry, postprocess: Postprocess) -> None:
        import numpy as np

        self.runtime = runtime
        self.postprocess = postprocess
        self._preprocess = Preprocess(geometry)
        self._input: npt.NDArray[np.uint8] = np.empty(runtime.input_shape, np.uint8)

    def pixels(self, frame: Frame) -> npt.NDArray[np.uint8]:
        """What the network sees of `frame`: (1, H, W, 3) uint8 RGB, valid until the next call."""
        self._preprocess(frame, out=self._input[0])
        return self._input

    def infer(self, pixels: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.float32], float | None]:
        """Raw channels (K, h, w) and the graph's own score, if it has one."""
        output = self.runtime.infer(pixels)
        score = None if output.image_score is None else float(output.image_score[0])
        return output.anomaly_map[0], score

    def scores(self, frame: Frame) -> RawScores:
        """Raw score and map of `frame`."""
        raw, graph_score = self.infer(self.pixels(frame))
        return RawScores(*self.postprocess.scores(raw, graph_score))


class Session:
    """One opened target of a bundle. Not for concurrent use: one session per thread."""

    def __init__(
        self, pipeline: Pipeline, thresholds: Thresholds, target: Target, geometry: Geometry
    ) -> None:
        self.pipeline = pipeline
        self.thresholds = thresholds
        self.target = target
        self.geometry = geometry

    @classmethod
    def open(cls, bundle: Bundle, target: Target | str | None = None, *, threads: int = 0) -> Session:
        """Open one target of `bundle`.

        Args:
            bundle: an open bundle; it must stay open as long as the session.
            target: which engine; an explicit one never falls back. None = the bundle's first target whose
                engine is installed here; `Session.target` says which it was.
            threads: compute threads of the engine, 0 = the engine's own choice.

        Raises:
            UsageError: the bundle has no such target.
            RuntimeMissingError: the target's engine, or with None every engine, is missing here.
            EngineError: the engine refuses the work on this machine.
        """
        entry = bundle.entry(str(target) if target is not None else first_available(bundle))
        chosen = Target.parse(entry.target)
        runtime = runtime_for(chosen.engine)
        runtime.open(bundle.path(entry.main_file), chosen, threads=threads)
        manifest = bundle.manifest
        h, w = (Banded(*matrix) for matrix in bundle.operator())
        pipeline = Pipeline(runtime, manifest.geometry, Postprocess(manifest.post, (h, w)))
        return cls(pipeline, bundle.thresholds(entry.target), chosen, manifest.geometry)

    def predict(self, frame: Frame) -> Prediction:
        """Judge one frame.

        Raises:
            ImageError: the frame does not fit the bundle's geometry (an ROI outside it, for instance).
            EngineError: the engine failed.
        """
        start = time.perf_counter_ns()
        pixels = self.pipeline.pixels(frame)
        preprocessed = time.perf_counter_ns()
        raw, graph_score = self.pipeline.infer(pixels)
        inferred = time.perf_counter_ns()
        post = self.pipeline.postprocess(raw, self.thresholds, graph_score)
        regions = tuple(
            region_to_frame(region, post.anomaly_map.shape, self.geometry, (frame.height, frame.width))
            for region in post.regions
        )
        done = time.perf_counter_ns()
        score_raw = post.score_raw
        finite = math.isfinite(score_raw)
        return Prediction(
            score_raw=score_raw,
            score=self.thresholds.normalise(score_raw) if finite else math.nan,
            # a NaN never reads as OK
            decision="ERROR" if not finite else "NG" if score_raw >= self.thresholds.image else "OK",
            regions=regions,
            anomaly_map=post.anomaly_map,
            heatmap=post.heatmap,
            mask=post.mask,
            target=str(self.target),
            timings_ms={
                "preprocess": (preprocessed - start) / 1e6,
                "engine": (inferred - preprocessed) / 1e6,
                "post": (done - inferred) / 1e6,
            },
        )

    def close(self) -> None:
        """Free the engine."""
        self.pipeline.runtime.close()

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def first_available(bundle: Bundle) -> str:
    """The bundle's first target whose engine can run here.

    Raises:
        RuntimeMissingError: none can; the message says why for each.
    """
    here = engines()
    reasons = []
    for target in bundle.targets:
        availability = here.get(Target.parse(target).engine)
        if availability is not None and availability.available:
            return target
        reasons.append(f"{target}: {availability.why if availability else 'this edgead has no such runtime'}")
    raise RuntimeMissingError("no target of this bundle can run here: " + "; ".join(reasons))
