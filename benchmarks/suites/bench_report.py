"""The example report: every target of a bundle that runs here, in every scenario, on one page.

    make quickstart
    python benchmarks/suites/bench_report.py build/quickstart -o examples/reports/solar_cells.html

`build/quickstart` is the folder that `edgead quickstart` left: its bundle (SimpleNet), its test cells
(elpv-dataset) and what it verified. The targets are those of the README: 20 images/s, 99 of 100 within 50 ms.
It takes about half an hour on a machine that does nothing else, most of it soaking or pausing; `--short`
(pauses up to 3 s, 30 s of soaking for each target) takes ten minutes, `--quick` one, and says little.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgead.benchmarks.environment import record
from edgead.benchmarks.html import Measured, write
from edgead.cli._progress import RichProgress
from edgead.types import Target
from edgead.workflows._bench_plan import Plan
from edgead.workflows._bench_work import Work

SCENARIOS: dict[str, dict[str, Any]] = {
    "single-stream": {"fps": 20.0, "p99": "50ms"},
    "paced": {"fps": 20.0, "p99": "50ms", "jitter": "5ms", "queries": 1_000},
    "idle-gap": {"deadline": "100ms"},
    "multi-camera": {"fps": 20.0, "p99": "50ms", "streams": 2, "queries": 700},
    "offline": {"queries": 2_000},
    "soak": {"fps": 20.0, "p99": "50ms", "deadline": "100ms", "seconds": 300.0},
}
SHORT: dict[str, dict[str, Any]] = {
    "idle-gap": {"pauses": ("0", "30ms", "100ms", "300ms", "1s", "3s")},
    "soak": {"seconds": 30.0},
}
QUICK: dict[str, dict[str, Any]] = {
    "single-stream": {"queries": 50},
    "paced": {"queries": 40},
    "idle-gap": {"queries": 24, "pauses": ("0", "30ms", "300ms")},
    "multi-camera": {"queries": 30},
    "offline": {"queries": 60},
    "soak": {"seconds": 4.0},
}


def measure(folder: Path, changes: dict[str, dict[str, Any]]) -> list[Measured]:
    """All of them; the reports are in the order of the scenarios."""
    show = RichProgress()
    found = []
    for scenario, options in SCENARIOS.items():
        plan = Plan.of(scenario=scenario, **options | changes.get(scenario, {}))
        work = Work(
            folder / "cells.edgead",
            [folder / "cells" / "test"],
            plan,
            pictures=scenario == "single-stream",
            progress=show,
        )
        found += work.measure(lambda opened: [Target.parse(name) for name in opened.targets])
    return found


def accuracy(folder: Path) -> dict[str, float]:
    """Target → image AUROC, as the quickstart verified it."""
    verified = json.loads((folder / "quickstart.json").read_text(encoding="utf-8"))["verify"]["targets"]
    return {name: one["image_auroc"] for name, one in verified.items()}


def main() -> int:
    """Measure, write, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("quickstart", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--quick", dest="changes", action="store_const", const=QUICK, default={})
    length.add_argument("--short", dest="changes", action="store_const", const=SHORT)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()

    environment = record()
    found = measure(options.quickstart, options.changes)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    write(options.output, found, accuracy(options.quickstart))
    rows = [one.report for one in found]
    passed = all(report.verdict in ("pass", "none") for report in rows)
    if options.json:
        everything = {"passed": passed, "reports": [report.as_json() for report in rows]}
        print(json.dumps({**everything, "environment": asdict(environment)}, indent=2))
        return 0 if passed else 1
    for name, value in asdict(environment).items():
        print(f"{name:15} {value}")
    print(
        f"\n{'scenario':15}{'target':20}{'verdict':14}{'p50 ms':>9}{'p99 ms':>9}{'max ms':>9}{'images/s':>10}"
    )
    for report in rows:
        cells = [report.latency_ms[name] for name in ("p50", "p99", "max")]
        figures = "".join(f"{'–' if value is None else f'{value:.2f}':>9}" for value in cells)
        print(f"{report.scenario:15}{report.target:20}{report.verdict:14}{figures}{report.fps:10.1f}")
    print("passed" if passed else "not every target is held")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
