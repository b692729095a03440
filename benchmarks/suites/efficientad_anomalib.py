"""EfficientAD imported from anomalib beside anomalib's own model: parity, the resizers, and latency.

    python3 -m venv PEER && PEER/bin/pip install 'anomalib[openvino]'       # an environment of its own, 6 GB
    python benchmarks/suites/efficientad_anomalib.py DATA --peer PEER/bin/python [--json] [--rounds 15]

A process in the peer's environment makes a Lightning checkpoint of EfficientAd (random weights, statistics
and quantiles of good images; or --checkpoint FILE) and its OpenVINO export. edgead imports the checkpoint,
exports it, and both score --count test images of DATA (MVTec layout).

- Parity: both get the same uint8 256×256 pixels; edgead's `openvino:fp32` against anomalib's torch model.
  Bars: map difference and score shift at most 1e-4 of the range, no flips.
- Resizers, reported apart: the score shift when anomalib resizes the files itself, as its own training does.
- Latency, with --rounds: edgead's `openvino:bf16` session and anomalib's OpenVINOInferencer on its FP32 IR
  (which OpenVINO runs in bf16 where the CPU can), each from a uint8 frame in memory, turn by turn, one
  process each, the other one waiting. Bars: median ratio at least 1.05, not slower at the 90th percentile.
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
from peers.process import PeerProcess

SHIFT_BAR = 1e-4  # of the range
SPEED_BAR = 1.05
SIDE = 256
CALIBRATION = 12
PEER = Path(__file__).parent / "peers" / "efficientad_side.py"


def measure(options: argparse.Namespace, work: Path) -> dict[str, Any]:
    """Everything, as JSON values."""
    from edgead import Frame, Session, open_bundle
    from edgead.cli._progress import RichProgress
    from edgead.data.folder import good_images, labelled_images
    from edgead.types import Geometry
    from edgead.workflows._images import load_pixels
    from edgead.workflows.export import export
    from edgead.workflows.importing import import_checkpoint

    show, geometry = RichProgress(), Geometry(height=SIDE, width=SIDE)
    items = labelled_images(options.data)
    chosen = [items[index] for index in np.linspace(0, len(items) - 1, options.count).round().astype(int)]
    tested = load_pixels(chosen, geometry, progress=show, name="test images")
    calib = work / "calib"
    calib.mkdir()
    for item in good_images(options.data)[:CALIBRATION]:
        (calib / item.path.name).symlink_to(item.path.resolve())
    np.save(work / "test.npy", tested.pixels)
    good = load_pixels(good_images(calib), geometry, progress=show, name="good images")
    np.save(work / "good.npy", good.pixels)

    given = options.checkpoint.absolute() if options.checkpoint else ""
    peer = PeerProcess(options.peer, PEER, work, given, work=work)
    model, bundle = work / "imported.model", work / "imported.edgead"
    import_checkpoint("anomalib", work / "model.ckpt", model, progress=show)
    targets = ["openvino:fp32", "openvino:bf16"] if options.rounds else ["openvino:fp32"]
    export(model, bundle, calib=calib, targets=targets, accept=True, progress=show)
    peer.ask(do="score", paths=[str(item.path.resolve()) for item in tested.items])
    theirs = np.load(work / "peer.npz")
    frames = [Frame(np.ascontiguousarray(image), "RGB8") for image in tested.pixels]
    with open_bundle(bundle) as opened:
        with Session.open(opened, target="openvino:fp32") as session:
            ours = [session.predict(frame) for frame in frames]
        result = {
            "images": len(frames),
            "peer": peer.ready,
            "parity": parity(
                np.stack([one.anomaly_map for one in ours]),
                np.array([one.score_raw for one in ours]),
                theirs["maps"],
                theirs["scores"],
            ),
            "resizers": {
                "score_shift_max_of_range": float(
                    np.abs(theirs["own"] - theirs["scores"]).max() / np.ptp(theirs["scores"])
                ),
            },
        }
        if options.rounds:
            peer.ask(do="export")
            with Session.open(opened, target="openvino:bf16") as session:
                result["latency_ms"] = latency(session, frames, peer, options.rounds)
    peer.close()
    return result


def parity(maps: Any, scores: Any, their_maps: Any, their_scores: Any) -> dict[str, Any]:
    """Differences on the same pixels; flips at a limit midway between anomalib's middle scores."""
    ordered = np.sort(their_scores)
    limit = float(ordered[len(ordered) // 2 - 1 : len(ordered) // 2 + 1].mean())
    return {
        "map_difference_max_of_range": float(np.abs(maps - their_maps).max() / np.ptp(their_maps)),
        "score_shift_max_of_range": float(np.abs(scores - their_scores).max() / np.ptp(their_scores)),
        "flips": int(((scores >= limit) != (their_scores >= limit)).sum()),
    }


def latency(session: Any, frames: list[Any], peer: PeerProcess, rounds: int) -> dict[str, float]:
    """Both sides in turn on the same frames, each once untimed first."""
    session.predict(frames[0])
    peer.ask(do="time", index=0)
    ours, theirs = [], []
    for number in range(rounds):
        index = number % len(frames)
        begin = time.perf_counter_ns()
        session.predict(frames[index])
        ours.append(time.perf_counter_ns() - begin)
        theirs.append(peer.ask(do="time", index=index)["ns"])
    found = {}
    for name, values in (("edgead", ours), ("anomalib", theirs)):
        found[f"{name}_p50"], found[f"{name}_p90"] = (np.percentile(values, [50, 90]) / 1e6).tolist()
    return {
        **found,
        "ratio_p50": found["anomalib_p50"] / found["edgead_p50"],
        "ratio_p90": found["anomalib_p90"] / found["edgead_p90"],
    }


def misses(result: dict[str, Any]) -> list[str]:
    """What is over its bar, in words."""
    found = [
        f"{key} is {value:.1e}, the bar is {SHIFT_BAR:g}"
        for key, value in result["parity"].items()
        if key != "flips" and not value <= SHIFT_BAR
    ]
    if result["parity"]["flips"]:
        found.append(f"{result['parity']['flips']} flips")
    times = result.get("latency_ms")
    if times is not None and times["ratio_p50"] < SPEED_BAR:
        found.append(f"median ratio {times['ratio_p50']:.3f}, the bar is {SPEED_BAR:g}")
    if times is not None and times["ratio_p90"] < 1:
        found.append(f"slower at p90: ratio {times['ratio_p90']:.3f}")
    return found


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="root with train/good and test")
    parser.add_argument("--peer", type=Path, required=True, help="python of the environment with anomalib")
    parser.add_argument("--checkpoint", type=Path, help="a model.ckpt; default: random weights")
    parser.add_argument("--count", type=int, default=50, help="test images, spread over all")
    parser.add_argument("--rounds", type=int, default=0, help="of the latency; 0 = parity alone")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.count < 2 or options.rounds < 0:
        parser.error(f"--count {options.count} --rounds {options.rounds}: at least 2 and 0")
    from edgead.benchmarks.environment import record

    environment = record()
    with tempfile.TemporaryDirectory() as folder:
        result = measure(options, Path(folder))
    failures = misses(result)
    if options.json:
        everything = {**result, "failures": failures, "passed": not failures}
        print(json.dumps({**everything, "environment": asdict(environment)}, indent=2))
    else:
        for name, value in asdict(environment).items():
            print(f"{name:15} {value}")
        print(f"peer            {result['peer']}\nimages          {result['images']}")
        for part in ("parity", "resizers", "latency_ms"):
            for name, value in result.get(part, {}).items():
                print(f"{part:12} {name:30} {value:.3g}")
        print("\n".join(failures) or "passed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
