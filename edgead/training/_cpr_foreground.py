"""Where the object is in good images, learned from where it usually is: in the middle."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from edgead.errors import DatasetError, UsageError
from edgead.progress import Progress
from edgead.training._cpr_features import FineFeatures, cluster
from edgead.training._seeds import derive

if TYPE_CHECKING:
    import numpy.typing as npt

    from edgead.detectors.cpr import Cpr

Choice = Literal["auto", "on", "off"]
# Separations: an object for sure, and the least with which a foreground can be fitted at all. MVTec's bottle
# has 1.00, magnetic tiles have 0.07.
_OBJECT, _FITTABLE = 0.2, 0.1
# Of the side: the frame that shows the background, and half of the centre box that shows the object.
_FRAME, _CENTRE = 3 / 80, 1 / 5
_CLUSTERS = (2, 3)
_CANDIDATES = 60_000
_EACH_SIDE = 15_000
_LEAST_EACH_SIDE = 32
_CLIPPED = 0.01


@dataclass(frozen=True, slots=True)
class Foreground:
    """A linear map from feature vectors to the object.

    Attributes:
        separation: share of the frame that the background's cluster covers, less its share of the centre:
            1 = an object before an even background, 0 = a texture, which looks alike everywhere.
        weight, bias: (C,) and (): the object is clip(w·x + b, 0, 1); None where no such map can be made.
    """

    separation: float
    weight: Tensor | None = None
    bias: Tensor | None = None


def check_choice(choice: str) -> None:
    """Make sure that `choice` is one.

    Raises:
        UsageError: it is not.
    """
    if choice not in get_args(Choice):
        raise UsageError(f"--foreground {choice}: use {', '.join(get_args(Choice))}")


def set_foreground(
    detector: Cpr, features: FineFeatures, vectors: npt.NDArray[np.float32], choice: Choice, *, seed: int
) -> dict[str, Any]:
    """Fit the foreground of `detector`, or drop it.

    Args:
        detector: is changed.
        features: of the images to train on.
        vectors: (n, C) of `FineFeatures.sample`.
        choice: ``auto`` keeps a foreground only where it surely shows an object.
        seed: of every random choice.

    Returns:
        JSON values: ``used``, whether there is a foreground, and ``separation``, where it was measured.

    Raises:
        DatasetError: ``on``, and object and background cannot be told apart.
    """
    if choice == "off" or not detector.config.foreground:
        detector.drop_foreground()
        return {"used": False}
    least = _FITTABLE if choice == "on" else _OBJECT
    fitted = fit_foreground(features, vectors, seed=seed, least=least)
    if fitted.weight is not None and fitted.bias is not None:
        detector.foreground_weight.copy_(fitted.weight)
        detector.foreground_bias.copy_(fitted.bias)
        return {"used": True, "separation": fitted.separation}
    if choice == "on":
        raise DatasetError(
            "object and background of the good images cannot be told apart (separation "
            f"{fitted.separation:.2f} of 1, {_FITTABLE} is the least): the object must be in the middle, "
            "with background along the borders; leave out --foreground on"
        )
    detector.drop_foreground()
    return {"used": False, "separation": fitted.separation}


def tell(found: Mapping[str, Any], progress: Progress) -> None:
    """Say what `set_foreground` found."""
    what = "an object before a background" if found["used"] else "off, distances count everywhere"
    if "separation" in found:
        what += f" (separation {found['separation']:.2f} of 1, an object from {_OBJECT} on)"
    progress.say(f"foreground: {what}")


def fit_foreground(
    features: FineFeatures, vectors: npt.NDArray[np.float32], *, seed: int, least: float = 0.0
) -> Foreground:
    """Tell object from background, given that the object is in the middle: the paper's scheme, made surer.

    Two clusters; the one that covers most of the frame is the background. A discriminant analysis of the
    frame's background against the centre's other cells, scaled to 0 … 1 between the 1 % lowest and the 1 %
    highest values of all positions of all images. Two clusters can also part edges from even surfaces, nearly
    as tightly, by the luck of the draw; so three are tried as well, and the clusters that separate frame
    and centre best are taken.

    Args:
        features: of the images to train on.
        vectors: (n, C) of `FineFeatures.sample`.
        seed: of every random choice.
        least: separation below which no map is made.
    """
    random = np.random.default_rng(derive(seed, "foreground"))
    each = math.ceil(_CANDIDATES / features.count)
    kept: list[list[npt.NDArray[np.float32]]] = [[], []]
    for tap in features:
        rows = tap.flatten(1).T.numpy()
        for region, mask in enumerate(regions(features.grid)):
            cells = rows[mask.ravel()]
            kept[region].append(cells[random.permutation(len(cells))[:each]])
    frame, middle = (np.concatenate(parts) for parts in kept)
    separation, even_frame, even_middle = max(
        (_separation(frame, middle, cluster(vectors, count, seed)) for count in _CLUSTERS),
        key=lambda found: found[0],
    )
    around, inside = frame[even_frame], middle[~even_middle]
    count = min(_EACH_SIDE, len(around), len(inside))
    if separation < least or count < _LEAST_EACH_SIDE:
        return Foreground(separation)
    weight, bias = _discriminant(*(side[random.permutation(len(side))[:count]] for side in (around, inside)))
    values = torch.cat([(weight @ tap.flatten(1).double() + bias).float() for tap in features])
    low, high = clipped_range(values)
    if not high > low:
        return Foreground(separation)
    return Foreground(separation, weight / (high - low), (bias - low) / (high - low))


def _separation(
    frame: npt.NDArray[np.float32], middle: npt.NDArray[np.float32], centres: npt.NDArray[np.float32]
) -> tuple[float, npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """`Foreground.separation`, and which rows of frame and centre are of the background's cluster."""
    codes = [_nearest(rows, centres) for rows in (frame, middle)]
    background = np.bincount(codes[0], minlength=len(centres)).argmax()
    in_frame, in_middle = (code == background for code in codes)
    return float(in_frame.mean() - in_middle.mean()), in_frame, in_middle


def regions(grid: tuple[int, int]) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """(h, w) masks of the frame, 3/80 of the side wide, and of the centre, 2/5 of each side."""
    frame, middle = np.ones(grid, np.bool_), np.zeros(grid, np.bool_)
    borders = [max(1, int(_FRAME * side)) for side in grid]
    frame[borders[0] : -borders[0], borders[1] : -borders[1]] = False
    rows, cols = (slice(int(side / 2 - side * _CENTRE), int(side / 2 + side * _CENTRE)) for side in grid)
    middle[rows, cols] = True
    return frame, middle


def clipped_range(values: Tensor) -> tuple[float, float]:
    """Least and largest value without the lowest and the highest 1 %."""
    ordered = values.sort().values
    cut = max(1, int(len(ordered) * _CLIPPED))
    return float(ordered[cut - 1]), float(ordered[-cut])


def _nearest(rows: npt.NDArray[np.float32], centres: npt.NDArray[np.float32]) -> npt.NDArray[np.intp]:
    """The nearest centre of each row."""
    return np.asarray((rows @ centres.T - np.square(centres).sum(1) / 2).argmax(1), np.intp)


def _discriminant(
    background: npt.NDArray[np.float32], shown: npt.NDArray[np.float32]
) -> tuple[Tensor, Tensor]:
    """Weights (C,) and bias (), float64: above 0 on the side of `shown`."""
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from threadpoolctl import threadpool_limits

    sides = np.repeat([0, 1], [len(background), len(shown)])
    with threadpool_limits(1):
        fitted = LinearDiscriminantAnalysis().fit(
            np.concatenate([background, shown]).astype(np.float64), sides
        )
    return torch.from_numpy(fitted.coef_[0].copy()), torch.tensor(float(fitted.intercept_[0])).double()
