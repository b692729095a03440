"""Raw scores and map maxima of held-out good images through one engine, and the thresholds from them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgead.calibration.threshold import DEFAULT_FALSE_POSITIVE_RATE, from_good, from_labelled
from edgead.data.folder import ImageItem
from edgead.errors import DatasetError, EngineError, ImageError
from edgead.progress import Progress, Silent
from edgead.types import Thresholds


@dataclass(frozen=True, slots=True)
class MapStatistics:
    """What one engine says of a set of images, in raw units.

    Attributes:
        items: the images that could be read.
        scores: raw image score of each.
        map_maxima: highest value of each anomaly map, after the operator.
        skipped: images that could not be read, and why.
    """

    items: tuple[ImageItem, ...]
    scores: tuple[float, ...]
    map_maxima: tuple[float, ...]
    skipped: tuple[tuple[Path, str], ...] = ()


def collect(
    items: Sequence[ImageItem],
    score: Callable[[Path], tuple[float, float]],
    *,
    progress: Progress | None = None,
) -> MapStatistics:
    """Score each image once; images that cannot be read are skipped and named.

    Args:
        items: the images.
        score: file to (score_raw, map_max), through one engine and the pixel path of the device.
        progress: where to show progress.

    Raises:
        EngineError: the engine gave a NaN or infinite value for an image.
        DatasetError: no image could be read.
    """
    shown = progress or Silent()
    kept: list[ImageItem] = []
    values: list[tuple[float, float]] = []
    skipped: list[tuple[Path, str]] = []
    with shown.task("good images", len(items)) as task:
        for item in items:
            try:
                pair = score(item.path)
            except ImageError as err:
                skipped.append((item.path, str(err)))
                shown.say(f"skipped: {err}")
            else:
                if not all(map(math.isfinite, pair)):
                    raise EngineError(
                        f"{item.path}: the engine gave score {pair[0]}, map maximum {pair[1]}; this "
                        "precision or this graph does not work here, try fp32"
                    )
                kept.append(item)
                values.append(pair)
            task.advance()
    if not kept:
        why = f"; the first: {skipped[0][1]}" if skipped else ""
        raise DatasetError(f"none of {len(items)} calibration images could be read{why}")
    return MapStatistics(
        tuple(kept), tuple(pair[0] for pair in values), tuple(pair[1] for pair in values), tuple(skipped)
    )


def thresholds(
    good: MapStatistics,
    *,
    false_positive_rate: float = DEFAULT_FALSE_POSITIVE_RATE,
    labelled: MapStatistics | None = None,
    recall: float | None = None,
) -> Thresholds:
    """Limits of one target from its own scores of held-out good images.

    Args:
        good: held-out good images.
        false_positive_rate: wanted share of good images called NG (image threshold), and of good images with
            a region (pixel threshold: a quantile of the per-image map maximum).
        labelled: good and anomalous validation images; if given, the image threshold comes from them.
        recall: with `labelled`: find at least this share; None = highest F1.

    Raises:
        UsageError: a rate or recall is out of range.
        DatasetError: `labelled` cannot give a threshold above the median good score.
    """
    pixel = from_good(good.map_maxima, false_positive_rate=false_positive_rate)
    image = from_good(good.scores, false_positive_rate=false_positive_rate)
    highest = max(zip(good.scores, good.items, strict=True), key=lambda pair: pair[0])[1]
    method = image.method | {"highest_good": highest.path.name}
    if labelled is not None:
        labels = [item.label for item in labelled.items]
        image = from_labelled(labelled.scores, labels, good_median=image.good_median, recall=recall)
        method = image.method
    return Thresholds(
        image=image.threshold,
        pixel=pixel.threshold,
        image_median=image.good_median,
        pixel_median=pixel.good_median,
        method={"image": method, "pixel": pixel.method},
    )
