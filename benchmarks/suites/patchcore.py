"""PatchCore end to end: accuracy on a labelled data set and latency with its stages.

    python benchmarks/suites/patchcore.py DATA [--preset patchcore] [--json] [--rounds 400] [--threads 0]

DATA: images in MVTec layout. Trains, exports for every CPU target, verifies on the test images, then takes
frames from memory through libedgead's session where it can open the engine, one frame per target in turn.
Bar, of the fastest target that passes export's gate: image AUROC ≥ 0.998, median ≤ 6 ms, p99 ≤ 9 ms (meant
for mvtec_bottle on 2 cores). Exits with 1 when it is missed.
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

from edgead import Session, open_bundle, read_image
from edgead.benchmarks.environment import record
from edgead.data.folder import labelled_images
from edgead.workflows.export import export
from edgead.workflows.train import train
from edgead.workflows.verify import verify

AUROC_BAR, MEDIAN_BAR_MS, P99_BAR_MS = 0.998, 6.0, 9.0
FRAMES = 20


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Per target inside its gate: accuracy, percentiles of the whole call, medians of its stages; ms."""
    items = labelled_images(options.data)
    frames = [read_image(item.path) for item in items[:: max(1, len(items) // FRAMES)][:FRAMES]]
    with tempfile.TemporaryDirectory(prefix="edgead-patchcore-") as folder:
        model, bundle = Path(folder) / "m.model", Path(folder) / "b.edgead"
        begin = time.perf_counter()
        train(options.preset, options.data, model)
        seconds = time.perf_counter() - begin
        made = export(model, bundle, calib=options.data, threads=options.threads)
        verified = verify(bundle, options.data, threads=options.threads)
        with open_bundle(bundle) as opened:
            sessions = {
                name: Session.open(opened, name, self_test=False, threads=options.threads)
                for name in made.targets
            }
            times: dict[str, list[dict[str, float]]] = {name: [] for name in sessions}
            for turn in range(-5, options.rounds):
                for name, session in sessions.items():
                    begin = time.perf_counter()
                    prediction = session.predict(frames[turn % len(frames)])
                    whole = 1e3 * (time.perf_counter() - begin)
                    if turn >= 0:
                        times[name].append({"whole": whole, **prediction.timings_ms})
    found = {}
    for name, rows in times.items():
        accuracy = verified.targets[name].accuracy
        found[name] = {
            "runtime": sessions[name].runtime,
            "image_auroc": None if accuracy is None else accuracy.image_auroc,
            "p50": float(np.median([row["whole"] for row in rows])),
            "p99": float(np.quantile([row["whole"] for row in rows], 0.99, method="inverted_cdf")),
            "stages": {key: float(np.median([row[key] for row in rows])) for key in rows[0]},
        }
    return {"train_seconds": seconds, "targets": found}


def misses(targets: dict[str, Any]) -> list[str]:
    """What is over its bar, in words."""
    name, best = min(targets.items(), key=lambda item: item[1]["p50"])
    failures = []
    if (best["image_auroc"] or 0) < AUROC_BAR:
        failures.append(f"{name}: image AUROC {best['image_auroc']}, bar {AUROC_BAR}")
    for key, bar in (("p50", MEDIAN_BAR_MS), ("p99", P99_BAR_MS)):
        if best[key] > bar:
            failures.append(f"{name}: {key} {best[key]:.1f} ms, bar {bar:g}")
    return failures


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--preset", default="patchcore")
    parser.add_argument("--rounds", type=int, default=400)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    environment = record()
    found = measure(options)
    failures = misses(found["targets"])
    if options.json:
        print(json.dumps({"passed": not failures, "environment": asdict(environment), **found}, indent=2))
        return 1 if failures else 0
    print(f"{environment.cpu}, {environment.usable_cores} cores, {environment.packages}")
    print("\n".join(environment.warnings))
    print(f"training {found['train_seconds']:.0f} s")
    for name, values in found["targets"].items():
        stages = ", ".join(f"{key} {ms:.2f}" for key, ms in values["stages"].items() if key != "whole")
        whole = f"p50 {values['p50']:6.2f} p99 {values['p99']:6.2f} ms"
        print(f"{name:28} {values['runtime']:7} AUROC {values['image_auroc']:.4f} {whole}  ({stages})")
    print("\n".join(failures) or "all bars held")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
