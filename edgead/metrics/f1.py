"""Precision and recall at a threshold, and the threshold of the highest F1."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgead.errors import DatasetError
from edgead.metrics.auroc import checked_labels, checked_scores
from edgead.metrics.cut import midway

if TYPE_CHECKING:
    import numpy.typing as npt


@dataclass(frozen=True, slots=True, kw_only=True)
class Operating:
    """What a threshold does on labelled samples: `score >= threshold` is called anomalous.

    Attributes:
        threshold: raw score.
        precision: of what is called anomalous, the share that is; 1 where nothing is.
        recall: of the anomalous, the share that is called so; None without anomalous samples.
        false_positive_rate: of the good, the share that is called anomalous; None without good samples.
        f1: 2·TP/(2·TP + FP + FN); 0 where nothing is found.
    """

    threshold: float
    precision: float
    recall: float | None
    false_positive_rate: float | None
    f1: float


def operating_point(scores: npt.ArrayLike, labels: npt.ArrayLike, threshold: float) -> Operating:
    """Precision, recall and F1 of `threshold`.

    Raises:
        InputError: a score is NaN, or there are not as many labels as scores.
    """
    values = checked_scores(scores)
    anomalous = checked_labels(labels, values)
    called = values >= threshold
    found, positives = int((called & anomalous).sum()), int(anomalous.sum())
    false, negatives = int((called & ~anomalous).sum()), int((~anomalous).sum())
    return Operating(
        threshold=float(threshold),
        precision=found / (found + false) if found + false else 1.0,
        recall=found / positives if positives else None,
        false_positive_rate=false / negatives if negatives else None,
        f1=2 * found / (positives + found + false) if positives + found + false else 0.0,
    )


def max_f1(scores: npt.ArrayLike, labels: npt.ArrayLike, *, above: float = -math.inf) -> Operating:
    """The threshold of the highest F1, midway between neighbouring scores.

    Of several with the same F1 it is the lowest: the one that misses fewest. Where calling every sample
    anomalous is best, the threshold is the lowest score.

    Args:
        scores: (N,) higher = more anomalous.
        labels: (N,) 0 good, 1 anomalous.
        above: only thresholds above this value are considered.

    Raises:
        InputError: a score is NaN, or there are not as many labels as scores.
        DatasetError: no sample is anomalous, or none scores above `above`.
    """
    import numpy as np

    values = checked_scores(scores)
    anomalous = checked_labels(labels, values)
    if not anomalous.any():
        raise DatasetError(f"none of {values.size} labelled images is anomalous: F1 needs some defects")
    distinct, place = np.unique(values, return_inverse=True)
    found = np.cumsum(np.bincount(place, anomalous)[::-1])[::-1]
    called = np.cumsum(np.bincount(place)[::-1])[::-1]
    f1 = 2 * found / (called + int(anomalous.sum()))
    f1[distinct <= above] = -1.0
    best = int(np.argmax(f1))
    if not f1[best] > 0:
        raise DatasetError(f"no anomalous image scores above {above:.6g}, the least that a threshold must be")
    upper = float(distinct[best])
    lower = max(float(distinct[best - 1]) if best else -math.inf, above)
    return operating_point(values, anomalous, midway(lower, upper) if lower > -math.inf else upper)
