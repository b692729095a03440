"""What int8 gives and what it costs: one MODEL in every precision, engines interleaved, on labelled images.

    python benchmarks/suites/int8.py DATA MODEL [--rounds 200] [--threads 2] [--json]

DATA is an MVTec root: ranges and thresholds come from train/good, accuracy from test, which nothing is
fitted on. Bars: image AUROC loses ≤ 0.3 points, AU-PRO ≤ 0.5, and flips are ≤ max(1, 0.5 %) against the MODEL
in torch (verify's gate); the raw map's error against fp32 of the same engine is at its border (two cells)
≤ 1.5 × that inside. Latency is of the network alone, one image per engine in turn; ratios are printed, not
judged: they differ by detector. Where the MODEL has a search, its targets are those with the search. Exits
with 1 where a bar is missed. Beside NNCF and anomalib: int8_peers.py.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
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

BORDER, BORDER_BAR = 2, 1.5
CALIBRATION = 300
IMAGES = 16


def measure(bundle: Bundle, pixels: npt.NDArray[np.uint8], rounds: int, threads: int) -> dict[str, Any]:
    """Median milliseconds per target of the bundle, and how far its raw maps are from fp32's."""
    times: dict[str, list[float]] = {}
    maps: dict[str, npt.NDArray[np.float32]] = {}
    with ExitStack() as stack:
        opened = {}
        for entry in bundle.manifest.targets:
            name, target = entry.target, Target.parse(entry.target)
            path = bundle.path(entry.main_file)
            runtime = runtime_for(target.engine).open(path, target, threads=threads, rest=entry.rest)
            opened[name] = stack.enter_context(runtime)
            times[name] = []
            maps[name] = np.stack([runtime.infer(image[None]).anomaly_map[0].copy() for image in pixels])
        for turn in range(-3, rounds):
            for name, runtime in opened.items():
                begin = time.perf_counter()
                runtime.infer(pixels[turn % len(pixels)][None])
                if turn >= 0:
                    times[name].append(1e3 * (time.perf_counter() - begin))
    return {
        name: {"p50_ms": float(np.median(values)), **_errors(maps, name)} for name, values in times.items()
    }


def _errors(maps: dict[str, npt.NDArray[np.float32]], name: str) -> dict[str, float]:
    """Root mean squared error against fp32 of the same engine, as a share of the map's deviation."""
    engine = Target.parse(name).engine
    exact = maps[f"{engine}:fp32" if f"{engine}:fp32" in maps else next(iter(maps))]
    squares = np.square(maps[name] - exact, dtype=np.float64) / max(float(exact.var()), 1e-30)
    inside = np.zeros(exact.shape[2:], bool)
    inside[BORDER:-BORDER, BORDER:-BORDER] = True
    return {
        "border": float(np.sqrt(squares[..., ~inside].mean())),
        "inside": float(np.sqrt(squares[..., inside].mean())),
    }


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
            found = measure(bundle, loaded.pixels, options.rounds, options.threads)
        report = verify(path, options.data, model=options.model, progress=show).to_json()
    for name, row in found.items():
        engine = Target.parse(name).engine
        row["over_fp32"] = found.get(f"{engine}:fp32", found[targets[0]])["p50_ms"] / row["p50_ms"]
        verdict = report["targets"][name]
        row |= {key: verdict[key] for key in ("image_auroc", "au_pro", "flips", "images")}
        failures += [f"{name}: {text}" for text in verdict["failures"]]
        if name.endswith(":int8") and row["border"] > BORDER_BAR * row["inside"]:
            failures.append(
                f"{name}: error {row['border']:.3g} at the border, {row['inside']:.3g} inside, "
                f"bar {BORDER_BAR} ×"
            )
    if options.json:
        values = {"passed": not failures, "environment": asdict(environment), "targets": found}
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
    print("\n".join(failures) or "all bars held")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
