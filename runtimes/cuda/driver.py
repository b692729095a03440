"""Frames to predictions with all work on one GPU: `PythonDriver`'s twin, and the same results."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from edgead.errors import EngineError, RuntimeMissingError, UsageError
from edgead.imaging.frame import Frame
from edgead.imaging.map_operator import Banded
from edgead.imaging.postprocess import RegionFinder, region_to_frame
from edgead.runtimes._device_engine import DeviceEngine
from edgead.runtimes._driver import RawScores, RuntimeName
from edgead.runtimes._registry import runtime_for
from edgead.runtimes._tensorrt import device_index
from edgead.runtimes.cuda._device import Device
from edgead.runtimes.cuda.pipeline import EVERYTHING, MAP_ONLY, CudaPipeline
from edgead.runtimes.cuda.post import PostFound
from edgead.runtimes.cuda.pycuda_device import PycudaDevice, pipeline_missing
from edgead.types import Geometry, PostRecipe, Prediction, Region, Target, Thresholds

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from edgead.bundle.reader import Bundle
    from edgead.imaging.device_frame import DeviceFrame


class CudaDriver:
    """One target of a bundle, driven on a GPU.

    Attributes:
        thresholds: the limits that decide; they may be set.
        pipeline: what runs; it says what could not be recorded as a CUDA graph, and why.
    """

    name: RuntimeName = "cuda"

    def __init__(
        self,
        device: Device,
        engine: DeviceEngine,
        geometry: Geometry,
        recipe: PostRecipe,
        operator: tuple[Banded, Banded],
        thresholds: Thresholds,
        target: Target,
    ) -> None:
        """Make everything ready; `close` closes the device, too.

        Raises:
            EngineError: not enough memory, or the engine fails or does not fit.
            UsageError: the recipe cannot be run.
        """
        if engine.input_shape[0] != 1:
            raise EngineError(
                f"{target}: the engine takes {engine.input_shape[0]} images, a bundle's takes one"
            )
        self.thresholds = thresholds
        self._device, self._geometry, self._target = device, geometry, target
        self.pipeline = CudaPipeline(device, engine, geometry, recipe, operator)
        self.pipeline.prepare(EVERYTHING)
        self._regions = RegionFinder(recipe.output)
        self._closed = False

    @classmethod
    def open(cls, bundle: Bundle, target: Target) -> CudaDriver:
        """Open `target` of `bundle`.

        Raises:
            UsageError: the bundle has no such target, or it is for no NVIDIA GPU.
            RuntimeMissingError: the engine's package, pycuda, NVRTC, driver or GPU is missing, the engine
                does not keep its tensors on a GPU, or the bundle's images are seen in tiles.
            EngineError: the engine refuses the work on this machine.
        """
        entry, manifest = bundle.entry(str(target)), bundle.manifest
        if not target.device.startswith("cuda"):
            raise UsageError(
                f"{target} runs on no NVIDIA GPU, so the runtime 'cuda' cannot drive it: use native or python"
            )
        index = device_index(target)
        if missing := pipeline_missing():
            raise RuntimeMissingError(f"{target} cannot be driven on the GPU: {missing}")
        if manifest.tiling is not None:
            raise RuntimeMissingError(f"{target}: maps of tiles are joined on the CPU; open it with python")
        rows, columns = (Banded(*matrix) for matrix in bundle.operator())
        device = PycudaDevice(index, manifest.detector.name)
        try:
            with device:
                engine = runtime_for(target.engine).on_device(bundle.path(entry.main_file), target, device)
            return cls(
                device,
                engine,
                manifest.geometry,
                manifest.post,
                (rows, columns),
                bundle.thresholds(entry.target),
                target,
            )
        except BaseException:
            device.close()
            raise

    def predict(self, frame: Frame | DeviceFrame) -> Prediction:
        """Judge one frame."""
        limits = self.thresholds
        (found,) = self.pipeline.run([frame], limits)
        assert found.anomaly_map is not None
        assert found.heatmap is not None
        assert found.mask is not None
        score_raw, timings = found.score_raw, self.pipeline.timings
        finite = math.isfinite(score_raw)
        return Prediction(
            score_raw=score_raw,
            score=limits.normalise(score_raw) if finite else math.nan,
            # a NaN never reads as OK
            decision="ERROR" if not finite else "NG" if score_raw >= limits.image else "OK",
            regions=self._regions_of(found, limits, (frame.height, frame.width)),
            anomaly_map=found.anomaly_map,
            heatmap=found.heatmap,
            mask=found.mask,
            target=str(self._target),
            timings_ms={
                "preprocess": timings.preprocess,
                "engine": timings.engine,
                "post": timings.post,
            },
        )

    def scores(self, frame: Frame | DeviceFrame) -> RawScores:
        """Raw score and map of one frame."""
        return _scores(*self.pipeline.run([frame], self.thresholds, MAP_ONLY))

    def scores_of(self, pixels: npt.NDArray[np.uint8]) -> RawScores:
        """Raw score and map of network pixels, (1, H, W, 3)."""
        return _scores(*self.pipeline.run_pixels(pixels, self.thresholds, MAP_ONLY))

    def close(self) -> None:
        """Free the engine and the device's memory."""
        if self._closed:
            return
        self._closed = True
        self.pipeline.close()
        self._device.close()

    def _regions_of(
        self, found: PostFound, limits: Thresholds, frame_size: tuple[int, int]
    ) -> tuple[Region, ...]:
        """In frame pixels; the host looks for them only where the mask has any."""
        assert found.anomaly_map is not None
        assert found.mask is not None
        if not found.mask.any():
            return ()
        return tuple(
            region_to_frame(region, found.anomaly_map.shape, self._geometry, frame_size)
            for region in self._regions(found.anomaly_map, limits)
        )


def _scores(found: PostFound) -> RawScores:
    assert found.anomaly_map is not None
    return RawScores(found.score_raw, found.map_max, found.anomaly_map)
