"""What int8 gives and what it costs: one MODEL in every precision, engines interleaved, on labelled images.

    python benchmarks/suites/int8.py DATA MODEL [--rounds 200] [--threads 2] [--nncf] [--json]

DATA is an MVTec root: ranges and thresholds come from train/good, accuracy from test, which nothing is
fitted on. Bars: image AUROC loses ≤ 0.3 points, AU-PRO ≤ 0.5, and flips are ≤ max(1, 0.5 %) against the MODEL
in torch (verify's gate); the raw map's error against fp32 of the same engine is at its border (two cells)
≤ 1.5 × that inside. Latency is of the network alone, one image per engine in turn; ratios are printed, not
judged: they differ by detector. Where the MODEL has a search, its targets are those with the search.

`--nncf` measures, in the same rounds, what NNCF's `quantize` makes of the same graph with its own defaults,
those of anomalib's INT8_PTQ, too, from up to 300 of the same good images; openvino:int8 shall be neither
slower nor less accurate. Needs `pip install nncf`. Exits with 1 where a bar is missed.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgead.benchmarks.environment import record
from edgead.bundle.reader import Bundle, open_bundle
from edgead.cli._progress import RichProgress
from edgead.data.folder import good_images, labelled_images
from edgead.data.masks import load_mask
from edgead.detectors import model_file
from edgead.imaging.map_operator import Banded
from edgead.imaging.postprocess import Postprocess
from edgead.metrics.au_pro import au_pro
from edgead.metrics.auroc import auroc
from edgead.runtimes._pipeline import EngineScorer
from edgead.runtimes._registry import runtime_for
from edgead.types import Target
from edgead.workflows._images import load_pixels
from edgead.workflows._select_candidates import search_of
from edgead.workflows._sides import score_side
from edgead.workflows.export import export, installed_defaults
from edgead.workflows.verify import verify

if TYPE_CHECKING:
    import numpy.typing as npt

BORDER, BORDER_BAR = 2, 1.5
CALIBRATION = 300
IMAGES = 16


NNCF = "openvino:int8:nncf"


def measure(
    bundle: Bundle, extra: dict[str, Path], pixels: npt.NDArray[np.uint8], rounds: int, threads: int
) -> dict[str, Any]:
    """Median milliseconds and raw maps per target of the bundle, and of `extra` IRs in int8."""
    times: dict[str, list[float]] = {}
    maps: dict[str, npt.NDArray[np.float32]] = {}
    with ExitStack() as stack:
        opened = {}
        entries = bundle.manifest.targets
        files = {entry.target: bundle.path(entry.main_file) for entry in entries} | extra
        rests = {entry.target: entry.rest for entry in entries}
        for name, path in files.items():
            target = Target.parse(name.removesuffix(":nncf"))
            rest = rests.get(name, "fp32")
            runtime = runtime_for(target.engine).open(path, target, threads=threads, rest=rest)
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


def quantised_by_nncf(bundle: Bundle, data: Path, folder: Path, show: RichProgress) -> Path:
    """The IR that NNCF makes of the bundle's graph."""
    import nncf

    from edgead.runtimes._openvino import openvino

    geometry = bundle.manifest.geometry
    good = load_pixels(
        good_images(data)[:CALIBRATION], geometry, progress=show, name="images for NNCF"
    ).pixels
    model = openvino().convert_model(bundle.path(bundle.manifest.graph.file))
    made = nncf.quantize(model, nncf.Dataset([image[None] for image in good]), subset_size=CALIBRATION)
    openvino().save_model(made, folder / "nncf.xml", compress_to_fp16=False)
    return folder / "nncf.xml"


def accuracy(bundle: Bundle, path: Path, data: Path, threads: int, show: RichProgress) -> dict[str, Any]:
    """Image AUROC and AU-PRO of an IR that is in no bundle."""
    manifest = bundle.manifest
    loaded = load_pixels(labelled_images(data), manifest.geometry, progress=show, name="test images")
    matrix_h, matrix_w = (Banded(*matrix) for matrix in bundle.operator())
    with runtime_for("openvino").open(path, Target("openvino", "int8"), threads=threads) as opened:
        scorer = EngineScorer(opened, Postprocess(manifest.post, (matrix_h, matrix_w)))
        side = score_side(scorer, loaded.pixels, progress=show, name="scoring NNCF's")
    maps, masks = [], []
    for item, size, found in zip(loaded.items, loaded.frame_sizes, side.maps, strict=True):
        if item.label and item.mask is None:
            continue
        maps.append(found)
        masks.append(
            load_mask(item.mask, size, manifest.geometry, manifest.post.output)
            if item.mask
            else np.zeros(manifest.post.output, np.bool_)
        )
    labels = [item.label for item in loaded.items]
    return {"image_auroc": auroc(side.scores, labels), "au_pro": au_pro(maps, masks)}


def behind(ours: dict[str, Any], peer: dict[str, Any]) -> Iterator[str]:
    """What NNCF's engine does better."""
    if ours["p50_ms"] > 1.02 * peer["p50_ms"]:
        yield f"openvino:int8 takes {ours['p50_ms']:.2f} ms, NNCF's {peer['p50_ms']:.2f} ms"
    for name in ("image_auroc", "au_pro"):
        if ours[name] is not None and ours[name] < peer[name]:
            yield f"openvino:int8 has {name} {ours[name]:.4f}, NNCF's {peer[name]:.4f}"


def main() -> int:
    """Export, verify, measure, print, judge."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--nncf", action="store_true")
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
            extra = {}
            if options.nncf:
                extra[NNCF] = quantised_by_nncf(bundle, options.data, Path(folder), show)
            found = measure(bundle, extra, loaded.pixels, options.rounds, options.threads)
            peer = {
                name: accuracy(bundle, ir, options.data, options.threads, show) for name, ir in extra.items()
            }
        report = verify(path, options.data, model=options.model, progress=show).to_json()
    for name, row in found.items():
        engine = Target.parse(name).engine
        row["over_fp32"] = found.get(f"{engine}:fp32", found[targets[0]])["p50_ms"] / row["p50_ms"]
        if name in peer:
            row |= {**peer[name], "flips": None, "images": report["images"]}
            continue
        verdict = report["targets"][name]
        row |= {key: verdict[key] for key in ("image_auroc", "au_pro", "flips", "images")}
        failures += [f"{name}: {text}" for text in verdict["failures"]]
        if name.endswith(":int8") and row["border"] > BORDER_BAR * row["inside"]:
            failures.append(
                f"{name}: error {row['border']:.3g} at the border, {row['inside']:.3g} inside, "
                f"bar {BORDER_BAR} ×"
            )
    if options.nncf and not search:
        failures += list(behind(found["openvino:int8"], found[NNCF]))
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
