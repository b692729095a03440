"""The fused post kernel against the same work in SciPy and in OpenCV, on one thread.

    python benchmarks/suites/post_kernel.py [--json]

From a raw map to score, map, mask, 8-bit heatmap and regions, σ = 4, for 36→288 and 64→1024 pixels a side.
All sides run in turn in each round; the figures are medians over all rounds. The chains leave out each
region's peak, which the kernel gives. --cpu-time counts the thread's CPU time, for machines with other work
to do: every side has one thread. Bars: 36→288 at least 15× (SciPy) and 4× (OpenCV) as fast, 64→1024 30×
and 8×, with the best instruction set; at most 1e-5 of the map's range from float64. Exits with 1 when one is
missed.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

import cv2
import numpy as np
import numpy.typing as npt
from scipy import ndimage

from edgead._native._library import ALL_CPU_FEATURES, CPU_AVX2, kernel_name
from edgead.benchmarks.environment import record
from edgead.imaging.map_operator import build
from edgead.imaging.postprocess import Postprocess
from edgead.types import PostRecipe, Thresholds

SIGMA = 4.0
ERROR_BAR = 1e-5
SEED = 20261123
Map = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Case:
    """One pair of sizes, and how many times faster than SciPy and OpenCV the kernel has to be."""

    grid: int
    output: int
    scipy_bar: float
    opencv_bar: float


CASES = (Case(36, 288, 15.0, 4.0), Case(64, 1024, 30.0, 8.0))


def raw_map(size: int) -> Map:
    """Noise as on a good part, and two defects."""
    rng = np.random.default_rng(SEED)
    grid = rng.gamma(20.0, 0.05, (size, size)).astype(np.float32)
    grid[size // 4 : size // 4 + 3, size // 3 : size // 3 + 4] += 2.0
    grid[3 * size // 4, size // 2] += 4.0
    return grid


def scipy_chain(raw: Map, output: int, limits: Thresholds) -> Callable[[], tuple[Map, object]]:
    """zoom, gaussian_filter, threshold, label, 8 bit."""
    factor = output / raw.shape[0]
    low, high = limits.display_range
    eight = np.ones((3, 3), int)

    def run() -> tuple[Map, object]:
        score = raw.max()
        resized = ndimage.zoom(raw, factor, order=1, mode="nearest", grid_mode=True)
        blurred = ndimage.gaussian_filter(resized, SIGMA)
        above = blurred >= limits.pixel
        mask = above.astype(np.uint8) * 255
        heatmap = np.clip((blurred - low) * (255 / (high - low)) + 0.5, 0, 255).astype(np.uint8)
        labels, _ = ndimage.label(above, eight)
        boxes, areas = ndimage.find_objects(labels), np.bincount(labels.ravel())
        return blurred, (score, blurred.max(), mask, heatmap, boxes, areas)

    return run


def opencv_chain(raw: Map, output: int, limits: Thresholds) -> Callable[[], tuple[Map, object]]:
    """Resize, GaussianBlur, threshold, connectedComponentsWithStats, 8 bit."""
    low, high = limits.display_range
    scale = 255 / (high - low)
    side = 2 * int(4 * SIGMA + 0.5) + 1

    def run() -> tuple[Map, object]:
        score = raw.max()
        resized = cv2.resize(raw, (output, output), interpolation=cv2.INTER_LINEAR)
        blurred = cv2.GaussianBlur(resized, (side, side), SIGMA, borderType=cv2.BORDER_REFLECT)
        mask = cv2.compare(blurred, limits.pixel, cv2.CMP_GE)
        heatmap = cv2.addWeighted(blurred, scale, blurred, 0.0, -low * scale, dtype=cv2.CV_8U)
        regions = cv2.connectedComponentsWithStats(mask, connectivity=8)
        return blurred, (score, blurred.max(), mask, heatmap, regions)

    return run


def fused(
    raw: Map, recipe: PostRecipe, limits: Thresholds, cpu_mask: int
) -> Callable[[], tuple[Map, object]]:
    """The kernel as Python callers use it: new arrays each time."""
    process = Postprocess(recipe, cpu_mask=cpu_mask)
    batch = raw[None]

    def run() -> tuple[Map, object]:
        out = process(batch, limits)
        return out.anomaly_map, out

    return run


def median_ms(
    sides: Mapping[str, Callable[[], object]], rounds: int, clock: Callable[[], int]
) -> dict[str, float]:
    """Every side once untimed and four times timed per round, in turn."""
    times: dict[str, list[int]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, run in sides.items():
            run()
            for _ in range(4):
                begin = clock()
                run()
                times[name].append(clock() - begin)
    return {name: float(np.median(values)) / 1e6 for name, values in times.items()}


def measure(case: Case, rounds: int, clock: Callable[[], int]) -> dict[str, object]:
    """Times, ratios and errors of one pair of sizes."""
    raw = raw_map(case.grid)
    recipe = PostRecipe(grid=raw.shape, output=(case.output, case.output), blur_sigma=SIGMA)
    rows, cols = build(recipe)
    exact = rows @ raw.astype(np.float64) @ cols.T
    limits = Thresholds(image=2.0, pixel=1.4, image_median=1.5, pixel_median=1.0)
    masks = {kernel_name(mask): mask for mask in (0, CPU_AVX2, ALL_CPU_FEATURES)}
    sides = {name: fused(raw, recipe, limits, mask) for name, mask in masks.items()}
    sides |= {
        "scipy": scipy_chain(raw, case.output, limits),
        "opencv": opencv_chain(raw, case.output, limits),
    }
    errors = {name: float(np.abs(run()[0] - exact).max() / np.ptp(exact)) for name, run in sides.items()}
    times = median_ms(sides, rounds, clock)
    levels = {
        name: {
            "ms": times[name],
            "times_faster_than_scipy": times["scipy"] / times[name],
            "times_faster_than_opencv": times["opencv"] / times[name],
            "error": errors[name],
        }
        for name in masks
    }
    best = levels[kernel_name()]
    passed = (
        best["times_faster_than_scipy"] >= case.scipy_bar
        and best["times_faster_than_opencv"] >= case.opencv_bar
        and all(level["error"] <= ERROR_BAR for level in levels.values())
    )
    chains = {name: {"ms": times[name], "error": errors[name]} for name in ("scipy", "opencv")}
    return {**asdict(case), "levels": levels, "chains": chains, "best": kernel_name(), "passed": passed}


def show(result: dict[str, object]) -> None:
    """One pair of sizes as a table."""
    levels, chains = result["levels"], result["chains"]
    assert isinstance(levels, dict)
    assert isinstance(chains, dict)
    print(
        f"\n{result['grid']}→{result['output']}, σ = {SIGMA:g}, all outputs, one thread "
        f"(bars with {result['best']}: SciPy {result['scipy_bar']:g}×, OpenCV {result['opencv_bar']:g}×)"
    )
    print(f"{'':8} {'median ms':>10} {'vs SciPy':>9} {'vs OpenCV':>10} {'error/range':>12}")
    for name, row in {**levels, **chains}.items():
        ratios = [row.get(f"times_faster_than_{chain}") for chain in ("scipy", "opencv")]
        cells = [f"{ratio:.1f}×" if ratio is not None else "" for ratio in ratios]
        print(f"{name:8} {row['ms']:10.4f} {cells[0]:>9} {cells[1]:>10} {row['error']:12.1e}")


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description="the fused post kernel against SciPy and OpenCV")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--cpu-time", action="store_true", help="count CPU time, not wall time")
    parser.add_argument("--rounds", type=int, default=40)
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error(f"--rounds {options.rounds}: use at least 1")

    cv2.setNumThreads(1)
    environment = record()
    clock = time.thread_time_ns if options.cpu_time else time.perf_counter_ns
    results = [measure(case, options.rounds, clock) for case in CASES]
    passed = all(result["passed"] for result in results)
    if options.json:
        print(json.dumps({"cases": results, "passed": passed, "environment": asdict(environment)}, indent=2))
    else:
        for name, value in asdict(environment).items():
            print(f"{name:15} {value}")
        print(f"{'clock':15} {'CPU time of the thread' if options.cpu_time else 'wall'}")
        for result in results:
            show(result)
        print("passed" if passed else "FAILED")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
