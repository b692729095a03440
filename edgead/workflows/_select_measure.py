"""How fast an untrained network is, and how well a trained one tells good frames from anomalous ones."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgead.bundle.manifest import created_by, utc_now
from edgead.bundle.reader import open_bundle
from edgead.calibration.synthetic_defects import KINDS, STRENGTHS, paint
from edgead.data.folder import ImageItem, labelled_images
from edgead.data.split import ranked
from edgead.detectors._presets import PRESETS
from edgead.discovery import load as load_plugin
from edgead.errors import EngineError
from edgead.imaging.frame import read_image
from edgead.imaging.preprocess import Preprocess
from edgead.metrics.auroc import auroc
from edgead.progress import Progress, Silent
from edgead.runtimes.session import Session
from edgead.types import Geometry, Target
from edgead.workflows._images import load_pixels
from edgead.workflows._select_candidates import Network
from edgead.workflows._sides import score_side
from edgead.workflows.bench import bench
from edgead.workflows.export import export

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from edgead.benchmarks.report import BenchReport

_TRIAL_IMAGES = 12
_TRIAL_SECONDS = 4.0
_HOPELESS = 100  # times the budget that torch may take: engines were at most some 15 times as fast here
_JUDGED = 60  # held-out images


@dataclass(frozen=True, slots=True)
class Trial:
    """An untrained network, measured.

    Attributes:
        pass_s: one image in torch, seconds.
        latency: target → its report; empty where the network is hopeless.
        hopeless: why no engine was tried.
    """

    pass_s: float
    latency: dict[str, BenchReport]
    hopeless: str = ""


def latency_of(report: BenchReport) -> float | None:
    """The p99 in ms, or the p50 where the queries carry no p99; None without queries."""
    p99 = report.latency_ms["p99"]
    return p99 if p99 is not None else report.latency_ms["p50"]


def measure(bundle: Path, images: Sequence[Path], target: str, budget: str, **options: Any) -> BenchReport:
    """Bench one target against the budget.

    Raises:
        KeyboardInterrupt: Ctrl-C, which `bench` itself takes for the end of the run.
    """
    report = bench(bundle, images, target=Target.parse(target), p99=budget, **options)
    if not report.complete:
        raise KeyboardInterrupt
    return report


def trial(
    network: Network,
    targets: Sequence[str],
    images: Sequence[Path],
    *,
    total: int,
    budget: str,
    budget_s: float,
    work: Path,
    bit_depth: int | None,
    threads: int,
) -> Trial:
    """Lower, compile and bench `network` before it is trained, with a bank as large as it will be.

    Args:
        network: what.
        targets: in which engines.
        images: good ones, a few of which are used.
        total: images that it would be trained on.
        budget: of the p99, with its unit.
        budget_s: the same in seconds.
        work: an empty folder.
        bit_depth: of 16-bit files.
        threads: compute threads, 0 = the engine's choice.

    Raises:
        EdgeadError: the network cannot be built, filled, or compiled.
    """
    import torch

    from edgead.backbones._weights import no_downloads

    detector: Any = network.build().eval()
    preset = PRESETS[network.preset]
    training = load_plugin("edgead.training", preset["detector"], kind="training recipe")
    with no_downloads():
        training.load_frozen(detector, None, progress=Silent())
    few = [ImageItem(path) for path in images[:_TRIAL_IMAGES]]
    pixels = load_pixels(few, detector.geometry, progress=Silent(), name="", bit_depth=bit_depth).pixels
    if hasattr(training, "stand_in"):
        training.stand_in(detector, pixels, total, preset["training"])
    one = torch.from_numpy(pixels[:1])
    with torch.inference_mode():
        detector(one)
        begin = time.perf_counter()
        detector(one)
        pass_s = time.perf_counter() - begin
    if pass_s > _HOPELESS * budget_s:
        return Trial(pass_s, {}, f"one image takes {pass_s:.1f} s in torch, no engine is {_HOPELESS}× faster")
    bundle = export_untrained(
        detector,
        network.preset,
        [item.path for item in few],
        targets,
        work,
        bit_depth=bit_depth,
        threads=threads,
    )
    options: dict[str, Any] = {"threads": threads, "bit_depth": bit_depth, "seconds": _TRIAL_SECONDS}
    return Trial(pass_s, {name: measure(bundle, images, name, budget, **options) for name in targets})


def export_untrained(
    detector: Any,
    preset: str,
    images: Sequence[Path],
    targets: Sequence[str],
    work: Path,
    *,
    bit_depth: int | None = None,
    threads: int = 0,
) -> Path:
    """A bundle of a network as it is, whose engines are as quick as can be, right or not.

    Args:
        detector: the network.
        preset: its name.
        images: good ones, for thresholds and INT8 ranges.
        targets: in which engines.
        work: an empty folder, where the bundle will be.
        bit_depth: of 16-bit files.
        threads: compute threads, 0 = the engine's choice.

    Raises:
        EdgeadError: it cannot be compiled.
    """
    from edgead.detectors import model_file

    info = model_file.ModelInfo(
        detector=PRESETS[preset]["detector"],
        preset=preset,
        config=detector.config_dict(),
        provenance={"kind": "trial", "train_hashes": []},
        created=utc_now(),
        created_by=created_by(),
    )
    model, bundle, calib = work / "trial.model", work / "trial.edgead", work / "images"
    model_file.save(model, detector, info)
    calib.mkdir()
    for number, path in enumerate(images):
        _link(path, calib / f"{number:02}{path.suffix}")
    export(
        model,
        bundle,
        calib=calib,
        targets=targets,
        accept=True,
        int8_error=math.inf,  # what the layers of an untrained network cost says nothing
        bit_depth=bit_depth,
        threads=threads,
    )
    return bundle


def _link(source: Path, place: Path) -> None:
    try:
        place.symlink_to(source.resolve())
    except OSError:  # a file system without links
        shutil.copyfile(source, place)


@dataclass(frozen=True, slots=True)
class Judged:
    """Pixels to judge by, and which of them are compared.

    Attributes:
        pixels: (N, H, W, 3) uint8 RGB as the network sees them.
        labels: (N,) 0 good, 1 anomalous.
        groups: (N,) kind and strength of the synthetic defect, "" for good images; labelled ones are alike.
    """

    pixels: npt.NDArray[np.uint8]
    labels: tuple[int, ...]
    groups: tuple[str, ...]

    def accuracy(self, scores: npt.NDArray[np.float64]) -> float | None:
        """Mean over the groups of the AUROC of good images against the group; None without either."""
        good = [score for score, label in zip(scores, self.labels, strict=True) if not label]
        found = []
        for group in dict.fromkeys(g for g, label in zip(self.groups, self.labels, strict=True) if label):
            bad = [
                s
                for s, g, label in zip(scores, self.groups, self.labels, strict=True)
                if label and g == group
            ]
            found.append(auroc([*good, *bad], [0] * len(good) + [1] * len(bad)))
        known = [value for value in found if value is not None]
        return sum(known) / len(known) if known else None


def gather(
    geometry: Geometry,
    held_out: dict[str, ImageItem],
    validation: Path | None,
    *,
    bit_depth: int | None,
    progress: Progress,
) -> Judged:
    """What a network of `geometry` is judged by: labelled images, or held-out ones with synthetic defects.

    Args:
        geometry: of the network.
        held_out: content hash → good image that is not trained on.
        validation: MVTec-like root whose ``test`` is labelled; None = synthetic defects.
        bit_depth: of 16-bit files.
        progress: gets a bar.
    """
    import numpy as np

    if validation is not None:
        read = load_pixels(
            labelled_images(validation), geometry, bit_depth=bit_depth, progress=progress, name="labelled"
        )
        return Judged(read.pixels, tuple(item.label for item in read.items), ("",) * len(read.items))
    network, pixels, groups = Preprocess(geometry), [], []
    chosen = [held_out[name] for name in ranked(held_out, 0)[:_JUDGED]]
    with progress.task("synthetic defects", len(chosen)) as task:
        for number, item in enumerate(chosen):
            frame = read_image(item.path, bit_depth=bit_depth)
            rgb = Preprocess(Geometry(height=frame.height, width=frame.width))(frame)
            pixels.append(network(frame))
            groups.append("")
            for place, strength in enumerate(STRENGTHS):
                kind = KINDS[(number + place) % len(KINDS)]
                seed = number * len(STRENGTHS) + place
                pixels.append(network(_frame(paint(rgb, kind, strength, seed))))
                groups.append(f"{kind} {strength:g}")
            task.advance()
    return Judged(np.stack(pixels), tuple(int(bool(group)) for group in groups), tuple(groups))


def _frame(rgb: npt.NDArray[np.uint8]) -> Any:
    from edgead.imaging.frame import Frame

    return Frame(rgb, "RGB8")


def accuracy(bundle: Path, target: str, judged: Judged, *, threads: int, progress: Progress) -> float | None:
    """What the native runtime, where it can, makes of `judged`.

    Raises:
        EngineError: a score is not finite.
    """
    import numpy as np

    with open_bundle(bundle) as opened, Session.open(opened, target, threads=threads) as session:
        side = score_side(session, judged.pixels, progress=progress, name=f"judging {target}")
    if not np.isfinite(side.scores).all():
        raise EngineError(f"{target} gives no finite score for some images; it cannot be chosen")
    return judged.accuracy(side.scores)
