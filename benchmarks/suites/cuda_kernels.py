"""Every CUDA kernel of the pipeline against libedgead's kernel for the CPU: the same results, and how fast.

    python benchmarks/suites/cuda_kernels.py [--rounds 200] [--json]

On an NVIDIA GPU: preprocess (1280×1024 frames to 256×256) and post (36→288, 64→1024, 56→256), one image at a
time and 32. Kernels are timed on the device, recorded as one CUDA graph; one image lies in its cache, 32
frames are more than that holds. Bytes are those that must move, each input read once and each output written
once; the bandwidth beside them is that of a large copy in the same run. The CPU's times are of one thread.

Without a GPU it says so and prints what each kernel takes of a multiprocessor, per compute capability.

Bars: preprocess the same bytes as libedgead's, post ≤ 1e-5 of the map's range from it, no kernel spills a
register. Exits with 1 when one is missed.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from edgead.benchmarks.environment import record
from edgead.imaging.frame import Frame
from edgead.imaging.map_operator import Banded, build
from edgead.imaging.postprocess import Postprocess, heatmap_range
from edgead.imaging.preprocess import Preprocess
from edgead.runtimes._tensorrt import parse_capability
from edgead.runtimes.cuda._compile import SOURCES, compile_source
from edgead.runtimes.cuda._device import Device
from edgead.runtimes.cuda.post import CudaPost
from edgead.runtimes.cuda.preprocess import CudaPreprocess
from edgead.runtimes.cuda.pycuda_device import PycudaDevice, pipeline_missing
from edgead.types import Geometry, PostRecipe, Resampler, Thresholds

CAPABILITIES = ("7.5", "8.0", "8.6", "8.7", "8.9", "9.0")
ERROR_BAR = 1e-5
SEED = 20261126
MANY = 32  # frames, and images of a batch: 126 MB of frames
COPY_BYTES = 1 << 30
LIMITS = Thresholds(image=2.0, pixel=1.5, image_median=1.0, pixel_median=1.0)


@dataclass(frozen=True, slots=True)
class Case:
    """One thing that the device does, `images` times in a run.

    Attributes:
        bytes: that must move for one run.
        enqueue: puts one run into the stream.
        on_cpu: the same for one image with libedgead.
        error: after a run, the largest difference as a share of the range.
        bar: of `error`.
    """

    name: str
    images: int
    bytes: int
    enqueue: Callable[[], None]
    on_cpu: Callable[[], object]
    error: Callable[[], float]
    bar: float


def preprocess_cases(device: Device, size: tuple[int, int], images: int) -> list[Case]:
    """From frames in device memory to 256×256 RGB."""
    rng = np.random.default_rng(SEED)
    found = []
    kinds: tuple[tuple[str, Resampler], ...] = (
        ("BGR8", "pillow_bilinear"),
        ("BGR8", "opencv_linear"),
        ("MONO8", "pillow_bilinear"),
        ("BAYER_RG8", "pillow_bilinear"),
    )
    for pixel_format, resampler in kinds:
        geometry = Geometry(height=256, width=256, resampler=resampler)
        shape = (*size, 3) if pixel_format == "BGR8" else size
        frames = [rng.integers(0, 256, shape, np.uint8) for _ in range(images)]
        addresses = [_on_device(device, frame) for frame in frames]
        out = device.allocate(images * 256 * 256 * 3, "pixels")
        kernel = CudaPreprocess(device, geometry, pixel_format, size)
        found.append(
            Case(
                f"preprocess {pixel_format} {resampler}",
                images,
                images * (frames[0].nbytes + 256 * 256 * 3),
                _preprocess_run(kernel, addresses, frames[0].strides[0], out),
                *_preprocess_checks(device, geometry, [Frame(frame, pixel_format) for frame in frames], out),
                0.0,
            )
        )
    return found


def _preprocess_run(
    kernel: CudaPreprocess, addresses: Sequence[int], stride: int, out: int
) -> Callable[[], None]:
    def enqueue() -> None:
        for image, address in enumerate(addresses):
            kernel.enqueue(address, stride, out + image * 256 * 256 * 3)

    return enqueue


def _preprocess_checks(
    device: Device, geometry: Geometry, frames: Sequence[Frame], out: int
) -> tuple[Callable[[], object], Callable[[], float]]:
    cpu, host = Preprocess(geometry), np.empty((len(frames), 256, 256, 3), np.uint8)

    def error() -> float:
        device.copy_out(host, out)
        device.synchronize()
        expected = np.stack([cpu(frame) for frame in frames]).astype(np.int16)
        return float(np.abs(expected - host).max()) / 255

    return (lambda: cpu(frames[0], out=host[0])), error


def post_cases(device: Device, sizes: Sequence[tuple[int, int]], images: int) -> list[Case]:
    """From raw maps in device memory to score, map, mask and heatmap in pinned memory."""
    rng = np.random.default_rng(SEED)
    found = []
    for grid, output in sizes:
        blurred = PostRecipe(grid=(grid, grid), output=(output, output), blur_sigma=4.0, score_rule="max")
        for recipe in (blurred, replace(blurred, score_rule="top_k_mean", top_k=output)):
            rows, columns = (Banded.from_dense(matrix) for matrix in build(recipe))
            raw = rng.gamma(20.0, 0.05, (images, 1, grid, grid)).astype(np.float32)
            raw[:, 0, grid // 4 : grid // 4 + 3, grid // 3 : grid // 3 + 4] += 2.0
            address = _on_device(device, raw)
            post = CudaPost(device, recipe, (rows, columns), images=images)
            post.set_limits(LIMITS, heatmap_range(LIMITS))
            found.append(
                Case(
                    f"post {grid}→{output} {recipe.score_rule}",
                    images,
                    images * (grid * grid * 4 + output * output * 6),
                    _post_run(post, address),
                    *_post_checks(device, post, Postprocess(recipe, (rows, columns)), raw),
                    ERROR_BAR,
                )
            )
    return found


def _post_run(post: CudaPost, address: int) -> Callable[[], None]:
    return lambda: post.enqueue(address)


def _post_checks(
    device: Device, post: CudaPost, cpu: Postprocess, raw: npt.NDArray[np.float32]
) -> tuple[Callable[[], object], Callable[[], float]]:
    def error() -> float:
        device.synchronize()
        worst = 0.0
        for image, values in enumerate(raw):
            mine, expected = post.found(image), cpu(values, LIMITS, max_regions=0)
            assert mine.anomaly_map is not None
            spread = float(np.ptp(expected.anomaly_map))
            shift = float(np.abs(mine.anomaly_map - expected.anomaly_map).max())
            shift = max(shift, abs(mine.score_raw - expected.score_raw))
            same = np.array_equal(mine.mask, expected.mask) and np.array_equal(mine.heatmap, expected.heatmap)
            # A pixel of the mask that turned over is no rounding unless the map moved, too.
            worst = max(worst, shift / spread if same or shift > 0 else math.inf)
        return worst

    return (lambda: cpu(raw[0], LIMITS, max_regions=0)), error


def _on_device(device: Device, array: npt.NDArray[np.generic]) -> int:
    address = device.allocate(array.nbytes, "input")
    device.copy_in(address, array)
    device.synchronize()
    return address


def measure(
    device: Device, cases: Sequence[Case], rounds: int, bandwidth: float | None, *, warm_up: int = 3
) -> list[dict[str, Any]]:
    """A row per case: agreement, then device and CPU times, all cases in turn.

    Args:
        device: entered.
        cases: made on it.
        rounds: of times.
        bandwidth: bytes per second of a large copy; None = not known.
        warm_up: rounds before.
    """
    errors = []
    for case in cases:
        case.enqueue()
        errors.append(case.error())
    recordings = [device.record(case.enqueue) for case in cases]
    begin, end = device.marker(), device.marker()
    times = np.empty((2, len(cases), rounds))
    for turn in range(-warm_up, rounds):
        for place, (case, recording) in enumerate(zip(cases, recordings, strict=True)):
            begin.record()
            recording.replay()
            end.record()
            device.synchronize()
            start = time.perf_counter()
            case.on_cpu()
            on_cpu = (time.perf_counter() - start) * 1e3
            if turn >= 0:
                times[:, place, turn] = end.ms_since(begin), on_cpu
    rows = []
    for place, case in enumerate(cases):
        on_device, on_cpu = (float(np.median(times[side, place])) for side in (0, 1))
        moved = case.bytes / (on_device / 1e3) if on_device > 0 else math.inf
        rows.append(
            {
                "case": case.name,
                "images": case.images,
                "error": errors[place],
                "passed": errors[place] <= case.bar,
                "device_us": on_device * 1e3,
                "cpu_us_per_image": on_cpu * 1e3,
                "gb_per_s": moved / 1e9,
                "bandwidth_fraction": None if bandwidth is None else moved / bandwidth,
            }
        )
    return rows


def copy_bandwidth(device: Device) -> float:
    """Bytes per second of a large copy within the device, read and written, median of runs."""
    from edgead.runtimes.cuda._bindings import bindings

    driver = bindings()
    source, target = (device.allocate(COPY_BYTES, "a large copy") for _ in range(2))
    begin, end, times = device.marker(), device.marker(), []
    for _ in range(20):
        begin.record()
        (status,) = driver.cuMemcpyDtoDAsync(
            driver.CUdeviceptr(target), driver.CUdeviceptr(source), COPY_BYTES, driver.CUstream(device.stream)
        )
        if int(status) != 0:
            raise RuntimeError(f"the copy failed with {status.name}")
        end.record()
        device.synchronize()
        times.append(end.ms_since(begin) / 1e3)
    for address in (source, target):
        device.free(address)
    return 2 * COPY_BYTES / float(np.median(times[5:]))


def resources(capabilities: Sequence[str]) -> list[dict[str, Any]]:
    """A row per kernel and compute capability: what the compiler says that it takes."""
    return [
        {"source": source, "kernel": kernel, "capability": capability, **asdict(taken)}
        for source in SOURCES
        for capability in capabilities
        for kernel, taken in compile_source(source, parse_capability(capability)).resources().items()
    ]


def tables(result: dict[str, Any]) -> str:
    """Everything in Markdown."""
    lines = []
    if result["rows"]:
        lines += [
            f"{result['device']}: {result['copy_gb_per_s']:,.0f} GB/s in a large copy, read and written",
            "",
            "| case | images | error | device µs | CPU µs per image | GB/s | of the copy |",
            "|---|---:|---:|---:|---:|---:|---:|",
        ]
        lines += [
            f"| {row['case']} | {row['images']} | {row['error']:.1e} | {row['device_us']:.1f} "
            f"| {row['cpu_us_per_image']:.0f} | {row['gb_per_s']:,.0f} | {row['bandwidth_fraction']:.0%} |"
            for row in result["rows"]
        ]
        lines.append("")
    lines += ["| kernel | sm | registers | shared bytes | spilled bytes |", "|---|---|---:|---:|---:|"]
    lines += [
        f"| {row['source']} {row['kernel']} | {row['capability']} | {row['registers']} "
        f"| {row['shared_bytes']} | {row['spill_bytes']} |"
        for row in result["resources"]
    ]
    return "\n".join(lines)


def main() -> int:
    """Measure where there is a GPU, and report the resources."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument(
        "--capabilities", nargs="+", default=list(CAPABILITIES), help="for the resource report"
    )
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error(f"--rounds {options.rounds}: at least 1")
    result: dict[str, Any] = {"environment": asdict(record()), "device": None, "copy_gb_per_s": None}
    result |= {"lacking": pipeline_missing(), "rows": [], "resources": resources(options.capabilities)}
    if result["lacking"]:
        print(f"no kernel was run: {result['lacking']}", file=sys.stderr)
    else:
        device = PycudaDevice(0, "cuda_kernels.py")
        with device:
            bandwidth = copy_bandwidth(device)
            result |= {"device": device.facts.name, "copy_gb_per_s": bandwidth / 1e9}
            sizes = ((36, 288), (64, 1024), (56, 256))
            cases = [
                case
                for images in (1, MANY)
                for case in (
                    *preprocess_cases(device, (1024, 1280), images),
                    *post_cases(device, sizes, images),
                )
            ]
            result["rows"] = measure(device, cases, options.rounds, bandwidth)
        device.close()
    spills = any(row["spill_bytes"] for row in result["resources"])
    result["passed"] = not spills and all(row["passed"] for row in result["rows"])
    print(json.dumps(result, indent=2) if options.json else tables(result))
    return 0 if result["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
