"""Hold the targets of a bundle against their reference on labelled test images, in task terms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgead.bundle.reader import Bundle, open_bundle
from edgead.data.folder import ImageItem, labelled_images
from edgead.data.masks import load_mask
from edgead.data.split import check_disjoint
from edgead.errors import UsageError
from edgead.imaging.map_operator import Banded
from edgead.imaging.postprocess import Postprocess
from edgead.metrics.au_pro import au_pro
from edgead.metrics.auroc import auroc, pixel_auroc
from edgead.metrics.f1 import Operating, operating_point
from edgead.metrics.parity import Parity, compare_scores
from edgead.progress import Progress, Silent
from edgead.runtimes._base import Runtime
from edgead.runtimes._driver import RuntimeName
from edgead.runtimes._pipeline import EngineScorer
from edgead.runtimes._registry import availability, runtime_for
from edgead.runtimes._tiled import tiled
from edgead.runtimes.session import Session
from edgead.types import Target, Thresholds
from edgead.workflows._gates import au_pro_failures, auroc_failures, decisions, parity_failures
from edgead.workflows._images import LoadedImages, Skipped, hash_readable, load_pixels
from edgead.workflows._sides import Side, score_side

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """What one side makes of the labelled images.

    Attributes:
        image_auroc: None where one of the classes is missing.
        pixel_auroc: over all pixels at the resolution of the map; None without masks.
        au_pro: up to a false-positive rate of 0.3, 8-connected; None without masks.
        operating: precision, recall and false-positive rate of its own decisions.
    """

    image_auroc: float | None
    pixel_auroc: float | None
    au_pro: float | None
    operating: Operating


@dataclass(frozen=True, slots=True)
class TargetVerdict:
    """One target beside the reference.

    Attributes:
        runtime: who drove the target's engine: native or python.
        accuracy: what it makes of the images.
        parity: its scores beside the reference's.
        flipped: the images on which their decisions differ.
        failures: what is over a limit.
    """

    runtime: RuntimeName
    accuracy: Accuracy
    parity: Parity
    flipped: tuple[Path, ...]
    failures: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether nothing is over the limits."""
        return not self.failures


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What `verify` found.

    Attributes:
        kind: ``torch`` (the MODEL) or ``onnx`` (graph.onnx in ONNX Runtime, fp32).
        reference: the reference's own accuracy.
        images: how many were judged.
        good: how many of them are good.
        without_mask: anomalous images without a mask, or with an empty one: left out of pixel metrics.
        targets: target name to its verdict.
        not_run: targets that were not verified where the bundle was made, and cannot be here either → why.
        skipped: images that could not be read.
    """

    kind: str
    reference: Accuracy
    images: int
    good: int
    without_mask: int
    targets: dict[str, TargetVerdict]
    not_run: dict[str, str]
    skipped: tuple[Skipped, ...]

    @property
    def passed(self) -> bool:
        """Whether every target passed."""
        return all(verdict.passed for verdict in self.targets.values())

    def to_json(self) -> dict[str, Any]:
        """The fields of ``verify --json``."""
        return {
            "passed": self.passed,
            "reference": {"kind": self.kind, **_accuracy_json(self.reference)},
            "images": self.images,
            "good": self.good,
            "without_mask": self.without_mask,
            "targets": {
                name: {
                    "passed": verdict.passed,
                    "runtime": verdict.runtime,
                    **_accuracy_json(verdict.accuracy),
                    **verdict.parity.to_json(),
                    "flipped": [str(path) for path in verdict.flipped],
                    "failures": list(verdict.failures),
                }
                for name, verdict in self.targets.items()
            },
            "not_run": self.not_run,
            "skipped": [{"path": str(skip.path), "reason": skip.reason} for skip in self.skipped],
        }


def _accuracy_json(accuracy: Accuracy) -> dict[str, Any]:
    return {
        "image_auroc": accuracy.image_auroc,
        "pixel_auroc": accuracy.pixel_auroc,
        "au_pro": accuracy.au_pro,
        "recall": accuracy.operating.recall,
        "false_positive_rate": accuracy.operating.false_positive_rate,
    }


def verify(
    bundle: Path,
    data: Path,
    *,
    model: Path | None = None,
    targets: Sequence[str] | None = None,
    min_auroc: float | None = None,
    bit_depth: int | None = None,
    threads: int = 0,
    runtime: RuntimeName | None = None,
    progress: Progress | None = None,
) -> VerifyReport:
    """Judge the targets of a bundle on ``data/test``, none of whose images the bundle has seen.

    Args:
        bundle: directory or zip.
        data: MVTec-like root: ``test/good``, ``test/<defect>``, and ``ground_truth`` where there are masks.
        model: the MODEL that the bundle was made from, as the reference in torch; None = graph.onnx in ONNX
            Runtime, fp32.
        targets: which ones; None = all of the bundle's, but those that were not verified where it was made
            and cannot run here.
        min_auroc: image AUROC that every target must reach, beside the gate relative to the reference.
        bit_depth: of 16-bit files (10, 12 or 16).
        threads: compute threads of the engines, 0 = their own choice.
        runtime: who drives the targets, as for `Session.open`; the reference is always Python's.
        progress: where to report; None = nowhere.

    Raises:
        UsageError: the bundle has no such target, `model` is not the one that it was made from, or
            `min_auroc` is not from 0 to 1.
        BundleError: the bundle is damaged.
        DatasetError: another layout, or no image could be read.
        LeakageError: a test image was trained, calibrated or thresholded on.
        RuntimeMissingError: a target's engine is not installed.
    """
    show = progress or Silent()
    if min_auroc is not None and not 0 <= min_auroc <= 1:
        raise UsageError(f"the image AUROC to reach is {min_auroc}: give a value from 0 to 1, such as 0.99")
    with open_bundle(bundle) as opened:
        not_run = {} if targets else _never_run(opened)
        asked = tuple(opened.entry(name).target for name in targets) if targets else opened.targets
        names = tuple(name for name in asked if name not in not_run)
        items, hashes, unreadable = hash_readable(labelled_images(data), show)
        _refuse_known(opened, items, hashes)
        manifest = opened.manifest
        loaded = load_pixels(items, manifest.geometry, bit_depth=bit_depth, progress=show, name="test images")
        truth = _Truth.read(loaded, opened)
        matrix_h, matrix_w = (Banded(*matrix) for matrix in opened.operator())
        postprocess = Postprocess(manifest.post, (matrix_h, matrix_w))

        def refer(engine: Runtime, path: Path, target: Target) -> Side:
            with tiled(engine, manifest.tiling).open(path, target, threads=threads) as ready:
                scorer = EngineScorer(ready, postprocess)
                return score_side(scorer, loaded.pixels, progress=show, name=f"scoring {target}")

        if model is None:
            target = Target("onnxruntime", "fp32")
            reference = refer(runtime_for("onnxruntime"), opened.path(manifest.graph.file), target)
        else:
            reference = refer(_torch(opened, model), model, Target("torch", "fp32"))
        before = truth.accuracy(reference, manifest.reference)
        verdicts = {}
        for name in names:
            # the gate below says more than a self-test would
            with Session.unproven(opened, name, threads=threads, runtime=runtime) as session:
                side = score_side(session, loaded.pixels, progress=show, name=f"scoring {name}")
            verdicts[name] = _judge(truth, reference, manifest.reference, before, side, session, min_auroc)
    good = sum(not item.label for item in loaded.items)
    return VerifyReport(
        "onnx" if model is None else "torch",
        before,
        len(loaded.items),
        good,
        len(loaded.items) - len(truth.with_mask),
        verdicts,
        not_run,
        unreadable + loaded.skipped,
    )


def _judge(
    truth: _Truth,
    reference: Side,
    reference_limits: Thresholds,
    before: Accuracy,
    side: Side,
    session: Session,
    min_auroc: float | None,
) -> TargetVerdict:
    limits, target = session.thresholds, session.target
    parity = compare_scores(
        reference.scores,
        side.scores,
        decisions(reference.scores, reference_limits),
        decisions(side.scores, limits),
    )
    accuracy = truth.accuracy(side, limits)
    failures = (
        *parity_failures(parity, target.precision),
        *auroc_failures(before.image_auroc, accuracy.image_auroc, target.precision, min_auroc),
        *au_pro_failures(before.au_pro, accuracy.au_pro, target.precision),
    )
    flipped = tuple(truth.items[index].path for index in parity.flipped)
    return TargetVerdict(session.runtime, accuracy, parity, flipped, failures)


def _never_run(bundle: Bundle) -> dict[str, str]:
    """Targets that the bundle itself does not claim to hold, and that cannot run here → why."""
    found = {}
    for entry in bundle.manifest.targets:
        if not entry.verified:
            here = availability(Target.parse(entry.target))
            if not here.available:
                found[entry.target] = here.why
    return found


def _refuse_known(bundle: Bundle, items: Sequence[ImageItem], hashes: Sequence[str]) -> None:
    known = bundle.manifest.provenance
    check_disjoint(
        {item.path: name for item, name in zip(items, hashes, strict=True)},
        {
            "training": frozenset(known.train),
            "calibration": frozenset(known.calibration),
            "thresholds": frozenset(known.held_out) | frozenset(known.validation),
        },
    )


def _torch(bundle: Bundle, model: Path) -> Runtime:
    from edgead.detectors.model_file import load
    from edgead.exporters.reference import TorchReference

    detector, info = load(model)
    if info.weights_sha256 != bundle.manifest.provenance.model:
        raise UsageError(
            f"{bundle.source} was not made from {model}: the bundle names the MODEL "
            f"{bundle.manifest.provenance.model}, this one is {info.weights_sha256}"
        )
    return TorchReference(detector)


@dataclass(frozen=True, slots=True)
class _Truth:
    """Labels and masks of the test images; `with_mask` are the indices that count for pixel metrics."""

    items: tuple[ImageItem, ...]
    with_mask: tuple[int, ...]
    masks: tuple[npt.NDArray[np.bool_], ...]

    @classmethod
    def read(cls, loaded: LoadedImages, bundle: Bundle) -> _Truth:
        import numpy as np

        output = bundle.manifest.post.output
        with_mask, masks = [], []
        for index, (item, size) in enumerate(zip(loaded.items, loaded.frame_sizes, strict=True)):
            if not item.label:
                mask = np.zeros(output, np.bool_)
            elif item.mask is None:
                continue
            else:
                mask = load_mask(item.mask, size, bundle.manifest.geometry, output)
                if not mask.any():
                    continue
            with_mask.append(index)
            masks.append(mask)
        return cls(loaded.items, tuple(with_mask), tuple(masks))

    def accuracy(self, side: Side, limits: Thresholds) -> Accuracy:
        """Over the images for which `side` gave numbers; the gate fails it for the others."""
        import numpy as np

        usable = np.isfinite(side.scores) & np.isfinite(side.map_max)
        labels = np.array([item.label for item in self.items])[usable]
        scores = side.scores[usable]
        pairs = [
            (side.maps[index], mask)
            for index, mask in zip(self.with_mask, self.masks, strict=True)
            if usable[index]
        ]
        maps, masks = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        has_defect = any(mask.any() for mask in masks)
        return Accuracy(
            image_auroc=auroc(scores, labels),
            pixel_auroc=pixel_auroc(maps, masks) if has_defect else None,
            au_pro=au_pro(maps, masks) if has_defect else None,
            operating=operating_point(scores, labels, limits.image),
        )
