"""The parts of a bundle that an export writes: golden images, target entries, manifest."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path

from edgead.benchmarks.environment import record
from edgead.bundle.manifest import (
    GoldenExpectation,
    GoldenImage,
    Graph,
    Identity,
    TargetEntry,
    TensorSpec,
)
from edgead.bundle.writer import BundleWriter
from edgead.detectors._base import Detector
from edgead.exporters._base import CompiledTarget
from edgead.exporters.onnx_exporter import OPSET, ExportedGraph
from edgead.metrics.parity import Parity
from edgead.runtimes._registry import engines
from edgead.types import Precision, Target, Thresholds
from edgead.workflows._evidence import Evidence
from edgead.workflows._sides import Side

# Most that a golden image's score and map may move on another machine, as a share of the distance between the
# threshold and the median good score: twice the shift of the normalised score. The same files in the same
# precision move by rounding only; a CPU that lacks bf16, or int8 without VNNI, shows here.
_SELF_TEST_SHARE: dict[Precision, float] = {"fp32": 0.01, "bf16": 0.25, "fp16": 0.1, "int8": 0.5}


def target_entry(compiled: CompiledTarget, work: Path, limits: Thresholds, *, verified: bool) -> TargetEntry:
    """The manifest's entry of a target whose files lie below `work` as they will in the bundle."""
    target = compiled.target
    machine = record()
    share = _SELF_TEST_SHARE[target.precision]
    return TargetEntry(
        target=str(target),
        engine=target.engine,
        precision=target.precision,
        device=target.device,
        main_file=compiled.main_file.relative_to(work).as_posix(),
        files=tuple(path.relative_to(work).as_posix() for path in compiled.files),
        config=dict(compiled.config),
        identity=compiled.identity
        or Identity(
            machine=platform.machine(),
            device=machine.cpu,
            features=machine.cpu_flags,
            engine_version=engines()[target.engine].version,
        ),
        thresholds=limits,
        score_tolerance=share * (limits.image - limits.image_median),
        map_tolerance=share * (limits.pixel - limits.pixel_median),
        rest=compiled.rest,
        verified=verified,
        head=compiled.head,
    )


def graph_entry(graph: ExportedGraph, detector: Detector) -> Graph:
    """The manifest's entry of graph.onnx and, for large weights, of the file beside it."""
    recipe = detector.post_recipe
    outputs = [TensorSpec(name="anomaly_map", dtype="float32", shape=(1, recipe.channels, *recipe.grid))]
    if recipe.score_rule == "graph":
        outputs.append(TensorSpec(name="image_score", dtype="float32", shape=(1,)))
    return Graph(
        file=graph.path.name,
        data_files=tuple(path.name for path in graph.files if path != graph.path),
        input=TensorSpec(name="image", dtype="uint8", shape=(1, *detector.geometry.input_size, 3)),
        outputs=tuple(outputs),
        opset=OPSET,
    )


def tools() -> dict[str, str]:
    """Versions of what made the bundle."""
    found = {}
    for package in ("edgead", "numpy", "onnx", "onnxruntime", "opencv-python-headless", "openvino", "torch"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


def add_golden(
    writer: BundleWriter, evidence: Evidence, sides: Mapping[Target, Side]
) -> tuple[GoldenImage, ...]:
    """Write the golden images and what each target gave for them."""
    import cv2

    images = []
    for place, kind in enumerate(evidence.golden):
        index = evidence.golden_start + place
        name = f"golden/{place:02d}-{kind}"
        rgb = evidence.pixels[index]
        writer.add_file(f"{name}.png", cv2.imencode(".png", rgb[:, :, ::-1])[1].tobytes())
        expected = []
        for target, side in sides.items():
            map_file = f"{name}.{target.slug}.f32"
            writer.add_map(map_file, side.maps[index])
            expected.append(
                GoldenExpectation(target=str(target), score_raw=float(side.scores[index]), map_file=map_file)
            )
        images.append(GoldenImage(file=f"{name}.png", kind=kind, expected=tuple(expected)))
    return tuple(images)


def add_report(writer: BundleWriter, parity: Mapping[str, tuple[Parity, Sequence[str], bool]]) -> str:
    """Write each target's parity, gate failures and whether they are its own as reports/export.json.

    Returns:
        That name.
    """
    data = {
        name: found.to_json() | {"failures": list(failures), "verified": verified}
        for name, (found, failures, verified) in parity.items()
    }
    file = "reports/export.json"
    writer.add_file(file, (json.dumps(data, indent=2) + "\n").encode())
    return file
