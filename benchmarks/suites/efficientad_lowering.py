"""EfficientAD's exact folds with and without, as ONNX graphs interleaved in the same engine.

    python benchmarks/suites/efficientad_lowering.py [--json] [--preset efficientad] [--rounds 9]

Sides: the straightforward detector; the lowering as it ships; the same with one fold turned the other way
(`exporters/lowering/efficientad.py`, class Folds). Random weights, which cost the same as trained ones. All
sides run in turn in each round, once untimed and once timed; figures are medians over the rounds and their
ratio to the shipped form: above 1 means that the shipped form is faster. --edge adds the small against the
edge size, both lowered. Bars: every fp32 side is within 1e-5 of the maps' range of torch, and the shipped
form is not slower than the straightforward one by more than 3 %; with --edge, edge is at least 5 × as fast.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from dataclasses import asdict
from typing import Any

import torch
from lowered_head import Map, compare  # the script beside this one
from torch import nn

from edgead.benchmarks.environment import record
from edgead.detectors._presets import PRESETS
from edgead.detectors.efficientad import EfficientAd
from edgead.exporters.lowering.efficientad import Folds, lower

ERROR_BAR = 1e-5  # of the maps' range, fp32
SLOWER_BAR = 1.03
EDGE_BAR = 5.0
SEED = 20261124
FAMILY = [name for name, preset in PRESETS.items() if preset["detector"] == "efficientad"]


def random_detector(preset: str) -> EfficientAd:
    """Random weights that keep the spread of what passes, and statistics as trained ones have."""
    torch.manual_seed(SEED)
    detector = EfficientAd.from_config(PRESETS[preset]["config"])
    for module in detector.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
    detector.teacher_mean.normal_(0, 1)
    detector.teacher_std.uniform_(0.5, 2)
    return detector.eval()


def sides(detector: EfficientAd) -> dict[str, nn.Module]:
    """The straightforward form, the shipped one, and one per fold turned the other way."""
    shipped = Folds()
    found: dict[str, nn.Module] = {"straight": detector, "shipped": lower(detector, shipped)}
    for field in dataclasses.fields(Folds):
        value = getattr(shipped, field.name)
        name = f"{'without' if value else 'with'} {field.name}"
        found[name] = lower(detector, dataclasses.replace(shipped, **{field.name: not value}))
    return {name: Map(module).eval() for name, module in found.items()}


def measure(modules: dict[str, nn.Module], options: argparse.Namespace) -> dict[str, Any]:
    """MACs, medians and errors of one table."""
    size = PRESETS[options.preset]["config"]["geometry"]
    image = torch.randint(0, 256, (1, size["height"], size["width"], 3), dtype=torch.uint8)
    return compare(modules, {"image": image}, options)


def misses(folds: dict[str, Any], edge: dict[str, Any] | None) -> list[str]:
    """What is over its bar, in words."""
    found = []
    for engine, values in folds["engines"].items():
        if engine.endswith("fp32"):
            found += [
                f"{engine}: {side} is {error:.1e} of the range from torch"
                for side, error in values["error"].items()
                if not error <= ERROR_BAR
            ]
        ratio = values["ms"]["shipped"] / values["ms"]["straight"]
        if ratio > SLOWER_BAR:
            found.append(f"{engine}: the shipped form takes {ratio:.3f} of the straightforward one's time")
    for engine, values in (edge or {"engines": {}})["engines"].items():
        ratio = values["ms"]["small"] / values["ms"]["edge"]
        if ratio < EDGE_BAR:
            found.append(f"{engine}: edge is {ratio:.2f} × as fast as small, the bar is {EDGE_BAR:g} ×")
    return found


def show(table: dict[str, Any], base: str) -> None:
    """One table, ratios to `base`."""
    print(f"{'engine':18} {'side':26} {'GMACs':>8} {'median ms':>10} {'ratio':>7} {'error/range':>12}")
    for engine, values in table["engines"].items():
        for side, ms in values["ms"].items():
            print(
                f"{engine:18} {side:26} {table['macs'][side] / 1e9:8.2f} {ms:10.2f} "
                f"{ms / values['ms'][base]:7.3f} {values['error'][side]:12.1e}"
            )


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description="EfficientAD's exact folds, each with and without")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--preset", default="efficientad", choices=FAMILY)
    parser.add_argument("--edge", action="store_true", help="time the edge size against the small one, too")
    parser.add_argument("--cpu-time", action="store_true", help="count CPU time, not wall time")
    parser.add_argument("--threads", type=int, default=0, help="0 = the engine's own choice")
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    if options.rounds < 1 or options.threads < 0:
        parser.error(f"--rounds {options.rounds} --threads {options.threads}: at least 1 and 0")
    environment = record()
    folds = measure(sides(random_detector(options.preset)), options)
    edge = None
    if options.edge:
        pair = {"small": "efficientad", "edge": "efficientad_edge"}
        lowered = {name: Map(lower(random_detector(preset))).eval() for name, preset in pair.items()}
        edge = measure(lowered, options)
        for values in edge["engines"].values():  # `compare` measures errors against the first side
            values["error"]["edge"] = float("nan")
    failures = misses(folds, edge)
    if options.json:
        result = {"folds": folds, "edge": edge, "failures": failures, "passed": not failures}
        text = json.dumps({**result, "environment": asdict(environment)}, indent=2)
        print(text.replace("NaN", "null"))
    else:
        for name, value in asdict(environment).items():
            print(f"{name:15} {value}")
        show(folds, "shipped")
        if edge is not None:
            show(edge, "edge")
        print("\n".join(failures) or "passed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
