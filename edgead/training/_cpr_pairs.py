"""Which positions of two images should have similar descriptors, and which should not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[np.float32]

# Of the grid's side: how far a position's foreground counts around it.
_SMOOTHING = 1 / 25


@dataclass(frozen=True, slots=True)
class Pairs:
    """Pairs of positions in a query and a reference, (n, 2) as (x, y) in −1 … 1 between the outer edges.

    Rows beyond those that were found are 0, and so is their weight, (n,).

    Attributes:
        positive: where both images are normal: the same place in both.
        remote_query, remote_reference: places far from each other.
        anomalous: where the query is anomalous: the same place in both.
    """

    positive: Array
    positive_weight: Array
    remote_query: Array
    remote_reference: Array
    remote_weight: Array
    anomalous: Array
    anomalous_weight: Array


def draw_pairs(
    mask: npt.NDArray[np.bool_],
    likely: Array | None,
    *,
    count: int,
    reach: float,
    random: np.random.Generator,
) -> Pairs:
    """Draw at most `count` pairs of each kind.

    Args:
        mask: (H, W), where the query is anomalous.
        likely: (H, W) ≥ 0, how likely a normal place is drawn; None = each alike.
        count: of each kind.
        reach: distance in pixels above which a place is remote.
        random: draws.
    """
    height, width = mask.shape
    normal, anomalous = np.flatnonzero(~mask), np.flatnonzero(mask)
    # Twice as many as wanted, since some of the random places will be near.
    drawn = _without_repetition(normal, None if likely is None else likely.ravel()[normal], 2 * count, random)
    others = random.choice(mask.size, len(drawn), replace=False, shuffle=True)
    apart = np.hypot(others // width - drawn // width, others % width - drawn % width) > reach
    anomalous = random.permutation(anomalous)[:count]
    size = (height, width)
    positive, positive_weight = _padded(drawn[:count], size, count)
    remote_query, remote_weight = _padded(others[apart][:count], size, count)
    remote_reference, _ = _padded(drawn[apart][:count], size, count)
    return Pairs(
        positive,
        positive_weight,
        remote_query,
        remote_reference,
        remote_weight,
        *_padded(anomalous, size, count),
    )


def likelihood(query: Array, reference: Array, size: tuple[int, int]) -> Array:
    """Where the object is in either image: (H, W) in 0 … 1.

    Args:
        query: (h, w) foreground of the image that the query was made of, 0 … 1.
        reference: likewise.
        size: (H, W).
    """
    return np.maximum(*(_sharpened(shown, size) for shown in (query, reference)))


def _sharpened(shown: Array, size: tuple[int, int]) -> Array:
    """Smoothed, so that an object has no holes, and driven toward 0 and 1."""
    smooth = cv2.GaussianBlur(shown, (0, 0), len(shown) * _SMOOTHING, borderType=cv2.BORDER_REFLECT)
    sharp = 1 / (1 + np.exp(5 - 10 * smooth))
    return np.asarray(cv2.resize(sharp, size[::-1], interpolation=cv2.INTER_LINEAR), np.float32)


def _without_repetition(
    places: npt.NDArray[np.intp], weights: Array | None, count: int, random: np.random.Generator
) -> npt.NDArray[np.intp]:
    """`count` of `places`, or all, in random order; a place of weight 0 comes last."""
    if weights is None:
        return random.permutation(places)[:count]
    # Efraimidis and Spirakis (2006): the largest log(u) / w are a weighted sample without repetition.
    keys = np.log(1 - random.random(len(places))) / np.maximum(weights.astype(np.float64), 1e-12)
    return places[np.argsort(-keys, kind="stable")[:count]]


def _padded(places: npt.NDArray[np.intp], size: tuple[int, int], count: int) -> tuple[Array, Array]:
    """Pixel centres (count, 2) as `Pairs` has them, and weights (count,)."""
    height, width = size
    points, weight = np.zeros((count, 2), np.float32), np.zeros(count, np.float32)
    points[: len(places), 0] = (2 * (places % width) + 1) / width - 1
    points[: len(places), 1] = (2 * (places // width) + 1) / height - 1
    weight[: len(places)] = 1
    return points, weight
