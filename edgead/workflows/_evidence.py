"""The pixels that judge an export: held-out good images, labelled ones, and the golden images."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgead.bundle.manifest import GoldenKind
from edgead.calibration.calibration_set import held_out
from edgead.calibration.golden_images import choose, synthetic_defect
from edgead.calibration.map_statistics import MapStatistics, thresholds
from edgead.calibration.synthetic_defects import KINDS, paint_masked
from edgead.calibration.threshold import (
    DEFAULT_FALSE_POSITIVE_RATE,
    carried_over,
    check_rate,
    check_recall,
)
from edgead.data.folder import ImageItem, good_images, hash_items, labelled_images
from edgead.data.split import check_disjoint
from edgead.errors import UsageError
from edgead.metrics.au_pro import au_pro
from edgead.metrics.auroc import auroc
from edgead.progress import Progress
from edgead.types import Geometry, Thresholds
from edgead.workflows._gates import Defects
from edgead.workflows._images import Skipped, hash_readable, load_pixels
from edgead.workflows._sides import Side

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    import numpy as np
    import numpy.typing as npt

_GOLDEN = 2  # good images, and as many with a synthetic defect
_LOUD, _FIRST_DEFECT = 12, 1000  # good images that are judged with a defect that nobody misses; its seed
# Beside them, each kind at each strength twice: what an engine loses shows in faint ones first. Not the
# faintest of `STRENGTHS`, which most detectors miss.
_FAINT = tuple((kind, strength) for strength in (0.25, 0.5, 1.0) for kind in KINDS) * 2


@dataclass(frozen=True, slots=True, kw_only=True)
class ThresholdChoice:
    """How thresholds are chosen.

    Attributes:
        false_positive_rate: share of good images that may be called NG.
        validation: MVTec-like root whose ``test`` folders hold labelled images to choose the image threshold
            on. They are never test images: `verify` refuses them afterwards. None = good images alone.
        recall: with `validation`, the share of defects that must be found; None = highest F1.

    Raises:
        UsageError: a rate or recall is out of range, or a recall without `validation`.
    """

    false_positive_rate: float = DEFAULT_FALSE_POSITIVE_RATE
    validation: Path | None = None
    recall: float | None = None

    def __post_init__(self) -> None:
        check_rate(self.false_positive_rate)
        if self.recall is not None:
            check_recall(self.recall)
            if self.validation is None:
                raise UsageError(
                    "a recall needs validation images (--validation): only defects tell what is found"
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Images that every side of an export scores, in this order: good, labelled, golden, defects.

    Attributes:
        folder: every good image of the calibration folder, trained on or not, and its content hash.
        good: held-out good images.
        good_hashes: content hash of each.
        trained_on: images left aside because the MODEL was trained on them.
        labelled: validation images, often none.
        labelled_hashes: content hash of each.
        golden: kind of each golden image.
        defects: good images with a synthetic defect, which tell whether a reduced precision still tells them
            from good ones; 0 where none is wanted.
        masks: (H, W) bool of the last of the defects, the faint ones.
        pixels: (N, H, W, 3) uint8 RGB, all of them.
        skipped: images that could not be read.
    """

    folder: Mapping[ImageItem, str]
    good: tuple[ImageItem, ...]
    good_hashes: tuple[str, ...]
    trained_on: int
    labelled: tuple[ImageItem, ...]
    labelled_hashes: tuple[str, ...]
    golden: tuple[GoldenKind, ...]
    defects: int
    masks: tuple[npt.NDArray[np.bool_], ...]
    pixels: npt.NDArray[np.uint8]
    skipped: tuple[Skipped, ...]

    @property
    def golden_start(self) -> int:
        """Index of the first golden image in `pixels`."""
        return len(self.good) + len(self.labelled)

    @property
    def judged(self) -> int:
        """How many of `pixels` come before the defects."""
        return len(self.pixels) - self.defects

    def labelled_auroc(self, side: Side) -> float | None:
        """Image AUROC of a side on the labelled images; None without."""
        part = slice(len(self.good), self.golden_start)
        return auroc(side.scores[part], [item.label for item in self.labelled])

    def seen(self, side: Side) -> Defects:
        """How well a side tells the synthetic defects from the good images."""
        import numpy as np

        count = len(self.good)
        good, anomalous = side.scores[:count], side.scores[self.judged :]
        image = auroc([*good, *anomalous], [0] * count + [1] * len(anomalous))
        images = min(count, self.defects)
        if not self.masks:
            return Defects(image, None, images)
        clean = np.zeros_like(self.masks[0])
        maps = [*side.maps[:count], *side.maps[-len(self.masks) :]]
        return Defects(image, au_pro(maps, [clean] * count + list(self.masks)), images)

    def thresholds(self, side: Side, choice: ThresholdChoice) -> Thresholds:
        """Limits of one side from its own scores of these images; of an fp32 target, these are its limits."""
        labelled = self._statistics(side, self.labelled, len(self.good)) if self.labelled else None
        return thresholds(
            self._statistics(side, self.good, 0),
            false_positive_rate=choice.false_positive_rate,
            labelled=labelled,
            recall=choice.recall,
        )

    def carried_over(
        self, reference: Side, limits: Thresholds, side: Side, choice: ThresholdChoice
    ) -> Thresholds:
        """Limits of a reduced precision: its own, but for the image threshold, which is the reference's.

        One from labelled images is its own, too: what it promises is a share of the defects found.
        """
        own = self.thresholds(side, choice)
        if self.labelled:
            return own
        image = carried_over(
            limits.image,
            reference.scores,
            side.scores,
            good=len(self.good),
            false_positive_rate=choice.false_positive_rate,
        )
        known = own.method["image"]
        assert isinstance(known, dict)
        return replace(own, image=image.threshold, method=own.method | {"image": known | image.method})

    @staticmethod
    def _statistics(side: Side, items: tuple[ImageItem, ...], start: int) -> MapStatistics:
        part = slice(start, start + len(items))
        return MapStatistics(items, tuple(side.scores[part].tolist()), tuple(side.map_max[part].tolist()))


def gather(
    calib: Path,
    trained: Collection[str],
    choice: ThresholdChoice,
    geometry: Geometry,
    *,
    defects: bool = False,
    bit_depth: int | None,
    progress: Progress,
) -> Evidence:
    """Read what an export needs to judge its targets.

    Raises:
        DatasetError: no good image is left that the MODEL was not trained on, or a labelled image was.
    """
    import numpy as np

    items, item_hashes, unreadable = hash_readable(good_images(calib), progress)
    kept = held_out(items, item_hashes, trained=trained)
    good = load_pixels(
        kept.items, geometry, bit_depth=bit_depth, progress=progress, name="held-out good images"
    )
    hashes = dict(zip(kept.items, kept.hashes, strict=True))
    good_hashes = tuple(hashes[item] for item in good.items)
    parts, skipped = [good.pixels], unreadable + good.skipped
    labelled: tuple[ImageItem, ...] = ()
    labelled_hashes: tuple[str, ...] = ()
    if choice.validation is not None:
        read = load_pixels(
            labelled_images(choice.validation),
            geometry,
            bit_depth=bit_depth,
            progress=progress,
            name="labelled images",
        )
        labelled, labelled_hashes = read.items, hash_items(read.items)
        check_disjoint(
            {item.path: name for item, name in zip(labelled, labelled_hashes, strict=True)},
            {"train": trained, "held-out good images": good_hashes},
        )
        parts.append(read.pixels)
        skipped += read.skipped
    chosen = [good.pixels[index] for index in choose(good_hashes, count=_GOLDEN)]
    painted = [synthetic_defect(image, seed) for seed, image in enumerate(chosen)]
    kinds: list[GoldenKind] = ["good" for _ in chosen]
    kinds += ["synthetic_defect" for _ in painted]
    masks: list[npt.NDArray[np.bool_]] = []
    if defects:
        # Those of few good images more than once, with another defect each time.
        order = choose(good_hashes, count=_LOUD + len(_FAINT))
        sources = [good.pixels[order[place % len(order)]] for place in range(_LOUD + len(_FAINT))]
        painted += [
            synthetic_defect(image, seed) for seed, image in enumerate(sources[:_LOUD], _FIRST_DEFECT)
        ]
        for seed, (image, (kind, strength)) in enumerate(zip(sources[_LOUD:], _FAINT, strict=True)):
            shown, mask = paint_masked(image, kind, strength, seed)
            painted.append(shown)
            masks.append(mask)
    parts.append(np.stack([*chosen, *painted]).astype(np.uint8))
    return Evidence(
        folder=dict(zip(items, item_hashes, strict=True)),
        good=good.items,
        good_hashes=good_hashes,
        trained_on=kept.trained_on,
        labelled=labelled,
        labelled_hashes=labelled_hashes,
        golden=tuple(kinds),
        defects=len(painted) - len(chosen),
        masks=tuple(masks),
        pixels=np.concatenate(parts),
        skipped=skipped,
    )
