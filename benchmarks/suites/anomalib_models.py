"""Five anomalib checkpoints, imported, beside anomalib's own inferencer: the same weights, pixels and gate.

    python3 -m venv PEER && PEER/bin/pip install 'anomalib[openvino]'       # an environment of its own, 6 GB
    python benchmarks/suites/anomalib_models.py DATA --peer PEER/bin/python [--models padim,stfpm] [--json]
        [--rounds 40] [--images 24] [--precisions fp32,bf16,int8] [--checkpoint FILE]

DATA: images in MVTec layout. For each model a process in the peer's environment makes anomalib's default one
(PatchCore and Reverse Distillation on Wide ResNet-50-2, the others on ResNet-18; 256×256), fits PatchCore's
bank and PaDiM's Gaussians on train/good without the last --images, saves a Lightning checkpoint and exports
its OpenVINO IR as FP32 (which OpenVINO runs in bf16 where the CPU can) and INT8_PTQ. edgead imports the
checkpoint and exports its own targets.

- Gate: export's own, for both sides: scores of the last --images good images and of synthetic defects against
  the fp32 torch model in each precision. Only what is inside it counts.
- Parity: the largest difference between edgead's fp32 maps and those of anomalib's torch model, as share of
  their range. Bar: 1e-3.
- Latency: from a uint8 frame in memory, every target and every inferencer in turn on each image, one process
  for each side, the others waiting. The ratio is that of the medians of each side's quickest inside the gate
  (the ratio of the minima stands beside it). Bars: PatchCore ≥ 3, PaDiM ≥ 1.5, the others ≥ 1.2.

Without --checkpoint FILE (of the one model in --models), weights are random and nothing is downloaded, which
changes what is found and not how long it takes, with one exception: edgead's bank search leaves out parts of
the bank that a bound rules out, and how many depends on the features. The bank has a tenth of all good
images' patches, anomalib's default, by a greedy choice like its own on fewer projected values, which takes
some minutes.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from peers.process import PeerProcess

if TYPE_CHECKING:
    from edgead.workflows._evidence import Evidence

BARS = {"patchcore": 3.0, "padim": 1.5, "stfpm": 1.2, "reverse_distillation": 1.2, "fastflow": 1.2}
PARITY_BAR = 1e-3  # of the range
SIDE = 256
PATCHES, RATIO = (SIDE // 8) ** 2, 0.1  # of an image in PatchCore; anomalib's coreset_sampling_ratio
FRAMES = 20
PEER = Path(__file__).parent / "peers" / "models_side.py"
SYSTEMS = {"FP32": "bf16", "INT8_PTQ": "int8"}  # anomalib's export to the precision whose gate it takes


def measure(options: argparse.Namespace, work: Path) -> dict[str, Any]:
    """Everything, as JSON values."""
    from edgead.cli._progress import RichProgress
    from edgead.data.folder import good_images, labelled_images
    from edgead.types import Geometry
    from edgead.workflows._evidence import ThresholdChoice, gather
    from edgead.workflows._images import load_pixels

    show, geometry = RichProgress(), Geometry(height=SIDE, width=SIDE)
    good, labelled = good_images(options.data), labelled_images(options.data)
    calib = work / "calib"
    calib.mkdir()
    for item in good[-options.images :]:
        (calib / item.path.name).symlink_to(item.path.resolve())
    evidence = gather(calib, (), ThresholdChoice(), geometry, defects=True, bit_depth=None, progress=show)
    timed = labelled[:: max(1, len(labelled) // FRAMES)][:FRAMES]
    found: dict[str, Any] = {}
    for name in options.models:
        folder = work / name
        folder.mkdir()
        for part, items in (("fit", good[: -options.images]), ("frames", timed)):
            np.save(
                folder / f"{part}.npy",
                load_pixels(items, geometry, progress=show, name=f"{part} images").pixels,
            )
        np.save(folder / "judged.npy", evidence.pixels)
        show.say(f"anomalib makes {name}")
        bank = round(RATIO * len(good) * PATCHES)
        given = options.checkpoint.absolute() if options.checkpoint else ""
        with PeerProcess(options.peer, PEER, folder, name, bank, given, work=folder) as peer:
            found[name] = compare(name, options, folder, evidence, calib, peer, show)
        found[name]["peer"] = peer.ready
        show.say(line(name, found[name]))
    return found


def compare(
    name: str,
    options: argparse.Namespace,
    folder: Path,
    evidence: Evidence,
    calib: Path,
    peer: PeerProcess,
    show: Any,
) -> dict[str, Any]:
    """One model: both sides judged, and timed in turn."""
    from edgead import Frame, Session, open_bundle
    from edgead.workflows.export import export
    from edgead.workflows.importing import import_checkpoint

    model, bundle = folder / "imported.model", folder / "imported.edgead"
    info = import_checkpoint("anomalib", folder / "model.ckpt", model, progress=show).info
    made = export(
        model, bundle, calib=calib, targets=targets(name, options.precisions), accept=True, progress=show
    )
    systems: dict[str, dict[str, Any]] = {
        target: {"side": "edgead", "failures": list(report.failures)}
        for target, report in made.targets.items()
    }
    for system, precision in SYSTEMS.items():
        show.say(f"anomalib exports {name} as {system}")
        answer = peer.ask(do="export", system=system)
        failures = [answer["error"]] if "error" in answer else gate(folder, system, precision, evidence)
        systems[f"anomalib {system}"] = {"side": "anomalib", "failures": failures, **answer}
    frames = [Frame(np.ascontiguousarray(image), "RGB8") for image in np.load(folder / "frames.npy")]
    with contextlib.ExitStack() as scope:
        opened = scope.enter_context(open_bundle(bundle))
        sessions = {
            target: scope.enter_context(Session.open(opened, target=target, self_test=False))
            for target in made.targets
        }
        fp32 = sessions[next(target for target in sessions if target.endswith("fp32"))]
        theirs = np.load(folder / "torch.npz")["maps"]
        ours = np.stack([fp32.predict(Frame(image, "RGB8")).anomaly_map for image in evidence.pixels])
        ready = [key for key, one in systems.items() if "error" not in one]
        times: dict[str, list[int]] = {key: [] for key in ready}
        with show.task(f"timing {name}", options.rounds) as task:
            for turn in range(-2, options.rounds):
                index = turn % len(frames)
                for key in ready:
                    if key in sessions:
                        begin = time.perf_counter_ns()
                        sessions[key].predict(frames[index])
                        taken = time.perf_counter_ns() - begin
                    else:
                        taken = peer.ask(do="time", system=key.removeprefix("anomalib "), index=index)["ns"]
                    if turn >= 0:
                        times[key].append(taken)
                task.advance(int(turn >= 0))
        for key, values in times.items():
            systems[key] |= {"p50_ms": float(np.median(values)) / 1e6, "min_ms": min(values) / 1e6}
        for key, session in sessions.items():
            systems[key]["runtime"] = session.runtime
    return {
        "preset": info.preset,
        "backbone": info.config["backbone"],
        "input": [SIDE, SIDE],
        "parity_map_max_of_range": float(np.abs(ours - theirs).max() / np.ptp(theirs)),
        "judged_images": len(theirs),
        "systems": systems,
        **ratios(systems),
    }


def targets(name: str, precisions: list[str]) -> list[str]:
    """What edgead exports: OpenVINO's, with libedgead's search where the model has one."""
    engine = "openvino+bank_search" if name == "patchcore" else "openvino"
    return [f"{engine}:{precision}" for precision in precisions]


def gate(folder: Path, system: str, precision: Any, evidence: Evidence) -> list[str]:
    """What of anomalib's export is over the limits that edgead's targets have to keep, in words."""
    from edgead.metrics.parity import compare_scores
    from edgead.workflows._evidence import ThresholdChoice
    from edgead.workflows._gates import collapse_failures, decisions, parity_failures

    reference, side = (loaded(folder / f"{key}.npz") for key in ("torch", system))
    before, after = (one.scores[: evidence.judged] for one in (reference, side))
    said = [
        decisions(one.scores[: evidence.judged], evidence.thresholds(one, ThresholdChoice()))
        for one in (reference, side)
    ]
    return [
        *parity_failures(compare_scores(before, after, *said), precision),
        *collapse_failures(evidence.seen(reference), evidence.seen(side)),
    ]


def loaded(file: Path) -> Any:
    """Maps and scores of anomalib as an export's side."""
    from edgead.workflows._sides import Side

    values = np.load(file)
    return Side(values["scores"], values["maps"].max((1, 2)).astype(np.float64), values["maps"])


def ratios(systems: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The quickest of each side inside its gate, and anomalib's time ÷ edgead's; None where one has none."""
    best: dict[str, Any] = {}
    for side in ("edgead", "anomalib"):
        inside = [key for key, one in systems.items() if one["side"] == side and not one["failures"]]
        best[side] = min(inside, key=lambda key: systems[key]["p50_ms"], default=None)
    both = [systems[key] for key in best.values() if key is not None]
    ratio = {
        key: both[1][f"{key}_ms"] / both[0][f"{key}_ms"] if len(both) == 2 else None for key in ("p50", "min")
    }
    return {"best": best, "ratio": ratio["p50"], "ratio_min": ratio["min"]}


def misses(found: dict[str, Any]) -> list[str]:
    """What is over its bar, in words."""
    failures = []
    for name, one in found.items():
        if one["ratio"] is None:
            failures.append(f"{name}: nothing inside the gate on one side: {one['best']}")
        elif one["ratio"] < BARS[name]:
            failures.append(f"{name}: {one['ratio']:.2f} × as fast, the bar is {BARS[name]:g}")
        if not one["parity_map_max_of_range"] <= PARITY_BAR:
            failures.append(f"{name}: maps differ by {one['parity_map_max_of_range']:.1e} of their range")
    return failures


def line(name: str, one: dict[str, Any]) -> str:
    """One model in words."""
    rows = [
        f"{name}, {one['backbone']}, {SIDE}×{SIDE}: fp32 maps {one['parity_map_max_of_range']:.1e} of range"
    ]
    for key, system in one["systems"].items():
        taken = f"p50 {system['p50_ms']:7.2f}  min {system['min_ms']:7.2f} ms" if "p50_ms" in system else "-"
        how = system.get("runtime", system.get("form", ""))
        rows.append(f"  {key:28} {how:12} {taken}  {'; '.join(system['failures']) or 'inside the gate'}")
    if one["ratio"] is not None:
        rows.append(
            f"  ratio {one['ratio']:.2f}, of the minima {one['ratio_min']:.2f}, bar {BARS[name]:g}: "
            f"{one['best']['anomalib']} ÷ {one['best']['edgead']}"
        )
    return "\n".join(rows)


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="root with train/good and test")
    parser.add_argument("--peer", type=Path, required=True, help="python of the environment with anomalib")
    parser.add_argument("--models", type=lambda text: text.split(","), default=list(BARS))
    parser.add_argument("--precisions", type=lambda text: text.split(","), default=["fp32", "bf16", "int8"])
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--images", type=int, default=24, help="good images that judge, held out of the fit")
    parser.add_argument("--checkpoint", type=Path, help="a model.ckpt of the one model in --models")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    unknown = set(options.models) - set(BARS)
    if unknown or options.rounds < 1 or options.images < 4 or "fp32" not in options.precisions:
        parser.error(
            f"--models {','.join(unknown)} --rounds {options.rounds} --images {options.images} --precisions "
            f"{','.join(options.precisions)}: there is {', '.join(BARS)}; 1 round, 4 images and fp32 at least"
        )
    if options.checkpoint and len(options.models) != 1:
        parser.error(f"--checkpoint {options.checkpoint}: name its model with --models, and no other")
    from edgead.benchmarks.environment import record

    environment = record()
    with tempfile.TemporaryDirectory(prefix="edgead-anomalib-") as folder:
        found = measure(options, Path(folder))
    failures = misses(found)
    if options.json:
        everything = {"models": found, "failures": failures, "passed": not failures}
        print(json.dumps({**everything, "environment": asdict(environment)}, indent=2))
        return 1 if failures else 0
    for name, value in asdict(environment).items():
        print(f"{name:15} {value}")
    for name, one in found.items():
        print(f"{line(name, one)}\n  peer {one['peer']}")
    print("\n".join(failures) or "passed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
