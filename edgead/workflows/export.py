"""MODEL to bundle: lower, export, compile, calibrate on good images, gate, write."""

from __future__ import annotations

import contextlib
import math
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from edgead.benchmarks.environment import record
from edgead.bundle.head import BANK_SEARCH, WINDOW_SEARCH
from edgead.bundle.manifest import (
    SCHEMA,
    TILED_SCHEMA,
    DetectorInfo,
    GraphParity,
    Manifest,
    Provenance,
    created_by,
    utc_now,
)
from edgead.bundle.writer import BundleWriter, Form
from edgead.calibration.drift import drift
from edgead.calibration.int8 import RangeRule
from edgead.discovery import load as load_plugin
from edgead.errors import GateFailed, UsageError
from edgead.exporters._base import CompiledTarget
from edgead.exporters._half import half
from edgead.exporters._qdq import Int8Recipe
from edgead.exporters._tensorrt import TensorRTOptions
from edgead.imaging.map_operator import Banded, build
from edgead.imaging.postprocess import Postprocess
from edgead.metrics.parity import Parity, compare_scores
from edgead.progress import Progress, Silent
from edgead.runtimes._registry import engines
from edgead.tiling import joined
from edgead.types import Target, Thresholds
from edgead.workflows import _export_bundle as parts
from edgead.workflows._evidence import Evidence, ThresholdChoice, gather
from edgead.workflows._export_targets import Convolutions, Exporters, choose
from edgead.workflows._gates import auroc_failures, collapse_failures, decisions, parity_failures
from edgead.workflows._images import Skipped
from edgead.workflows._int8 import REPORT as CALIBRATION
from edgead.workflows._int8 import Int8Builder, calibrate, tried_images
from edgead.workflows._scoring import Scoring
from edgead.workflows._sides import Side, graph_parity, model_side

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Pixels = npt.NDArray[np.uint8]

DEFAULT_TARGETS = ("openvino:fp32", "openvino:bf16", "onnxruntime:fp32")
# Before these where the detector's lowering offers a search behind the engine, which is faster.
SEARCH_TARGETS = {
    head: (f"openvino{head}:fp32", f"openvino{head}:bf16") for head in (WINDOW_SEARCH, BANK_SEARCH)
}
_GRAPH_TARGET = Target("onnxruntime", "fp32")


@dataclass(frozen=True, slots=True)
class TargetReport:
    """One target of an export.

    Attributes:
        parity: its distance from the MODEL on the held-out, labelled and golden images.
        verified: whether these are the target's own figures; False: those of its graph on the CPU, and nobody
            has seen the target's.
        auroc_before: image AUROC of the MODEL, on the labelled images, or without them of good images against
            the same with a synthetic defect; None where no reduced precision asks for it.
        auroc: the same of the target.
        failures: what is over the gate's limits; empty unless `accept` let it through.
        thresholds: its own.
        size_bytes: of the files that it reads.
    """

    parity: Parity
    auroc_before: float | None
    auroc: float | None
    failures: tuple[str, ...]
    thresholds: Thresholds
    size_bytes: int
    verified: bool = True


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What an export made.

    Attributes:
        bundle: where it stands.
        digest: its identity.
        graph: graph.onnx (ONNX Runtime, fp32) beside the MODEL (torch) on the same images.
        targets: target name to its report, in the order asked for.
        held_out: good images that the thresholds come from.
        trained_on: images of the calibration folder left aside because the MODEL was trained on them.
        skipped: images that could not be read.
    """

    bundle: Path
    digest: str
    graph: GraphParity
    targets: dict[str, TargetReport]
    held_out: int
    trained_on: int
    skipped: tuple[Skipped, ...]


def export(
    model: Path,
    output: Path,
    *,
    calib: Path,
    targets: Sequence[str] | None = None,
    unverified: Sequence[str] = (),
    tensorrt: TensorRTOptions | None = None,
    convolutions: Convolutions = "auto",
    choice: ThresholdChoice | None = None,
    accept: bool = False,
    overwrite: bool = False,
    form: Form = "directory",
    bit_depth: int | None = None,
    ranges: RangeRule = "mse",
    int8_error: float | None = None,
    threads: int = 0,
    progress: Progress | None = None,
) -> ExportReport:
    """Compile a MODEL for `targets` and write a verified bundle, or nothing.

    Args:
        model: what `train` or `import` made.
        output: the bundle, usually NAME.edgead.
        calib: folder of good images (or an MVTec root, whose train/good is used). Those that the MODEL was
            trained on are left aside; map statistics, thresholds and the gate see the others. INT8 ranges
            may come from all of them.
        targets: ``<engine>:<precision>[:device]``, in the order of preference. None = `DEFAULT_TARGETS`, for
            a detector with a search `SEARCH_TARGETS` before them, as far as they can run here; of these, a
            reduced precision that misses its gate is left out.
        unverified: further targets, on a GPU, that are built here and cannot run here, such as
            ``tensorrt_rtx:fp16:cuda``. Thresholds, golden values and the gate are those of the graph that
            they are built from, in ONNX Runtime on the CPU; the bundle says so, and where one is opened it
            has to pass its self-test.
        tensorrt: how plans of TensorRT are built; None = by default, and whether or not there are any.
        convolutions: of OpenVINO's float targets, see `Exporters`.
        choice: how thresholds are chosen; None = from good images, at 1 % false positives.
        accept: write the bundle although a target misses its gate.
        overwrite: replace a bundle that stands at `output`.
        form: a directory, or one uncompressed zip.
        bit_depth: of 16-bit files (10, 12 or 16).
        ranges: of int8 targets, see `CalibrationTable`.
        int8_error: largest error of an int8 target's map, a share of the map's deviation, above 0: layers go
            back to float until it is no larger and the gate holds. None = the detector's; inf = no layer goes
            back, right or not.
        threads: compute threads of the engines, 0 = their own choice.
        progress: where to report; None = nowhere.

    Raises:
        UsageError: an unknown target, a precision that its engine has not, the same target twice, an
            unverified one that can run here, options that fit none, or no positive `int8_error`.
        ModelError: the MODEL is damaged or unfinished.
        DatasetError: no good image is left that the MODEL was not trained on.
        RuntimeMissingError: a target's engine is not installed.
        EngineError: an engine refuses the graph, or gives no finite score for an image.
        GateFailed: a target is too far from the MODEL; nothing is written.
        OutputError: the bundle cannot be written.
    """
    from edgead.detectors.model_file import load
    from edgead.exporters.onnx_exporter import export_graph

    show, choice = progress or Silent(), choice or ThresholdChoice()
    if int8_error is not None and not int8_error > 0:
        raise UsageError(f"int8 error {int8_error:g}: above 0 is needed; the usual is 0.1")
    exporters = Exporters(tensorrt, convolutions)
    chosen = None if targets is None else choose(targets, unverified, exporters)
    detector, info = load(model)
    lowering = load_plugin("edgead.exporters.lowering", detector.name, kind="lowering")
    search: str | None = getattr(lowering, "SEARCH", None)
    wanted, unseen = chosen or choose(installed_defaults(search=search), unverified, exporters)
    every = (*wanted, *unseen)
    if info.train_hashes is None:
        show.say(
            f"{model} does not say what it was trained on: calibrate with good images that it has not seen"
        )
    with contextlib.ExitStack() as scope:
        writer = scope.enter_context(BundleWriter(output, overwrite=overwrite, form=form))
        work = Path(scope.enter_context(tempfile.TemporaryDirectory(prefix="edgead-export-")))
        evidence = gather(
            calib,
            info.train_hashes or (),
            choice,
            detector.geometry,
            defects=any(target.precision != "fp32" for target in every),
            bit_depth=bit_depth,
            progress=show,
        )
        post, tiling = joined(detector.post_recipe, detector.geometry), detector.tiling
        matrix_h, matrix_w = (Banded.from_dense(matrix) for matrix in build(post))
        postprocess = Postprocess(post, (matrix_h, matrix_w))

        show.say(f"lowering {info.preset} to graph.onnx")
        lowered = lowering.lower(detector)
        graph = export_graph(
            lowered,
            detector.geometry.input_size,
            work / "graph.onnx",
            metadata={"edgead.detector": detector.name},
        )
        if search is not None and any(target.engine.endswith(search) for target in every):
            lowering.write_search(detector, lowered, graph.path)

        scoring = Scoring(tiling, postprocess, threads)
        pixels = evidence.pixels
        reference = model_side(detector, pixels, progress=show, name="scoring torch:fp32", threads=threads)
        sides = {_GRAPH_TARGET: scoring.engine(graph.path, _GRAPH_TARGET, pixels, show)}
        limits = evidence.thresholds(reference, choice)
        known = info.provenance.get("reserved_scores")
        if known and (warning := drift(known, reference.scores[: len(evidence.good)])):
            show.say(warning)

        def report(target: Target, side: Side, files: Iterable[Path] = ()) -> TargetReport:
            made = _report(target, reference, limits, side, evidence, choice)
            size = sum(path.stat().st_size for path in files)
            return replace(made, size_bytes=size, verified=target not in unseen)

        recipe = getattr(lowering, "INT8", Int8Recipe())
        goal = recipe.map_error if int8_error is None else int8_error

        def failures(target: Target, side: Side) -> tuple[str, ...]:
            return report(target, side).failures if goal < math.inf else ()

        int8: Int8Builder | None = None
        if eight := [target for target in every if target.precision == "int8"]:
            sources = [graph.path, *(exporters(target.engine).source(graph.path) for target in eight)]
            calibrated = calibrate(
                {path.relative_to(work).as_posix(): path for path in sources},
                evidence.folder,
                detector.geometry,
                tiling=tiling,
                postprocess=Postprocess(detector.post_recipe),
                limit=limits.image,
                rule=ranges,
                bit_depth=bit_depth,
                progress=show,
            )
            tried = tried_images(len(evidence.good), evidence.judged, len(pixels))
            int8 = Int8Builder(
                graph=graph.path,
                table=calibrated,
                recipe=recipe,
                out=work / "targets",
                pixels=pixels[tried],
                maps=reference.maps[tried],
                score=scoring.engine,
                goal=goal,
                has_bf16=record().has_bf16,
                progress=show,
            )
        halves: dict[Path, Path] = {}
        compiled: dict[Target, CompiledTarget] = {}
        for target in every:
            show.say(f"compiling {target}")
            if target in unseen:
                show.say(
                    f"{target} cannot run here: not verified; ONNX Runtime runs its graph on the CPU instead"
                )
            exporter = exporters(target.engine)
            if int8 is not None and target.precision == "int8":
                compiled[target], sides[target] = int8.build(
                    exporter,
                    target,
                    pixels,
                    partial(failures, target),
                    stand_in=scoring.stand_in if target in unseen else None,
                )
                continue
            source, given = exporter.source(graph.path), graph.path
            if target.precision == "fp16":
                if source not in halves:
                    halves[source] = half(source, recipe, source.parent)
                source = given = halves[source]
            compiled[target] = exporter.compile(given, target, work / "targets")
            if target in unseen:
                sides[target] = scoring.stand_in(source, target, pixels, show)
            elif target not in sides:
                sides[target] = scoring.engine(compiled[target].main_file, target, pixels, show)

        reports = {
            str(target): report(target, sides[target], made.files) for target, made in compiled.items()
        }
        if targets is None and not accept:
            for target in _over_gate(wanted, reports):
                show.say(f"left out {target}: {'; '.join(reports.pop(str(target)).failures)}")
                del compiled[target]
        _gate(reports, accept, show)
        held = {target for target in compiled if not reports[str(target)].failures}
        for advice in scoring.slower_int8(compiled.values(), held, pixels):
            show.say(advice)
        fidelity = graph_parity(reference, sides[_GRAPH_TARGET], evidence.judged)
        extra = {} if int8 is None else {CALIBRATION: int8.table.to_json(), **int8.reports}
        for name, content in extra.items():
            writer.add_file(name, content)
        files = {path for made in compiled.values() for path in made.files} | set(graph.files)
        for path in sorted(files):
            writer.add_file(path.relative_to(work).as_posix(), path)
        manifest = Manifest(
            schema=SCHEMA if tiling is None else TILED_SCHEMA,
            created_by=created_by(),
            detector=DetectorInfo(name=detector.name, preset=info.preset, config=detector.config_dict()),
            geometry=detector.geometry,
            post=post,
            operator=writer.add_operator(matrix_h, matrix_w),
            graph=parts.graph_entry(graph, detector),
            targets=tuple(
                parts.target_entry(
                    made, work, reports[str(target)].thresholds, verified=reports[str(target)].verified
                )
                for target, made in compiled.items()
            ),
            reference=limits,
            golden=parts.add_golden(writer, evidence, {target: sides[target] for target in compiled}),
            reports=(
                parts.add_report(
                    writer, {name: (r.parity, r.failures, r.verified) for name, r in reports.items()}
                ),
                *extra,
            ),
            provenance=Provenance(
                created=utc_now(),
                model=info.weights_sha256,
                seeds={"train": info.provenance["seed"]} if "seed" in info.provenance else {},
                tools=parts.tools(),
                train=info.train_hashes or (),
                calibration=tuple(
                    dict.fromkeys(
                        (
                            *(info.provenance.get("calibration_hashes") or ()),
                            *(int8.table.images if int8 else ()),
                        )
                    )
                ),
                held_out=evidence.good_hashes,
                validation=evidence.labelled_hashes,
                graph_parity=fidelity,
            ),
        )
        digest = writer.finish(manifest)
    return ExportReport(
        output, digest, fidelity, reports, len(evidence.good), evidence.trained_on, evidence.skipped
    )


def installed_defaults(*, search: str | None = None) -> tuple[str, ...]:
    """Those of `DEFAULT_TARGETS` whose engine is installed and whose precision this CPU has.

    Args:
        search: the head that the detector's lowering offers, a key of `SEARCH_TARGETS`: begin with those.
    """
    here, has_bf16 = engines(), record().has_bf16
    found = []
    for text in (*SEARCH_TARGETS.get(search or "", ()), *DEFAULT_TARGETS):
        target = Target.parse(text)
        if here[target.engine].available and (has_bf16 or target.precision != "bf16"):
            found.append(text)
    return tuple(found)


def _report(
    target: Target,
    reference: Side,
    reference_limits: Thresholds,
    side: Side,
    evidence: Evidence,
    choice: ThresholdChoice,
) -> TargetReport:
    if target.precision == "fp32":
        limits = evidence.thresholds(side, choice)
    else:
        limits = evidence.carried_over(reference, reference_limits, side, choice)
    before, after = (one.scores[: evidence.judged] for one in (reference, side))
    parity = compare_scores(before, after, decisions(before, reference_limits), decisions(after, limits))
    precision = target.precision
    labelled = evidence.labelled_auroc(reference), evidence.labelled_auroc(side)
    seen = evidence.seen(reference), evidence.seen(side)
    failures = (
        *parity_failures(parity, precision),
        *auroc_failures(*labelled, precision, None),
        *collapse_failures(*seen),
    )
    auroc_before, auroc = labelled if evidence.labelled else (one.auroc for one in seen)
    return TargetReport(parity, auroc_before, auroc, failures, limits, size_bytes=0)


def _over_gate(compiled: Iterable[Target], reports: Mapping[str, TargetReport]) -> list[Target]:
    """Targets of reduced precision that miss their gate: nobody asked for them by name."""
    return [t for t in compiled if t.precision != "fp32" and reports[str(t)].failures]


def _gate(reports: Mapping[str, TargetReport], accept: bool, progress: Progress) -> None:
    failures = [f"{name}: {failure}" for name, report in reports.items() for failure in report.failures]
    if not failures:
        return
    if not accept:
        raise GateFailed(
            f"too far from the MODEL, so no bundle was written: {'; '.join(failures)}; leave the target out, "
            "or accept it as it is with --accept"
        )
    for failure in failures:
        progress.say(f"accepted: {failure}")
