"""Train, export and verify a detector on a data set in MVTec layout; report accuracy and parity per seed.

    python benchmarks/suites/accuracy.py DATA [--preset simplenet] [--seeds 0 1 2] [--min-image 0.99]

Nothing is fitted on the test images: training, early stop and thresholds see good training images only.
Every engine is held against the MODEL in torch on all test images. Exits with 1 where a target misses
--min-image or --min-pixel (image and pixel AUROC), or an fp32 target its parity gate (0 flips, score shift
<= 1e-4 of the range).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgead.benchmarks.environment import record
from edgead.cli._progress import RichProgress
from edgead.types import Target
from edgead.workflows.export import export
from edgead.workflows.train import train
from edgead.workflows.verify import verify


def measure(data: Path, preset: str, seed: int, work: Path) -> dict[str, Any]:
    """One seed: training time and, per target, the fields of ``verify --json``."""
    show = RichProgress()
    model, bundle = work / f"{seed}.model", work / f"{seed}.edgead"
    trained = train(preset, data, model, seed=seed, progress=show)
    exported = export(model, bundle, calib=data, accept=True, progress=show)
    report = verify(bundle, data, model=model, progress=show)
    return {
        "seed": seed,
        "train_seconds": trained.seconds,
        "trained_on": trained.trained,
        "held_out": exported.held_out,
        "graph": asdict(exported.graph),
        **report.to_json(),
    }


def misses(result: dict[str, Any], min_image: float, min_pixel: float) -> list[str]:
    """What of one seed is below the bars, in words."""
    found = []
    for name, target in result["targets"].items():
        for key, bar in (("image_auroc", min_image), ("pixel_auroc", min_pixel)):
            if bar and (target[key] is None or target[key] < bar):
                found.append(f"seed {result['seed']}, {name}: {key} {target[key]} is below {bar}")
        if Target.parse(name).precision == "fp32":
            found += [f"seed {result['seed']}, {name}: {text}" for text in target["failures"]]
    return found


def main() -> int:
    """Run all seeds and print a table or JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="root with train/good, test, ground_truth")
    parser.add_argument("--preset", default="simplenet")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--min-image", type=float, default=0.0, help="bar of the image AUROC; 0 = none")
    parser.add_argument("--min-pixel", type=float, default=0.0, help="bar of the pixel AUROC; 0 = none")
    parser.add_argument("--keep", type=Path, help="folder for MODELs and bundles; default: thrown away")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    environment = record()
    with tempfile.TemporaryDirectory() as temporary:
        work = options.keep or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        results = [measure(options.data, options.preset, seed, work) for seed in options.seeds]
    failures = [text for one in results for text in misses(one, options.min_image, options.min_pixel)]
    if options.json:
        data = {"passed": not failures, "environment": asdict(environment), "results": results}
        print(json.dumps(data, indent=2))
    else:
        print(f"{environment.cpu}, {environment.usable_cores} cores, {environment.packages}")
        print(f"{options.preset} on {options.data.name}")
        print("seed target            image  pixel  AU-PRO recall FPR    flips shift/range  train s")
        for one in results:
            for name, target in one["targets"].items():
                shift = target["score_shift"]["max"] / target["score_range"]
                figures = [
                    "   –  " if target[key] is None else f"{target[key]:.4f}"
                    for key in ("image_auroc", "pixel_auroc", "au_pro", "recall", "false_positive_rate")
                ]
                print(
                    f"{one['seed']:4d} {name:17s} {' '.join(figures)} {target['flips']:5d} {shift:10.1e} "
                    f"{one['train_seconds']:8.0f}"
                )
        print("\n".join(failures) or "all bars held")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
