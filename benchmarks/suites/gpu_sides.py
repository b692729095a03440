"""What `gpu_headline.py` times: frames, the two variants of a query, and detectors opened in every runtime.

    python benchmarks/suites/gpu_sides.py [--device cuda]

Run alone it prints which targets this machine can run, and what it lacks for the others.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt
from gpu_torch_side import TorchSide, flop, missing, random_detector

from edgead.benchmarks.sut import STAGES
from edgead.calibration.int8 import Range
from edgead.discovery import load
from edgead.exporters._half import half
from edgead.exporters._qdq import TENSORRT, Int8Recipe, encode, layers, observed, pixel_tensors
from edgead.exporters._registry import exporter_for
from edgead.exporters.onnx_exporter import export_graph
from edgead.imaging.frame import Frame
from edgead.imaging.map_operator import Banded, build
from edgead.imaging.postprocess import Postprocess, RegionFinder
from edgead.imaging.preprocess import Preprocess
from edgead.runtimes._base import RawOutput
from edgead.runtimes._device_engine import DeviceEngine
from edgead.runtimes._graph import MapOutputs
from edgead.runtimes._registry import engines, runtime_for
from edgead.runtimes.cuda._device import Device
from edgead.runtimes.cuda.host_io import HostIo
from edgead.runtimes.cuda.pipeline import CudaPipeline
from edgead.runtimes.cuda.pycuda_device import PycudaDevice, pipeline_missing
from edgead.types import Geometry, PostRecipe, Target, Thresholds

PUBLISHED, END_TO_END = "published", "end_to_end"
FRAME, FRAMES, SAMPLES = (1024, 1280, 3), 20, 4
SEED = 20261125


class Side(Protocol):
    """A runtime, or torch."""

    def infer(self, image: npt.NDArray[np.uint8]) -> RawOutput:
        """(N, H, W, 3) to raw maps."""

    def close(self) -> None:
        """Free it."""


class OnGpu:
    """A target with everything around its engine on the GPU: what a session with runtime ``cuda`` runs.

    Attributes:
        pipeline: frames to what was found.
    """

    def __init__(
        self, device: Device, engine: DeviceEngine, geometry: Geometry, recipe: PostRecipe, source: Path
    ) -> None:
        rows, columns = build(recipe)
        operator = Banded.from_dense(rows), Banded.from_dense(columns)
        self._device, self._engine = device, engine
        with device:
            self._io = HostIo(device, engine)
        self._output = MapOutputs().bind(source, self._io.outputs)
        self.pipeline = CudaPipeline(device, engine, geometry, recipe, operator)

    @property
    def why_eager(self) -> str:
        """Why a part is no CUDA graph; empty where all are."""
        of_torch = getattr(self._engine, "why_eager", "")
        return of_torch or (
            "" if isinstance(self._engine, TorchSide) else "; ".join(self.pipeline.why_plain.values())
        )

    def infer(self, image: npt.NDArray[np.uint8]) -> RawOutput:
        """(N, H, W, 3) to raw maps, through pinned memory."""
        with self._device:
            self._io.run(image)
        return self._output

    def close(self) -> None:
        """Free it."""
        self.pipeline.close()
        if isinstance(self._engine, TorchSide):
            self._engine.close()
        self._device.close()


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """N frames, and what the network sees of them, (N, H, W, 3)."""

    frames: tuple[Frame, ...]
    pixels: npt.NDArray[np.uint8]


class Network:
    """The variant ``published``: pixels to raw maps."""

    runtime, stages = "python", ("engine",)

    def __init__(self, name: str, side: Side) -> None:
        self.name, self._infer = f"{name} {PUBLISHED}", side.infer

    def issue(self, sample: Sample) -> tuple[int, ...]:
        """One batch."""
        begin = time.perf_counter_ns()
        self._infer(sample.pixels)
        return (time.perf_counter_ns() - begin,)


class Inspection:
    """The variant ``end_to_end``: frames to decisions, for good frames: no map reaches its limit.

    Attributes:
        decisions: of the last batch.
        first_map: raw maps of the first sample's pixels.
        finite: whether all scores are.
    """

    runtime: ClassVar[str] = "python"
    stages: ClassVar[tuple[str, ...]] = STAGES

    def __init__(
        self, name: str, side: Side, geometry: Geometry, recipe: PostRecipe, samples: Sequence[Sample]
    ) -> None:
        self.name, self._infer = f"{name} {END_TO_END}", side.infer
        self._preprocess, self._post = Preprocess(geometry), Postprocess(recipe)
        self._pixels = np.empty_like(samples[0].pixels)
        self.decisions = ["ERROR"] * len(self._pixels)
        self.first_map = side.infer(samples[0].pixels).anomaly_map.copy()
        found = np.array([values for sample in samples for values in self._highest(sample)])
        self.finite = bool(np.isfinite(found).all())
        score, value = found.max(0) if self.finite else (1.0, 1.0)
        above = [float(np.nextafter(np.float32(limit), np.float32(np.inf))) for limit in (score, value)]
        below = [limit - max(1.0, abs(limit)) for limit in above]
        self._limits = Thresholds(
            image=above[0], pixel=above[1], image_median=below[0], pixel_median=below[1]
        )

    def _highest(self, sample: Sample) -> list[tuple[float, float]]:
        """(score, highest map value) of each image."""
        output = self._infer(sample.pixels)
        return [
            self._post.scores(raw, _score(output, index))[:2] for index, raw in enumerate(output.anomaly_map)
        ]

    def _decide(self, index: int, score: float) -> None:
        self.decisions[index] = "NG" if score >= self._limits.image else "OK" if score == score else "ERROR"

    def issue(self, sample: Sample) -> tuple[int, ...]:
        """One batch."""
        begin = time.perf_counter_ns()
        for row, frame in zip(self._pixels, sample.frames, strict=True):
            self._preprocess(frame, out=row)
        preprocessed = time.perf_counter_ns()
        output = self._infer(self._pixels)
        inferred = time.perf_counter_ns()
        for index, raw in enumerate(output.anomaly_map):
            self._decide(index, self._post(raw, self._limits, _score(output, index)).score_raw)
        return preprocessed - begin, inferred - preprocessed, time.perf_counter_ns() - inferred


class GpuInspection(Inspection):
    """The same by the GPU pipeline.

    Attributes:
        difference: largest one between the pipeline's maps and those of libedgead on the CPU behind the same
            engine, as a share of their range, over the first sample.
    """

    runtime: ClassVar[str] = "cuda"

    def __init__(
        self, name: str, side: OnGpu, geometry: Geometry, recipe: PostRecipe, samples: Sequence[Sample]
    ) -> None:
        super().__init__(name, side, geometry, recipe, samples)
        self._pipeline, self._regions = side.pipeline, RegionFinder(recipe.output)
        found = self._pipeline.run(samples[0].frames, self._limits)
        output = side.infer(samples[0].pixels)
        self.difference = 0.0
        for index, raw in enumerate(output.anomaly_map):
            expected = self._post(raw, self._limits, _score(output, index)).anomaly_map
            mine = found[index].anomaly_map
            assert mine is not None
            shift = float(np.abs(mine - expected).max()) / (float(np.ptp(expected)) or 1.0)
            self.difference = max(self.difference, shift)

    def issue(self, sample: Sample) -> tuple[int, ...]:
        """One batch."""
        begin = time.perf_counter_ns()
        for index, found in enumerate(self._pipeline.run(sample.frames, self._limits)):
            assert found.anomaly_map is not None
            assert found.mask is not None
            if found.mask.any():
                self._regions(found.anomaly_map, self._limits)
            self._decide(index, found.score_raw)
        timings = self._pipeline.timings
        engine, post = round(timings.engine * 1e6), round(timings.post * 1e6)
        return max(0, time.perf_counter_ns() - begin - engine - post), engine, post


def _score(output: RawOutput, index: int) -> float | None:
    return None if output.image_score is None else float(output.image_score[index])


def targets_here(device: str) -> tuple[list[Target], list[str]]:
    """What can run, the one that maps are compared with first, and in words what this machine lacks."""
    found: list[Target] = []
    lacks: list[str] = []
    if device == "cuda" and (why := pipeline_missing()):
        lacks.append(f"preprocess and post on the GPU, libedgead does them on the CPU: {why}")
    if why := missing(device):
        lacks.append(f"torch: {why}")
    else:
        short = "fp16" if device == "cuda" else "bf16"
        found += [Target("torch", precision, device) for precision in ("fp32", short)]
    wanted = {"tensorrt": ("fp32", "fp16", "int8"), "tensorrt_rtx": ("fp32", "fp16", "int8")}
    wanted |= {"onnxruntime": ("fp32", "fp16")} if device == "cuda" else {}
    if device == "cpu":
        wanted = {"onnxruntime": ("fp32",)}
    here = engines()
    for engine, precisions in wanted.items():
        why = here[engine].why
        if engine == "onnxruntime" and device == "cuda" and here[engine].available:
            import onnxruntime

            if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
                why = "this onnxruntime has no CUDA provider (onnxruntime-gpu has)"
        if why:
            lacks.append(f"{engine}: {why}")
        else:
            found += [Target(engine, precision, device) for precision in precisions]
    return found, lacks


class Preset:
    """A detector and its graphs, made when they are first asked for."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self._folder = name, folder
        self.detector = random_detector(name)
        self._lowering = load("edgead.exporters.lowering", self.detector.name, kind="lowering")
        self._recipe: Int8Recipe = getattr(self._lowering, "INT8", Int8Recipe())
        self._lowered: Any = None
        self._graphs: dict[tuple[int, str], Path] = {}
        self._flop: dict[str, int] = {}

    def flop(self, target: Target) -> int:
        """Per image, of what the target runs."""
        form = "detector" if target.engine == "torch" else "lowered"
        if form not in self._flop:
            module = self.detector if form == "detector" else self.lowered()
            self._flop[form] = flop(module, self.detector.geometry.input_size)
        return self._flop[form]

    def lowered(self) -> Any:
        """As engines run it."""
        if self._lowered is None:
            self._lowered = self._lowering.lower(self.detector).eval()
        return self._lowered

    def open(self, target: Target, batch: int, threads: int) -> Side:
        """The target, ready for `batch` images at a time."""
        size = self.detector.geometry.input_size
        on_gpu = target.device == "cuda" and not pipeline_missing()
        if target.engine == "torch":
            made = TorchSide(self.detector, (batch, *size, 3), target.precision, target.device)
            if not on_gpu:
                return made
            return self._on_gpu(PycudaDevice(0, f"{self.name} {target}"), made, self._folder / "torch")
        graph = self._graph(batch, target.precision)
        main_file = (
            exporter_for(target.engine).compile(graph, target, self._folder / f"batch{batch}").main_file
        )
        runtime = runtime_for(target.engine)
        if not on_gpu:
            return runtime.open(main_file, target, threads=threads)
        device = PycudaDevice(0, f"{self.name} {target}")
        try:
            with device:
                engine = runtime.on_device(main_file, target, device)
        except BaseException:
            device.close()
            raise
        return self._on_gpu(device, engine, main_file)

    def _on_gpu(self, device: Device, engine: DeviceEngine, source: Path) -> OnGpu:
        try:
            return OnGpu(device, engine, self.detector.geometry, self.detector.post_recipe, source)
        except BaseException:
            device.close()
            raise

    def _graph(self, batch: int, precision: str) -> Path:
        if (batch, precision) not in self._graphs:
            self._graphs[batch, precision] = self._write(batch, precision)
        return self._graphs[batch, precision]

    def _write(self, batch: int, precision: str) -> Path:
        if precision == "fp32":
            path = self._folder / f"batch{batch}" / "graph.onnx"
            path.parent.mkdir()
            named = {"edgead.detector": self.detector.name}
            size = self.detector.geometry.input_size
            return export_graph(self.lowered(), size, path, batch=batch, metadata=named).path
        graph = self._graph(batch, "fp32")
        if precision == "fp16":
            return half(graph, self._recipe, graph.parent)
        import onnx

        values = onnx.load(graph, load_external_data=False).graph
        ranges = dict.fromkeys(observed(values), Range(-6.0, 6.0)) | pixel_tensors(values)
        return encode(graph, ranges, layers(graph, self._recipe), TENSORRT)


def samples_of(geometry: Geometry, batch: int) -> list[Sample]:
    """Random frames; batches share them."""
    rng = np.random.default_rng(SEED)
    frames = [Frame(rng.integers(0, 256, FRAME, np.uint8), "BGR8") for _ in range(FRAMES)]
    preprocess = Preprocess(geometry)
    pixels = [preprocess(frame) for frame in frames]
    chosen = [[(first * batch + k) % FRAMES for k in range(batch)] for first in range(SAMPLES)]
    return [
        Sample(tuple(frames[k] for k in part), np.ascontiguousarray([pixels[k] for k in part]))
        for part in chosen
    ]


def main() -> int:
    """Print what can run."""
    parser = argparse.ArgumentParser(description="what gpu_headline.py can run here")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    targets, lacking = targets_here(parser.parse_args().device)
    print("\n".join([*map(str, targets), *(f"lacking here: {line}" for line in lacking)]))
    return 0 if targets else 2


if __name__ == "__main__":
    sys.exit(main())
