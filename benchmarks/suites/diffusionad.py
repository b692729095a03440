"""DiffusionAD and radar: one batch of two against two passes, latency by target, and what a preset costs.

    python benchmarks/suites/diffusionad.py [--presets diffusionad radar] [--rounds 50] [--threads 2] [--json]

Weights and frames are random, which costs the same as real ones. For each preset: parameters and
multiply-accumulates, counted; the exported graph in its shipped form and, for DiffusionAD, with one pass per
noise level, in each CPU engine, one image per form and round in turn; and the shipped form's largest
difference from torch. Bars: the batch of two is nowhere slower (ratio of medians ≤ 1.02), fp32 within 1e-3 of
torch, and the fastest target of the presets `diffusionad` and `radar` takes ≤ 250 ms. Exits with 1 when a bar
is missed.
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
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from edgead.benchmarks.environment import record
from edgead.detectors._presets import PRESETS
from edgead.detectors._registry import detector_class
from edgead.detectors.diffusionad import DiffusionAd
from edgead.exporters._registry import exporter_for
from edgead.exporters.lowering import diffusionad, radar
from edgead.exporters.onnx_exporter import export_graph
from edgead.runtimes._registry import runtime_for
from edgead.types import Target
from edgead.workflows.export import installed_defaults

LATENCY_BAR_MS, RATIO_BAR, PARITY_BAR = 250.0, 1.02, 1e-3
SEED = 20261125
FRAMES = 4
SHIPPED, PASSES = "shipped", "two passes"


def build(preset: str) -> Any:
    """The preset's detector, with random weights."""
    entry = PRESETS[preset]
    return detector_class(entry["detector"]).from_config(entry["config"]).eval()


def forms(detector: Any) -> dict[str, torch.nn.Module]:
    """Lowered, by name; the shipped form first."""
    if not isinstance(detector, DiffusionAd):
        return {SHIPPED: radar.lower(detector)}
    return {SHIPPED: diffusionad.lower(detector), PASSES: diffusionad.lower(detector, batched=False)}


def cost(preset: str) -> dict[str, float]:
    """Parameters and multiply-accumulates per image of both networks."""
    with torch.device("meta"):
        detector = build(preset)
        height, width = detector.geometry.input_size
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            detector(torch.empty(1, height, width, 3, dtype=torch.uint8))
    denoising = sum(value.numel() for value in detector.unet.parameters())
    rest = sum(value.numel() for value in detector.parameters()) - denoising
    return {"denoising": denoising, "segmentation": rest, "gmac": counter.get_total_flops() / 2e9}


def measure(preset: str, options: argparse.Namespace) -> dict[str, Any]:
    """Per target: median milliseconds of each form, and the shipped form's difference from torch."""
    torch.manual_seed(SEED)
    detector = build(preset)
    size = detector.geometry.input_size
    frames = np.random.default_rng(SEED).integers(0, 256, (FRAMES, 1, *size, 3), np.uint8)
    with torch.inference_mode():
        expected = detector(torch.from_numpy(frames[0])).anomaly_map.numpy()
    targets = [Target.parse(str(name)) for name in installed_defaults()]
    times: dict[tuple[str, str], list[float]] = {}
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="edgead-diffusionad-") as folder, ExitStack() as stack:
        runtimes = {}
        for form, lowered in forms(detector).items():
            place = Path(folder) / form.replace(" ", "-")
            place.mkdir()
            graph = export_graph(lowered, size, place / "graph.onnx").path
            for target in targets:
                made = exporter_for(target.engine).compile(graph, target, place / "targets")
                opened = runtime_for(target.engine).open(made.main_file, target, threads=options.threads)
                runtimes[str(target), form] = stack.enter_context(opened)
        for key, runtime in runtimes.items():
            times[key] = []
            if key[1] == SHIPPED:
                difference = float(np.abs(runtime.infer(frames[0]).anomaly_map - expected).max())
                found[key[0]] = {"difference": difference}
        for turn in range(-2, options.rounds):
            for key, runtime in runtimes.items():
                begin = time.perf_counter()
                runtime.infer(frames[turn % FRAMES])
                if turn >= 0:
                    times[key].append(1e3 * (time.perf_counter() - begin))
    for (target, form), values in times.items():
        found[target][form] = float(np.median(values))
    return found


def misses(preset: str, found: dict[str, Any]) -> list[str]:
    """What is over its bar, in words."""
    failures = []
    for target, row in found.items():
        ratio = row[SHIPPED] / row.get(PASSES, np.inf)
        if ratio > RATIO_BAR:
            failures.append(f"{preset} {target}: the batch of two takes {ratio:.2f} × as long as two passes")
        if target.endswith(":fp32") and row["difference"] > PARITY_BAR:
            failures.append(f"{preset} {target}: {row['difference']:g} from torch, bar {PARITY_BAR:g}")
    if preset in ("diffusionad", "radar"):
        best = min(row[SHIPPED] for row in found.values())
        if best > LATENCY_BAR_MS:
            failures.append(f"{preset}: the fastest target takes {best:.0f} ms, bar {LATENCY_BAR_MS:g}")
    return failures


def main() -> int:
    """Measure, print, judge."""
    known = [name for name, preset in PRESETS.items() if preset["detector"] in ("diffusionad", "radar")]
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--presets", nargs="+", choices=known, default=["diffusionad", "radar"])
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    environment = record()
    costs = {name: cost(name) for name in known}
    found = {name: measure(name, options) for name in options.presets}
    failures = [line for name, rows in found.items() for line in misses(name, rows)]
    if options.json:
        result = {
            "passed": not failures,
            "environment": asdict(environment),
            "costs": costs,
            "latency_ms": found,
        }
        print(json.dumps(result, indent=2))
        return 1 if failures else 0
    print(f"{environment.cpu}, {environment.usable_cores} cores, {environment.packages}")
    for name, row in costs.items():
        millions = f"{row['denoising'] / 1e6:.1f} M + {row['segmentation'] / 1e6:.1f} M parameters"
        print(f"{name:20} {millions}, {row['gmac']:.1f} GMAC per image")
    for name, rows in found.items():
        for target, row in rows.items():
            forms = ", ".join(f"{form} {row[form]:.1f} ms" for form in (SHIPPED, PASSES) if form in row)
            print(f"{name:20} {target:20} {forms}; {row['difference']:.1e} from torch")
    print("\n".join(failures) or "all bars held")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
