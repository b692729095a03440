"""edgead's int8 beside what others make of the same float model: NNCF's defaults, and anomalib's INT8_PTQ.

    pip install -c constraints.txt nncf          # by hand: only this script needs it
    python benchmarks/suites/int8_peers.py DATA [MODEL …] [--untrained efficientad,efficientad_edge]
        [--peer PEER/bin/python] [--rounds 100] [--threads 2] [--json]

DATA: an MVTec root. Each MODEL is exported with `openvino:int8`, and with its search where it has one, and
NNCF's `quantize` makes its own of the bundle's graph.onnx from the images that the export's ranges come from.
OpenVINO runs both in turn on one image, now the one first, now the other; the ratio is the median of NNCF's
time over edgead's on the same image. Accuracy is that of the test images, at each engine's own threshold,
from good images that the MODEL was not trained on; flips, and the map's error (root mean square, as a share
of its deviation), are against openvino:fp32. Bars, for the target with the search where there is one: ratio
≥ 0.98, image AUROC and AU-PRO at most 0.0005 below NNCF's, no more flips, no larger error.

`--untrained`: presets without weights, the time alone. `--peer`: a Python with anomalib[openvino]; its
EfficientAD-S with random weights, run by its OpenVINOInferencer from INT8_PTQ, and imported, as edgead's
openvino:int8, both from a frame in memory; both maps' error against its own torch model, scale and offset
apart, on test images. Exits with 1 where a bar is missed.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from int8_latency import untrained_bundle
from peers.process import PeerProcess

from edgead import Frame, Session
from edgead.benchmarks.environment import record
from edgead.bundle.reader import Bundle, open_bundle
from edgead.calibration.int8 import CalibrationTable
from edgead.cli._progress import RichProgress
from edgead.data.folder import good_images, hash_items, labelled_images
from edgead.data.masks import load_mask
from edgead.detectors import model_file
from edgead.detectors._presets import PRESETS
from edgead.imaging.map_operator import Banded
from edgead.imaging.postprocess import Postprocess
from edgead.metrics.au_pro import au_pro
from edgead.metrics.auroc import auroc
from edgead.runtimes._base import Runtime
from edgead.runtimes._openvino import openvino
from edgead.runtimes._pipeline import EngineScorer
from edgead.runtimes._registry import runtime_for
from edgead.types import Geometry, Target
from edgead.workflows._evidence import ThresholdChoice, gather
from edgead.workflows._gates import decisions
from edgead.workflows._images import load_pixels
from edgead.workflows._int8 import REPORT, map_error, shape_error
from edgead.workflows._select_candidates import search_of
from edgead.workflows._sides import score_side
from edgead.workflows.export import export
from edgead.workflows.importing import import_checkpoint

if TYPE_CHECKING:
    import numpy.typing as npt

    Pixels = npt.NDArray[np.uint8]

NNCF, FP32 = "NNCF", "openvino:fp32"
ANOMALIB = "anomalib INT8_PTQ"
RATIO_BAR, LOSS_BAR = 0.98, 0.0005
IMAGES, CALIBRATION = 16, 12
SIDE = 256  # of anomalib's EfficientAd


def trained(model: Path, options: argparse.Namespace, work: Path, show: RichProgress) -> dict[str, Any]:
    """Latency and accuracy of one MODEL, by system."""
    info = model_file.read_info(model)
    ours = f"openvino{search_of(info.detector) or ''}:int8"
    targets = [FP32, *dict.fromkeys((ours, "openvino:int8"))]
    path = work / "ours.edgead"
    export(
        model,
        path,
        calib=options.data,
        targets=targets,
        accept=True,
        threads=options.threads,
        progress=show,
    )
    with open_bundle(path) as bundle, ExitStack() as stack:
        table = CalibrationTable.from_json(bundle.path(REPORT).read_bytes(), REPORT)
        items = good_images(options.data)
        hashes = hash_items(items)
        chosen = [item for item, found in zip(items, hashes, strict=True) if found in set(table.images)]
        geometry = bundle.manifest.geometry
        good = load_pixels(chosen, geometry, progress=show, name="images for NNCF").pixels
        opened = {name: stack.enter_context(open_target(bundle, name, options.threads)) for name in targets}
        ir = quantised_by_nncf(bundle, good, work)
        opened[NNCF] = stack.enter_context(open_nncf(ir, options.threads))
        calls = {name: engine.infer for name, engine in opened.items()}
        found = in_turn(calls, ours, [image[None] for image in good[:IMAGES]], options.rounds)
        judged = accuracy(bundle, opened, info.train_hashes or (), options.data, show)
    return {"ours": ours, "systems": {name: row | judged[name] for name, row in found.items()}}


def untrained(preset: str, options: argparse.Namespace, work: Path) -> dict[str, Any]:
    """Latency of a preset without weights, by system."""
    ours = "openvino:int8"
    geometry = Geometry.from_values(PRESETS[preset]["config"]["geometry"])
    items = good_images(options.data)[:IMAGES]
    good = load_pixels(items, geometry, progress=RichProgress(), name=preset).pixels
    path = untrained_bundle(preset, [item.path for item in items], good, [ours], work, options.threads)
    with open_bundle(path) as bundle:
        ir = quantised_by_nncf(bundle, good, work)
        with open_target(bundle, ours, options.threads) as engine, open_nncf(ir, options.threads) as nncf:
            calls = {ours: engine.infer, NNCF: nncf.infer}
            return {
                "ours": ours,
                "systems": in_turn(calls, ours, [image[None] for image in good], options.rounds),
            }


def open_target(bundle: Bundle, name: str, threads: int) -> Runtime:
    """The engine of a target of `bundle`."""
    target = Target.parse(name)
    entry = bundle.entry(name)
    main_file = bundle.path(entry.main_file)
    return runtime_for(target.engine).open(main_file, target, threads=threads, rest=entry.rest)


def open_nncf(ir: Path, threads: int) -> Runtime:
    """Its engine as OpenVINO runs it by default: the rest in bf16 where the CPU has it."""
    return runtime_for("openvino").open(ir, Target("openvino", "int8"), threads=threads, rest="bf16")


def quantised_by_nncf(bundle: Bundle, good: Pixels, folder: Path) -> Path:
    """The IR that NNCF makes of the bundle's graph from (N, H, W, 3) uint8 RGB images, all of them."""
    try:
        openvino()  # first, so that NNCF's own import finds it without its maker's telemetry
        import nncf
    except ImportError:
        raise SystemExit("nncf is not installed: pip install -c constraints.txt nncf") from None
    model = openvino().convert_model(bundle.path(bundle.manifest.graph.file))
    made = nncf.quantize(model, nncf.Dataset([image[None] for image in good]), subset_size=len(good))
    openvino().save_model(made, folder / "nncf.xml", compress_to_fp16=False)
    return folder / "nncf.xml"


def in_turn(
    calls: dict[str, Callable[[Any], object]], ours: str, images: list[Any], rounds: int
) -> dict[str, dict[str, Any]]:
    """Median ms of each call, and the median of its time over that of `ours` on the same image."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    names = list(calls)
    for turn in range(-3, rounds):
        for name in names if turn % 2 else names[::-1]:
            begin = time.perf_counter()
            calls[name](images[turn % len(images)])
            if turn >= 0:
                times[name].append(1e3 * (time.perf_counter() - begin))
    base = np.array(times[ours])
    return {
        name: {
            "p50_ms": float(np.median(values)),
            "min_ms": min(values),
            "ratio": float(np.median(np.array(values) / base)),
        }
        for name, values in times.items()
    }


def accuracy(
    bundle: Bundle, opened: dict[str, Runtime], trained_on: Any, data: Path, show: RichProgress
) -> dict[str, dict[str, Any]]:
    """What each engine makes of the test images, at its own threshold."""
    manifest, choice = bundle.manifest, ThresholdChoice()
    evidence = gather(data, trained_on, choice, manifest.geometry, bit_depth=None, progress=show)
    tested = load_pixels(labelled_images(data), manifest.geometry, progress=show, name="test images")
    post = Postprocess(manifest.post, tuple(Banded(*matrix) for matrix in bundle.operator()))
    masks = [
        load_mask(item.mask, size, manifest.geometry, manifest.post.output)
        if item.mask
        else np.zeros(manifest.post.output, np.bool_)
        for item, size in zip(tested.items, tested.frame_sizes, strict=True)
    ]
    masked = [index for index, item in enumerate(tested.items) if item.mask or not item.label]
    labels = [item.label for item in tested.items]
    found: dict[str, dict[str, Any]] = {}
    reference: Any = None
    for name, engine in opened.items():
        scorer = EngineScorer(engine, post)
        limits = evidence.thresholds(
            score_side(scorer, evidence.pixels, progress=show, name=f"good images, {name}"), choice
        )
        side = score_side(scorer, tested.pixels, progress=show, name=f"test images, {name}")
        said = decisions(side.scores, limits)
        reference = reference or (side, said)
        found[name] = {
            "image_auroc": auroc(side.scores, labels),
            "au_pro": au_pro([side.maps[index] for index in masked], [masks[index] for index in masked]),
            "map_error": map_error(side.maps, reference[0].maps),
            "flips": sum(one != other for one, other in zip(said, reference[1], strict=True)),
            "images": len(labels),
        }
    return found


def beside_anomalib(options: argparse.Namespace, work: Path, show: RichProgress) -> dict[str, Any]:
    """EfficientAD-S with random weights, frame to decision, by system; and how far maps are from torch's."""
    geometry, ours = Geometry(height=SIDE, width=SIDE), "openvino:int8"
    calib = work / "calib"
    calib.mkdir()
    for item in good_images(options.data)[:CALIBRATION]:
        (calib / item.path.name).symlink_to(item.path.resolve())
    good = load_pixels(good_images(calib), geometry, progress=show, name="good images").pixels
    labelled = labelled_images(options.data)
    tested = load_pixels(labelled[:: max(1, len(labelled) // IMAGES)], geometry, progress=show, name="images")
    np.save(work / "good.npy", good)
    np.save(work / "test.npy", tested.pixels)
    script = Path(__file__).parent / "peers" / "efficientad_side.py"
    with PeerProcess(options.peer, script, work, "", work=work) as peer:
        peer.ask(do="score", paths=[])
        reference = np.load(work / "peer.npz")["maps"]
        model, bundle = work / "imported.model", work / "imported.edgead"
        import_checkpoint("anomalib", work / "model.ckpt", model, progress=show)
        export(model, bundle, calib=calib, targets=[ours], accept=True, int8_error=math.inf, progress=show)
        show.say("anomalib exports INT8_PTQ")
        peer.ask(do="export", compression="int8_ptq")
        peer.ask(do="engine maps")
        frames = [Frame(np.ascontiguousarray(image), "RGB8") for image in tested.pixels]
        with open_bundle(bundle) as opened, Session.open(opened, target=ours) as session:
            maps = {
                ours: np.stack([session.predict(frame).anomaly_map for frame in frames]),
                ANOMALIB: np.load(work / "engine_maps.npy"),
            }
            calls: dict[str, Callable[[Any], object]] = {
                ours: lambda index: session.predict(frames[index]),
                ANOMALIB: lambda index: peer.ask(do="time", index=index),
            }
            found = in_turn(calls, ours, list(range(len(frames))), options.rounds)
        for name, one in maps.items():
            found[name]["map_error"] = shape_error(one, reference)
        return {"ours": ours, "peer": peer.ready, "systems": found}


def misses(name: str, found: dict[str, Any]) -> list[str]:
    """What another's engine does better, in words."""
    systems = found["systems"]
    ours = systems[found["ours"]]
    said = []
    for peer in (NNCF, ANOMALIB):
        if peer not in systems:
            continue
        other = systems[peer]
        if other["ratio"] < RATIO_BAR:
            said.append(f"{name}: {peer} takes {other['ratio']:.3f} × the time of {found['ours']}")
        for key in ("image_auroc", "au_pro"):
            if other.get(key) is not None and other[key] - ours[key] > LOSS_BAR:
                said.append(f"{name}: {key} is {ours[key]:.4f}, {peer} has {other[key]:.4f}")
        for key in ("flips", "map_error"):
            if key in other and ours[key] > other[key]:
                said.append(f"{name}: {key} is {ours[key]:.3g}, {peer} has {other[key]:.3g}")
    return said


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("models", type=Path, nargs="*", metavar="MODEL")
    parser.add_argument("--untrained", type=lambda text: text.split(","), default=[], metavar="PRESETS")
    parser.add_argument("--peer", type=Path, help="python of the environment with anomalib")
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if not (options.models or options.untrained or options.peer):
        parser.error("give a MODEL, --untrained or --peer")
    environment, show, found = record(), RichProgress(), {}
    with tempfile.TemporaryDirectory(prefix="edgead-int8-peers-") as name:
        jobs: dict[str, Callable[[Path], dict[str, Any]]] = {
            **{str(model): lambda work, m=model: trained(m, options, work, show) for model in options.models},
            **{preset: lambda work, p=preset: untrained(p, options, work) for preset in options.untrained},
        }
        if options.peer:
            jobs["anomalib's EfficientAd"] = lambda work: beside_anomalib(options, work, show)
        for index, (title, job) in enumerate(jobs.items()):
            work = Path(name) / str(index)
            work.mkdir()
            found[title] = job(work)
            show.say(text(title, found[title]))
    failures = [words for title, one in found.items() for words in misses(title, one)]
    if options.json:
        values = {"passed": not failures, "environment": asdict(environment), "models": found}
        print(json.dumps({**values, "failures": failures}, indent=2))
        return 1 if failures else 0
    print(f"{environment.cpu}, {environment.usable_cores} cores, {environment.packages}")
    for title, one in found.items():
        print(text(title, one))
    print("\n".join(failures) or "all bars held")
    return 1 if failures else 0


def text(title: str, found: dict[str, Any]) -> str:
    """One model in words."""
    rows = [title]
    for name, row in found["systems"].items():
        rows.append(
            f"  {name:28} {row['p50_ms']:8.2f} ms, least {row['min_ms']:8.2f}, {row['ratio']:6.3f} × the time"
        )
        if "flips" not in row:
            rows[-1] += f"; map error {row['map_error']:.3f}" if "map_error" in row else ""
        else:
            pro = float("nan") if row["au_pro"] is None else row["au_pro"]
            rows[-1] += (
                f"; image AUROC {row['image_auroc']:.4f}, AU-PRO {pro:.4f}, "
                f"map error {row['map_error']:.3f}, {row['flips']} of {row['images']} flips"
            )
    return "\n".join(rows)


if __name__ == "__main__":
    sys.exit(main())
