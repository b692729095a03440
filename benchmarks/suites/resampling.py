"""Resampling to the network's input, one thread: libedgead per kernel level, Pillow and OpenCV.

    python benchmarks/suites/resampling.py [--rounds 200] [--json]

All contestants take turns on the same random frame; medians. They start from the frame in memory and end
with a uint8 RGB array or image of 256 × 256. Pillow's image object is made before the clock starts, except
for BGR, which Pillow cannot read: there the swap and the object count. Bars: RGB, pillow_bilinear, against
Pillow at least 4 times faster with AVX-512 and 1.5 times with AVX2. Exits with 1 when one is missed.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict

import cv2
import numpy as np
import numpy.typing as npt
import PIL
from PIL import Image

from edgead._native import _library
from edgead._native.preprocessor import Preprocessor
from edgead.benchmarks.environment import record
from edgead.types import Resampler

OUTPUT = (256, 256)
SOURCES = ((900, 900), (1024, 1280))
FORMATS = ("RGB8", "BGR8", "MONO8")
RESAMPLERS: tuple[Resampler, ...] = ("pillow_bilinear", "opencv_linear")
BARS = {"avx512": 4.0, "avx2": 1.5}
MASKS = (0, _library.CPU_AVX2, _library.CPU_AVX2 | _library.CPU_AVX512, _library.CPU_NEON)

Contestants = dict[str, Callable[[], object]]


def contestants(source: tuple[int, int], pixel_format: str) -> Contestants:
    """Name → one run; libedgead's are named ``<resampler>/<level>``."""
    shape = source if pixel_format == "MONO8" else (*source, 3)
    frame = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    out = np.empty((*OUTPUT, 3), np.uint8)
    found: Contestants = {}
    for resampler in RESAMPLERS:
        for mask in MASKS:
            if _library.cpu_features() & mask == mask:
                plan = Preprocessor(pixel_format, source, OUTPUT, resampler=resampler, cpu_mask=mask)
                found[f"{resampler}/{_library.kernel_name(mask)}"] = lambda plan=plan: plan(frame, out=out)
    size = OUTPUT[::-1]
    found["pillow"] = _pillow(frame, pixel_format, size)
    if pixel_format == "RGB8":
        found["opencv"] = lambda: cv2.resize(frame, size)
    else:
        code = cv2.COLOR_BGR2RGB if pixel_format == "BGR8" else cv2.COLOR_GRAY2RGB
        found["opencv"] = lambda: cv2.cvtColor(cv2.resize(frame, size), code)
    return found


def _pillow(frame: npt.NDArray[np.uint8], pixel_format: str, size: tuple[int, ...]) -> Callable[[], object]:
    if pixel_format == "BGR8":
        return lambda: Image.fromarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)).resize(
            size, Image.Resampling.BILINEAR
        )
    image = Image.fromarray(frame)
    if pixel_format == "RGB8":
        return lambda: image.resize(size, Image.Resampling.BILINEAR)
    return lambda: image.resize(size, Image.Resampling.BILINEAR).convert("RGB")


def medians_ms(runs: Contestants, rounds: int) -> dict[str, float]:
    """Median of each contestant over `rounds` turns."""
    times: dict[str, list[int]] = {name: [] for name in runs}
    for turn in range(rounds + 3):  # three to warm up
        for name, run in runs.items():
            start = time.perf_counter_ns()
            run()
            if turn >= 3:
                times[name].append(time.perf_counter_ns() - start)
    return {name: float(np.median(values)) / 1e6 for name, values in times.items()}


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description="resampling against Pillow and OpenCV")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=200)
    options = parser.parse_args()
    cv2.setNumThreads(1)

    environment = record()
    rows = []
    missed = []
    for source in SOURCES:
        for pixel_format in FORMATS:
            medians = medians_ms(contestants(source, pixel_format), options.rounds)
            for name, median in medians.items():
                ratios = {rival: medians[rival] / median for rival in ("pillow", "opencv")}
                rows.append({"source": source, "format": pixel_format, "name": name, "ms": median, **ratios})
                resampler, _, level = name.partition("/")
                bar = BARS.get(level, 0.0)
                if resampler == "pillow_bilinear" and pixel_format == "RGB8" and ratios["pillow"] < bar:
                    missed.append(f"{name} {source}: {ratios['pillow']:.2f} times Pillow, bar {bar}")
    if options.json:
        result = {
            "environment": asdict(environment),
            "pillow": PIL.__version__,
            "rows": rows,
            "missed": missed,
        }
        print(json.dumps(result, indent=2))
    else:
        print(
            f"{environment.cpu}, Pillow {PIL.__version__}, OpenCV {cv2.__version__}, {options.rounds} rounds"
        )
        print(f"{'source':>11} {'format':6} {'contestant':24} {'ms':>8} {'x Pillow':>9} {'x OpenCV':>9}")
        for row in rows:
            height, width = row["source"]
            print(
                f"{f'{width}x{height}':>11} {row['format']:6} {row['name']:24} {row['ms']:8.3f} "
                f"{row['pillow']:9.2f} {row['opencv']:9.2f}"
            )
    for line in (*environment.warnings, *missed):
        print(line, file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
