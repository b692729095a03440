"""Thresholds in raw units: from good images alone, or from labelled images; each says how sure it is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgead.calibration.binomial import rate_lower_bound, rate_upper_bound
from edgead.errors import DatasetError, UsageError
from edgead.metrics.auroc import checked_labels, checked_scores
from edgead.metrics.cut import just_above, midway
from edgead.metrics.f1 import Operating, max_f1, operating_point

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

DEFAULT_FALSE_POSITIVE_RATE = 0.01
_TAIL_SHARE = 0.25
_NO_SPREAD_SHARE = 0.01
_NO_SPREAD_LEAST = 1e-6
_NEAR = 40


@dataclass(frozen=True, slots=True)
class Choice:
    """A threshold and how it came about.

    Attributes:
        threshold: raw units, above `good_median`, exact in float32 for float32 scores; `score >= threshold`
            is anomalous.
        good_median: median of the good scores.
        method: JSON values: ``rule``, ``images``, the figures of the rule, and ``text``, a sentence.
    """

    threshold: float
    good_median: float
    method: dict[str, object]


def check_rate(false_positive_rate: float) -> None:
    """Raise `UsageError` for a false-positive rate that is out of range, before work is spent on it."""
    if not 0 < false_positive_rate < 0.5:
        raise UsageError(
            f"false-positive rate {false_positive_rate} must be above 0 and below 0.5, for instance 0.01"
        )


def check_recall(recall: float) -> None:
    """Raise `UsageError` for a recall that is out of range, before work is spent on it."""
    if not 0 < recall <= 1:
        raise UsageError(f"recall {recall} must be above 0 and at most 1, for instance 0.99")


def from_good(scores: npt.ArrayLike, *, false_positive_rate: float = DEFAULT_FALSE_POSITIVE_RATE) -> Choice:
    """Choose the threshold from good images alone, none of which was trained on.

    Of n scores, k = floor(n·rate) may lie at or above the threshold:

    - k ≥ 1, rule ``good_quantile``: midway between the (k+1)-th highest score and the next higher one.
    - k = 0, too few images to see such a rate, rule ``above_highest_good``: highest + β·ln(1/(n·rate)), β =
      mean excess of the highest quarter over the score below it. For an exponential tail this is the step
      from rate 1/n to the one asked for. With 40 images and a rate of 1 % the true rate was 0.8 to 1.3 % on
      average over simulated normal, exponential, log-normal, Gumbel and Student-t scores; the bare highest
      score gives 2.4 %.
    - all scores equal (so for n = 1), rule ``no_spread``: 1 % of its magnitude above it, a mere guess.

    `method` also holds ``good_above``, the images at or above the threshold, ``rate_expected_at_most`` =
    (good_above + 1)/(n + 1), and ``rate_upper_95``, the one-sided 95 % Clopper-Pearson bound of the true
    rate: exact for a threshold at an order statistic of independent scores, on the safe side above it.

    Args:
        scores: (n,) raw scores, higher = more anomalous, finite.
        false_positive_rate: wanted share of good images called anomalous, above 0 and below 0.5. The default
            of 1 % is what 40 held-out images carry with the rule above, and a line can sort by hand.

    Raises:
        UsageError: the rate is out of range.
        InputError: a score is NaN.
        DatasetError: no score, or an infinite one.
    """
    import numpy as np

    check_rate(false_positive_rate)
    ordered = np.sort(_finite(scores))
    count = int(ordered.size)
    highest = float(ordered[-1])
    lower = float(ordered[count - 1 - int(count * false_positive_rate + 1e-9)])
    above = int((ordered > lower).sum())
    if ordered[0] == highest:
        rule = "no_spread"
        threshold = just_above(highest + max(_NO_SPREAD_SHARE * abs(highest), _NO_SPREAD_LEAST), highest)
        text = f"1 % above the one score of all {count} good images; not supported by any spread"
    elif above:
        rule, threshold = "good_quantile", midway(lower, float(ordered[count - above]))
        text = f"{above} of {count} good images at or above it"
    else:
        rule = "above_highest_good"
        tail = math.ceil(_TAIL_SHARE * count)
        excess = float(ordered[-tail:].mean(dtype=np.float64)) - float(ordered[-tail - 1])
        step = max(math.log(1 / (count * false_positive_rate)), 0.0)
        threshold = just_above(highest + step * excess, highest)
        text = (
            f"above the highest of {count} good images by {step:.2f} times the mean excess of the top quarter"
        )
    method = {"rule": rule, **_good_method(text, above, count, false_positive_rate)}
    return Choice(threshold, float(np.median(ordered)), method)


def carried_over(
    limit: float,
    before: npt.ArrayLike,
    after: npt.ArrayLike,
    *,
    good: int,
    false_positive_rate: float = DEFAULT_FALSE_POSITIVE_RATE,
) -> Choice:
    """The threshold of an engine of reduced precision that decides as its reference does at `limit`.

    A threshold of its own (`from_good`) hangs on the one or two highest good scores, and so on how these
    happened to be rounded. The reference's, moved by the median shift of the `_NEAR` images whose scores are
    nearest to it, averages the rounding; rule ``carried_over``. Where that is not above the median good
    score, the engine's scores have no more to do with the reference's, and `from_good` decides.

    Args:
        limit: the reference's threshold.
        before: (n,) the reference's raw scores: good images first, then any others.
        after: (n,) the engine's, of the same images; pairs that are not finite are left aside.
        good: how many of them are of held-out good images.
        false_positive_rate: as for `from_good`, what `limit` was chosen for.

    Raises:
        As `from_good`, of the good images' scores after.
    """
    import numpy as np

    one, two = (np.asarray(values, np.float64) for values in (before, after))
    own = from_good(two[:good], false_positive_rate=false_positive_rate)
    finite = np.flatnonzero(np.isfinite(one) & np.isfinite(two))
    near = finite[np.argsort(np.abs(one[finite] - limit), kind="stable")[:_NEAR]]
    threshold = limit + float(np.median((two - one)[near])) if near.size else limit
    if threshold <= own.good_median:
        return own
    threshold = just_above(threshold, own.good_median)
    above = int((two[:good] >= threshold).sum())
    text = (
        f"the MODEL's, moved by the median shift of the {near.size} images with the nearest scores; "
        f"{above} of {good} good images at or above it"
    )
    method = {"rule": "carried_over", **_good_method(text, above, good, false_positive_rate)}
    return Choice(threshold, own.good_median, method)


def _good_method(text: str, above: int, count: int, false_positive_rate: float) -> dict[str, object]:
    bound = rate_upper_bound(above, count)
    return {
        "images": count,
        "false_positive_rate": false_positive_rate,
        "quantile": 1 - false_positive_rate,
        "good_above": above,
        "rate_expected_at_most": (above + 1) / (count + 1),
        "rate_upper_95": bound,
        "text": f"{text}; asked for a false-positive rate of {false_positive_rate:.2%}; "
        f"if the line's good parts are like these images, the true rate is below {bound:.1%} "
        "with 95 % confidence",
    }


def from_labelled(
    scores: npt.ArrayLike, labels: npt.ArrayLike, *, good_median: float, recall: float | None = None
) -> Choice:
    """Choose the threshold from labelled validation images (never the test images).

    Args:
        scores: (n,) raw scores, finite.
        labels: (n,) 0 good, 1 anomalous; at least one anomalous.
        good_median: median of held-out good images; the threshold stays above it.
        recall: None = highest F1; else the highest threshold, midway between neighbouring scores, that finds
            at least this share of the anomalous images, 0 < recall ≤ 1.

    Raises:
        UsageError: `recall` is out of range.
        InputError: a score is NaN, or labels and scores do not match.
        DatasetError: no anomalous image, an infinite score, or the goal cannot be reached above
            `good_median`: half of the good images would be called anomalous.
    """
    import numpy as np

    if recall is not None:
        check_recall(recall)
    values = _finite(scores)
    anomalous = checked_labels(labels, values)
    positives = int(anomalous.sum())
    if recall is None:
        point = max_f1(values, anomalous, above=good_median)
    else:
        if not positives:
            raise DatasetError(
                f"none of {values.size} labelled images is anomalous: recall needs some defects"
            )
        needed = math.ceil(recall * positives - 1e-9)
        upper = float(np.sort(values[anomalous])[positives - needed])
        below = values[values < upper]
        lower = max(float(below.max()) if below.size else good_median, good_median)
        if upper <= good_median:
            raise DatasetError(
                f"recall {recall} needs a threshold of {upper:.6g}, not above the median good score "
                f"{good_median:.6g}: half of the good images would be called anomalous; ask for a lower "
                "recall, or train a better detector"
            )
        point = operating_point(values, anomalous, midway(lower, upper))
    return Choice(point.threshold, good_median, _labelled_method(point, values.size, positives, recall))


def _labelled_method(point: Operating, images: int, positives: int, goal: float | None) -> dict[str, object]:
    found = round((point.recall or 0.0) * positives)
    bound = rate_lower_bound(found, positives)
    wanted = "the highest F1" if goal is None else f"a recall of {goal:.2%}"
    result: dict[str, Any] = {
        "rule": "max_f1" if goal is None else "recall",
        "images": images,
        "anomalous": positives,
        "precision": point.precision,
        "recall": point.recall,
        "recall_lower_95": bound,
        "f1": point.f1,
        "false_positive_rate": point.false_positive_rate,
        "text": f"{wanted} on {images} labelled images: finds {found} of {positives} anomalous, precision "
        f"{point.precision:.2%}; the true recall is above {bound:.1%} with 95 % confidence",
    }
    return result if goal is None else result | {"recall_asked": goal}


def _finite(scores: npt.ArrayLike) -> npt.NDArray[np.floating[Any]]:
    import numpy as np

    values = checked_scores(scores)
    if not values.size:
        raise DatasetError("no scores to choose a threshold from: give at least one image")
    if not np.isfinite(values).all():
        raise DatasetError(
            f"{int((~np.isfinite(values)).sum())} of {values.size} scores are infinite: the engine overflowed"
        )
    return values
