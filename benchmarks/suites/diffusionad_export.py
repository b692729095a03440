"""Memory of an export of DiffusionAD's networks with random weights.

    python benchmarks/suites/diffusionad_export.py [--preset diffusionad_full] [--threads 2] [--json]

Builds the preset, lowers and exports it, compares the graph in ONNX Runtime with torch on one image, and
compiles for OpenVINO, in this process; prints the peak of its resident memory after each stage, which only
grows. Bars: less than 8 GB for the full size, and fp32 within 1e-3 of torch. Takes minutes: the full size is
1.2 TFLOP per image, and there are three passes. Exits with 1 when a bar is missed.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

import torch

from edgead.benchmarks.environment import record
from edgead.detectors._presets import PRESETS
from edgead.detectors.diffusionad import DiffusionAd
from edgead.exporters._registry import exporter_for
from edgead.exporters.lowering.diffusionad import lower
from edgead.exporters.onnx_exporter import export_graph
from edgead.types import Target

MEMORY_BAR_GB, PARITY_BAR = 8.0, 1e-3
SEED = 20261125


def peak_gb() -> float:
    """Of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def main() -> int:
    """Export, print, judge."""
    known = [name for name, preset in PRESETS.items() if preset["detector"] == "diffusionad"]
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--preset", choices=known, default="diffusionad_full")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    environment = record()
    peaks = {"imports": peak_gb()}
    torch.manual_seed(SEED)
    detector = DiffusionAd.from_config(PRESETS[options.preset]["config"]).eval()
    peaks["weights"] = peak_gb()
    lowered = lower(detector)
    peaks["lowering"] = peak_gb()
    with tempfile.TemporaryDirectory(prefix="edgead-diffusionad-") as folder:
        graph = export_graph(lowered, detector.geometry.input_size, Path(folder) / "graph.onnx")
        peaks["export and comparison"] = peak_gb()
        size = sum(path.stat().st_size for path in graph.files)
        exporter_for("openvino").compile(graph.path, Target("openvino", "fp32"), Path(folder) / "targets")
        peaks["openvino"] = peak_gb()
    failures = []
    if peaks["openvino"] >= MEMORY_BAR_GB:
        failures.append(f"the peak is {peaks['openvino']:.2f} GB, bar {MEMORY_BAR_GB:g}")
    if graph.max_abs_diff > PARITY_BAR:
        failures.append(f"the graph is {graph.max_abs_diff:g} from torch, bar {PARITY_BAR:g}")
    if options.json:
        result = {
            "passed": not failures,
            "environment": asdict(environment),
            "preset": options.preset,
            "peak_gb": peaks,
            "graph_bytes": size,
            "max_abs_diff": graph.max_abs_diff,
        }
        print(json.dumps(result, indent=2))
        return 1 if failures else 0
    print(f"{environment.cpu}, {environment.usable_cores} cores, {environment.packages}")
    for stage, peak in peaks.items():
        print(f"{stage:24} {peak:6.2f} GB at the most")
    print(f"graph {size / 1e6:.1f} MB, {graph.max_abs_diff:.1e} from torch (range {graph.map_range:.1e})")
    print("\n".join(failures) or "all bars held")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
