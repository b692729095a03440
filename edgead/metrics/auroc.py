"""Area under the ROC curve, exact, of image scores and of pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from edgead.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


def auroc(scores: npt.ArrayLike, labels: npt.ArrayLike) -> float | None:
    """Probability that an anomalous sample scores above a good one, equal scores counted as one half.

    This is the Mann-Whitney U statistic with midranks over the number of pairs, equal to the trapezoid area
    of the ROC curve over all thresholds. Counts are integers: exact up to the last division.

    Args:
        scores: (N,) higher = more anomalous; infinities are in order.
        labels: (N,) 0 good, 1 anomalous.

    Returns:
        Between 0 and 1; None where one of the classes has no sample.

    Raises:
        InputError: a score is NaN, or there are not as many labels as scores.
    """
    import numpy as np

    values = checked_scores(scores)
    anomalous = checked_labels(labels, values)
    return _area(np.sort(values[~anomalous]), np.sort(values[anomalous]))


def pixel_auroc(
    maps: Sequence[npt.NDArray[np.floating[Any]]], masks: Sequence[npt.NDArray[np.bool_]]
) -> float | None:
    """`auroc` over all pixels of all images.

    Args:
        maps: anomaly maps (H, W), higher = more anomalous; sizes may differ from image to image.
        masks: ground truth (H, W) bool, True = anomalous; all False for good images.

    Returns:
        Between 0 and 1; None where no pixel, or every pixel, is anomalous.

    Raises:
        InputError: a map holds NaN, or masks and maps do not match in number or shape.
    """
    import numpy as np

    check_maps(maps, masks)
    if not len(maps):
        return None
    good = np.concatenate([values[~mask] for values, mask in zip(maps, masks, strict=True)])
    anomalous = np.concatenate([values[mask] for values, mask in zip(maps, masks, strict=True)])
    good.sort()
    anomalous.sort()
    return _area(good, anomalous)


def checked_scores(scores: npt.ArrayLike) -> npt.NDArray[np.floating[Any]]:
    """`scores` as a flat float array.

    Raises:
        InputError: a score is NaN.
    """
    import numpy as np

    values = np.asarray(scores).ravel()
    if values.dtype.kind != "f":
        values = values.astype(np.float64)
    bad = np.flatnonzero(np.isnan(values))
    if bad.size:
        raise InputError(
            f"{bad.size} of {values.size} scores are NaN, the first at index {bad[0]}: "
            "the engine failed on them"
        )
    return values


def checked_labels(labels: npt.ArrayLike, scores: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.bool_]:
    """`labels` as a flat bool array, True = anomalous, one per score.

    Raises:
        InputError: another number of labels than of scores, or a label that is not 0 or 1.
    """
    import numpy as np

    values = np.asarray(labels).ravel()
    if values.size != scores.size:
        raise InputError(f"{values.size} labels for {scores.size} scores: give one label per score")
    if not np.isin(values, (0, 1)).all():
        raise InputError(f"labels must be 0 (good) or 1 (anomalous), found {np.unique(values)[:5].tolist()}")
    return values.astype(np.bool_)


def check_maps(maps: Sequence[npt.NDArray[np.floating[Any]]], masks: Sequence[npt.NDArray[np.bool_]]) -> None:
    """Check that every map has a mask of its shape and no NaN.

    Raises:
        InputError: it is not so; names the first image that does not fit.
    """
    import numpy as np

    if len(maps) != len(masks):
        raise InputError(f"{len(maps)} anomaly maps, {len(masks)} masks: give one mask per map")
    for index, (values, mask) in enumerate(zip(maps, masks, strict=True)):
        if values.shape != mask.shape or mask.dtype != np.bool_:
            raise InputError(
                f"anomaly map {index} is {values.dtype} {values.shape}, its mask {mask.dtype} {mask.shape}: "
                "the mask must be bool and of the map's shape"
            )
        if np.isnan(values).any():
            raise InputError(f"anomaly map {index} holds NaN: the engine failed on this image")


def _area(good: npt.NDArray[np.floating[Any]], anomalous: npt.NDArray[np.floating[Any]]) -> float | None:
    """Exact area from the two sorted samples: the smaller one is looked up in the larger one."""
    import numpy as np

    pairs = good.size * anomalous.size
    if not pairs:
        return None
    few, many = (anomalous, good) if anomalous.size <= good.size else (good, anomalous)
    below = np.searchsorted(many, few, side="left").sum(dtype=np.int64)
    not_above = np.searchsorted(many, few, side="right").sum(dtype=np.int64)
    share = (int(below) + int(not_above)) / (2 * pairs)  # of pairs in which `few` has the higher value
    return share if few is anomalous else (2 * pairs - int(below) - int(not_above)) / (2 * pairs)
