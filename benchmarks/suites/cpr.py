"""CPR end to end: latency with its stages, and what the bank costs as it grows.

    python benchmarks/suites/cpr.py DATA [--preset cpr] [--references 209] [--json] [--rounds 200]
    python benchmarks/suites/cpr.py DATA --growth [--dims 16 64 384] [--counts 16 200 400 800 1600 2000]

DATA: images in MVTec layout. Heads and bank are random, which costs the same as trained ones; the backbone
has its own weights where they come with pip. First form: a bundle of the preset with N references, every CPU
target, frames from memory through libedgead's session where it can open the engine, one frame per target in
turn; bar: the fastest target's median is ≤ 15 ms at N = 209. --growth: for each D the latency of the network
with its search, and of the graph that searches by itself, at each N in turn, on one image per round; and the
bank's size. Bar: N = 1,600 takes ≤ 1.3 × as long as N = 200 in the form with the search. Banks above
--max-gib are left out and named. Exits with 1 when a bar is missed.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from edgead import Session, open_bundle, read_image
from edgead.backbones import _base as backbones
from edgead.backbones._weights import load_weights
from edgead.benchmarks.environment import record
from edgead.bundle.manifest import created_by, utc_now
from edgead.data.folder import labelled_images
from edgead.detectors import model_file
from edgead.detectors._presets import PRESETS
from edgead.detectors.cpr import INT8_SCALE, Cpr
from edgead.exporters._registry import exporter_for
from edgead.exporters.lowering.cpr import lower, write_search
from edgead.exporters.onnx_exporter import export_graph
from edgead.imaging.preprocess import Preprocess
from edgead.progress import Silent
from edgead.runtimes._base import Runtime
from edgead.runtimes._registry import runtime_for
from edgead.types import Target
from edgead.workflows.export import export

LATENCY_BAR_MS, GROWTH_BAR = 15.0, 1.3
GROWTH_BETWEEN = (200, 1600)
SEED = 20261125
FRAMES = 20
SEARCH, GRAPH = Target("openvino+window_search", "fp32"), Target("openvino", "fp32")


def random_detector(preset: str, references: int, **changes: Any) -> Cpr:
    """Random heads and a random bank of unit vectors; frequencies that differ from reference to reference."""
    torch.manual_seed(SEED)
    config = PRESETS[preset]["config"] | {"references": references} | changes
    detector = Cpr.from_config(config)
    if backbones.module(config["backbone"]).SPEC.weights.package is not None:
        load_weights(detector.backbone, config["backbone"])
    detector.centres.normal_()
    counts = torch.rand_like(detector.histograms).pow(4)
    detector.histograms.copy_(counts / counts.sum(2, keepdim=True))
    if detector.config.foreground:
        detector.foreground_weight.normal_(0, 0.01)
        detector.reference_foreground.uniform_()
    for level in (0, 1):
        bank = detector.get_buffer(f"bank{level}")
        some = torch.randn(min(references, 16), *bank.shape[1:])
        some = some / some.norm(dim=1, keepdim=True)
        stored = (some * INT8_SCALE).round() if bank.dtype == torch.int8 else some
        for start in range(0, references, len(some)):
            part = bank[start : start + len(some)]
            part.copy_(stored[: len(part)])
    return detector.eval()


def frames_of(data: Path) -> list[Any]:
    """Some of the test images, good and defective, decoded."""
    items = labelled_images(data)
    return [read_image(item.path) for item in items[:: max(1, len(items) // FRAMES)][:FRAMES]]


def latency(data: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Per target: percentiles of the whole call and medians of its stages, ms."""
    frames = frames_of(data)
    with tempfile.TemporaryDirectory(prefix="edgead-cpr-") as folder:
        model, bundle = Path(folder) / "random.model", Path(folder) / "random.edgead"
        detector = random_detector(options.preset, options.references)
        info = model_file.ModelInfo(
            detector="cpr",
            preset=options.preset,
            config=detector.config_dict(),
            provenance={"kind": "random"},
            created=utc_now(),
            created_by=created_by(),
        )
        model_file.save(model, detector, info)
        made = export(model, bundle, calib=data, accept=True, progress=Silent())
        found: dict[str, Any] = {}
        with open_bundle(bundle) as opened:
            sessions = {name: Session.open(opened, name, self_test=False) for name in made.targets}
            times: dict[str, list[dict[str, float]]] = {name: [] for name in sessions}
            for turn in range(-5, options.rounds):
                for name, session in sessions.items():
                    begin = time.perf_counter()
                    prediction = session.predict(frames[turn % len(frames)])
                    whole = 1e3 * (time.perf_counter() - begin)
                    if turn >= 0:
                        times[name].append({"whole": whole, **prediction.timings_ms})
            for name, rows in times.items():
                whole = [row["whole"] for row in rows]
                found[name] = {
                    "runtime": sessions[name].runtime,
                    "p50": float(np.median(whole)),
                    "p99": float(np.quantile(whole, 0.99, method="inverted_cdf")),
                    "stages": {key: float(np.median([row[key] for row in rows])) for key in rows[0]},
                }
    return found


def opened(folder: Path, detector: Cpr, targets: tuple[Target, ...]) -> list[Runtime]:
    """The detector's engines."""
    folder.mkdir()
    lowered = lower(detector)
    graph = export_graph(lowered, detector.geometry.input_size, folder / "graph.onnx").path
    write_search(detector, lowered, graph)
    made = [exporter_for(target.engine).compile(graph, target, folder / "targets") for target in targets]
    return [
        runtime_for(target.engine).open(one.main_file, target)
        for target, one in zip(targets, made, strict=True)
    ]


def growth(data: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    """A row per D and N: size of the bank, and medians of both forms."""
    rows: list[dict[str, Any]] = []
    for dim in options.dims:
        pixels: list[npt.NDArray[np.uint8]] = []
        runtimes: dict[tuple[int, str], Runtime] = {}
        each = random_detector(options.preset, min(options.counts), dim=dim).reference_bytes
        with tempfile.TemporaryDirectory(prefix="edgead-cpr-") as folder:
            for count in options.counts:
                bank = each * count
                row: dict[str, Any] = {"dim": dim, "references": count, "bank_mib": bank / 2**20}
                rows.append(row)
                if bank > options.max_gib * 2**30:
                    continue
                detector = random_detector(options.preset, count, dim=dim)
                if not pixels:
                    preprocess = Preprocess(detector.geometry)
                    pixels = [preprocess(frame)[None].copy() for frame in frames_of(data)]
                for form, runtime in zip(
                    ("search", "graph"),
                    opened(Path(folder) / str(count), detector, (SEARCH, GRAPH)),
                    strict=True,
                ):
                    runtimes[count, form] = runtime
            times: dict[tuple[int, str], list[float]] = {key: [] for key in runtimes}
            for turn in range(-2, options.rounds):
                for key, runtime in runtimes.items():
                    begin = time.perf_counter()
                    runtime.infer(pixels[turn % len(pixels)])
                    if turn >= 0:
                        times[key].append(1e3 * (time.perf_counter() - begin))
            for runtime in runtimes.values():
                runtime.close()
        for (count, form), values in times.items():
            row = next(row for row in rows if (row["dim"], row["references"]) == (dim, count))
            row[form] = float(np.median(values))
    return rows


def misses(found: dict[str, Any], rows: list[dict[str, Any]], references: int) -> list[str]:
    """What is over its bar, in words."""
    failures = []
    if found and references == 209:
        name, best = min(found.items(), key=lambda item: item[1]["p50"])
        if best["p50"] > LATENCY_BAR_MS:
            failures.append(f"the fastest target, {name}, takes {best['p50']:.1f} ms, bar {LATENCY_BAR_MS:g}")
    for dim in sorted({row["dim"] for row in rows}):
        ends = [
            next((row.get("search") for row in rows if (row["dim"], row["references"]) == (dim, count)), None)
            for count in GROWTH_BETWEEN
        ]
        if None not in ends and ends[1] > GROWTH_BAR * ends[0]:
            failures.append(f"D = {dim}: N = 1,600 takes {ends[1] / ends[0]:.2f} × as long as N = 200")
    return failures


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--preset", default="cpr")
    parser.add_argument("--references", type=int, default=209)
    parser.add_argument("--growth", action="store_true")
    parser.add_argument("--dims", type=int, nargs="+", default=[16, 64, 384])
    parser.add_argument("--counts", type=int, nargs="+", default=[16, 200, 400, 800, 1600, 2000])
    parser.add_argument("--max-gib", type=float, default=1.5)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    environment = record()
    rows = growth(options.data, options) if options.growth else []
    found = {} if options.growth else latency(options.data, options)
    failures = misses(found, rows, options.references)
    if options.json:
        result = {
            "passed": not failures,
            "environment": asdict(environment),
            "latency": found,
            "growth": rows,
        }
        print(json.dumps(result, indent=2))
        return 1 if failures else 0
    print(f"{environment.cpu}, {environment.usable_cores} cores, {environment.packages}")
    for name, values in found.items():
        stages = ", ".join(f"{key} {ms:.2f}" for key, ms in values["stages"].items() if key != "whole")
        whole = f"p50 {values['p50']:7.2f} p99 {values['p99']:7.2f} ms"
        print(f"{name:30} {values['runtime']:7} {whole}  ({stages})")
    for row in rows:
        forms = ", ".join(f"{form} {row[form]:.2f} ms" for form in ("search", "graph") if form in row)
        size = f"{row['bank_mib']:8.1f} MiB"
        print(f"D {row['dim']:3}  N {row['references']:5}  {size}  {forms or 'left out, see --max-gib'}")
    print("\n".join(failures) or "all bars held")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
