"""What int8 gives and what it costs: one MODEL in every precision, engines interleaved, on labelled images.

    python benchmarks/suites/int8.py DATA MODEL [--rounds 200] [--threads 2] [--json]

DATA is an MVTec root: ranges and thresholds come from train/good, accuracy from test, which nothing is
fitted on. Bars: image AUROC loses ≤ 0.3 points, AU-PRO ≤ 0.5, and flips are ≤ max(1, 0.5 %) against the MODEL
in torch (verify's gate); OpenVINO's and ONNX Runtime's raw int8 maps, of one table, differ at their border
(two cells) ≤ 1.5 × as much as inside. Each engine's error against its own fp32, at the border and inside, is
printed. Latency is of the network alone, one image per engine in turn; ratios are printed, not
judged: they differ by detector. Where the MODEL has a search, its targets are those with the search. Exits
with 1 where a bar is missed. Beside NNCF and anomalib: int8_peers.py.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgead.benchmarks.environment import record
from edgead.bundle.reader import Bundle, open_bundle
from edgead.cli._progress import RichProgress
from edgead.data.folder import labelled_images
from edgead.detectors import model_file
from edgead.runtimes._registry import runtime_for
from edgead.types import Target
from edgead.workflows._images import load_pixels
from edgead.workflows._select_candidates import search_of
from edgead.workflows.export import export, installed_defaults
from edgead.workflows.verify import verify

if TYPE_CHECKING:
    import numpy.typing as npt

    from edgead.runtimes._base import Runtime

BORDER, BORDER_BAR = 2, 1.5
CALIBRATION = 300
IMAGES = 16


def in_turn(
    runtimes: Mapping[str, Runtime], pixels: npt.NDArray[np.uint8], rounds: int
) -> tuple[dict[str, float], dict[str, npt.NDArray[np.float32]]]:
    """Each one's median milliseconds, one image per runtime in turn, and its raw maps of all images."""
    times: dict[str, list[float]] = {name: [] for name in runtimes}
    maps = {
        name: np.stack([runtime.infer(image[None]).anomaly_map[0].copy() for image in pixels])
        for name, runtime in runtimes.items()
    }
    for turn in range(-3, rounds):
        for name, runtime in runtimes.items():
            begin = time.perf_counter()
            runtime.infer(pixels[turn % len(pixels)][None])
            if turn >= 0:
                times[name].append(1e3 * (time.perf_counter() - begin))
    return {name: float(np.median(values)) for name, values in times.items()}, maps


def opened(bundle: Bundle, threads: int, stack: ExitStack) -> dict[str, Runtime]:
    """Every target of the bundle, until `stack` closes."""
    found = {}
    for entry in bundle.manifest.targets:
        target = Target.parse(entry.target)
        runtime = runtime_for(target.engine).open(
            bundle.path(entry.main_file), target, threads=threads, rest=entry.rest
        )
        found[entry.target] = stack.enter_context(runtime)
    return found


def measure(
    bundle: Bundle, pixels: npt.NDArray[np.uint8], rounds: int, threads: int
) -> tuple[dict[str, Any], dict[str, float]]:
    """Per target of the bundle, median milliseconds and how far its raw maps are from its engine's fp32.

    Then how far apart the int8 maps of both engines are.
    """
    with ExitStack() as stack:
        times, maps = in_turn(opened(bundle, threads, stack), pixels, rounds)
    found = {name: {"p50_ms": p50, **_error(maps[name], maps[_fp32(name)])} for name, p50 in times.items()}
    one, other = (each for name, each in maps.items() if name.endswith(":int8"))
    return found, _error(one, other)


def _fp32(target: str) -> str:
    """The target of the same engine in fp32."""
    return f"{target.rpartition(':')[0]}:fp32"


def _error(found: npt.NDArray[np.float32], wanted: npt.NDArray[np.float32]) -> dict[str, float]:
    """Root mean squared difference at the border and inside, as a share of the wanted map's deviation."""
    squares = np.square(found - wanted, dtype=np.float64) / max(float(wanted.var()), 1e-30)
    inside = np.zeros(wanted.shape[2:], bool)
    inside[BORDER:-BORDER, BORDER:-BORDER] = True
    parts = {"border": ~inside, "inside": inside}
    return {key: float(np.sqrt(squares[..., part].mean())) for key, part in parts.items()}


def main() -> int:
    """Export, verify, measure, print, judge."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    environment, show = record(), RichProgress()
    _, info = model_file.load(options.model)
    search = search_of(info.detector) or ""
    targets = [
        f"{engine}{search}:{one}" for engine in ("openvino", "onnxruntime") for one in ("fp32", "int8")
    ]
    targets[1:1] = [
        name for name in installed_defaults(search=search or None) if name.endswith(f"{search}:bf16")
    ]
    failures: list[str] = []
    with tempfile.TemporaryDirectory(prefix="edgead-int8-") as folder:
        path = Path(folder) / "b.edgead"
        export(options.model, path, calib=options.data, targets=targets, accept=True, progress=show)
        with open_bundle(path) as bundle:
            items = labelled_images(options.data)[:: max(1, len(labelled_images(options.data)) // IMAGES)]
            loaded = load_pixels(items, bundle.manifest.geometry, progress=show, name="images for latency")
            found, apart = measure(bundle, loaded.pixels, options.rounds, options.threads)
        report = verify(path, options.data, model=options.model, progress=show).to_json()
    for name, row in found.items():
        row["over_fp32"] = found[_fp32(name)]["p50_ms"] / row["p50_ms"]
        verdict = report["targets"][name]
        row |= {key: verdict[key] for key in ("image_auroc", "au_pro", "flips", "images")}
        failures += [f"{name}: {text}" for text in verdict["failures"]]
    between = (
        f"int8 of both engines: {apart['inside']:.3g} apart inside, {apart['border']:.3g} at the border, "
        f"bar {BORDER_BAR} ×"
    )
    if apart["border"] > BORDER_BAR * apart["inside"]:
        failures.append(between)
    if options.json:
        values = {
            "passed": not failures,
            "environment": asdict(environment),
            "targets": found,
            "apart": apart,
        }
        print(json.dumps(values, indent=2))
        return 1 if failures else 0
    print(f"{environment.cpu}, {environment.usable_cores} cores, {environment.packages}")
    for name, row in found.items():
        flips = "?" if row["flips"] is None else row["flips"]
        print(
            f"{name:30} {row['p50_ms']:8.2f} ms, {row['over_fp32']:.2f} × fp32; image AUROC "
            f"{row['image_auroc']:.4f}, AU-PRO {row['au_pro'] or float('nan'):.4f}, {flips} "
            f"of {row['images']} flips; error {row['inside']:.3g} inside, {row['border']:.3g} at the border"
        )
    print(between)
    print("\n".join(failures) or "all bars held")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
