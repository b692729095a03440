"""What CPR learns of good images without gradients: vocabulary, foreground, and who resembles whom.

scikit-learn does the clustering and the discriminant analysis; a MODEL holds their numbers, so it is needed
here only. One thread at a time adds up, so that a seed gives the same bits.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from edgead.detectors._cpr_networks import histogram_distances
from edgead.errors import DatasetError
from edgead.progress import Progress
from edgead.training._features import CACHE_BYTES
from edgead.training._seeds import derive, generator

if TYPE_CHECKING:
    import numpy.typing as npt

    from edgead.detectors.cpr import Cpr

_VECTORS = 50_000
_STARTS = 10
_BATCH = 4
# Of the side: the frame that shows the background, and half of the centre box that shows the object.
_FRAME, _CENTRE = 3 / 80, 1 / 5
_CANDIDATES = 60_000
_EACH_SIDE = 15_000
_CLIPPED = 0.01
_LEAST_EACH_SIDE = 32


class FineFeatures:
    """The finer tap of many images, in memory where they fit, else made again at each pass.

    Args:
        detector: its backbone is used, on the device where it is.
        images: (N, H, W, 3) uint8 RGB.
        progress: a bar for each pass of the backbone.
        budget: bytes that all features together may take to be kept.
    """

    def __init__(
        self,
        detector: Cpr,
        images: npt.NDArray[np.uint8],
        *,
        progress: Progress,
        budget: int = CACHE_BYTES,
    ) -> None:
        self._detector, self._images, self._progress = detector, images, progress
        self.count, self.grid = len(images), detector.grids[0]
        self._cells = self.grid[0] * self.grid[1]
        size = 4 * self.count * self._cells * detector.centres.shape[1]
        self._kept: list[Tensor] | None = [] if size <= budget else None

    def __iter__(self) -> Iterator[Tensor]:
        """(C, h, w) float32 on the CPU, image by image."""
        if self._kept is not None and len(self._kept) == self.count:
            yield from self._kept
            return
        device = self._detector.centres.device
        made: list[Tensor] = []
        with self._progress.task("features", self.count) as task, torch.no_grad():
            for start in range(0, self.count, _BATCH):
                pixels = torch.from_numpy(self._images[start : start + _BATCH]).to(device)
                for features in self._detector.features(pixels)[0].float().cpu():
                    if self._kept is not None:
                        made.append(features)
                    yield features
                    task.advance()
        if self._kept is not None:
            self._kept = made

    def sample(self, seed: int) -> npt.NDArray[np.float32]:
        """At most 50,000 vectors (n, C), drawn from all positions of all images without repetition."""
        drawn = torch.randperm(self.count * self._cells, generator=generator(seed, "vectors"))[:_VECTORS]
        owner, place = drawn // self._cells, drawn % self._cells
        found = [features.flatten(1).T[place[owner == index]].numpy() for index, features in enumerate(self)]
        return np.concatenate(found)


def cluster(vectors: npt.NDArray[np.float32], clusters: int, seed: int) -> npt.NDArray[np.float32]:
    """k-means with ten starts: (clusters, C) centres.

    Raises:
        DatasetError: fewer different vectors than clusters.
    """
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits

    different = len(np.unique(vectors, axis=0))
    if different < clusters:
        raise DatasetError(
            f"the good images show only {different} different surroundings, {clusters} are told apart: they "
            "are blank; check the images and the region of interest"
        )
    with threadpool_limits(1):
        means = KMeans(clusters, n_init=_STARTS, random_state=derive(seed, "k-means") % 2**32).fit(vectors)
    return np.asarray(means.cluster_centers_, np.float32)


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


def fit_foreground(
    features: FineFeatures, vectors: npt.NDArray[np.float32], *, seed: int, least: float = 0.0
) -> Foreground:
    """Tell object from background, given that the object is in the middle (the paper's scheme).

    Two clusters; the one that covers most of the frame is the background. A discriminant analysis of the
    frame's background against the centre's other cluster, scaled to 0 … 1 between the 1 % lowest and the 1 %
    highest values of all positions of all images.

    Args:
        features: of the images to train on.
        vectors: (n, C) of `FineFeatures.sample`.
        seed: of every random choice.
        least: separation below which no map is made.
    """
    centres = cluster(vectors, 2, seed)
    random = np.random.default_rng(derive(seed, "foreground"))
    each = math.ceil(_CANDIDATES / features.count)
    counts = np.zeros((2, 2))  # region × cluster
    kept: list[list[npt.NDArray[np.float32]]] = [[], []]
    for tap in features:
        rows = tap.flatten(1).T.numpy()
        for region, mask in enumerate(regions(features.grid)):
            inside = rows[mask.ravel()]
            counts[region] += np.bincount(_nearest(inside, centres), minlength=2)
            kept[region].append(inside[random.permutation(len(inside))[:each]])
    background = int(counts[0].argmax())
    shares = counts[:, background] / counts.sum(1)
    separation = float(shares[0] - shares[1])
    around, inside = (np.concatenate(parts) for parts in kept)
    around = around[_nearest(around, centres) == background]
    inside = inside[_nearest(inside, centres) != background]
    count = min(_EACH_SIDE, len(around), len(inside))
    if separation < least or count < _LEAST_EACH_SIDE:
        return Foreground(separation)
    weight, bias = _discriminant(*(side[random.permutation(len(side))[:count]] for side in (around, inside)))
    values = torch.cat([(weight @ tap.flatten(1).double() + bias).float() for tap in features])
    low, high = clipped_range(values)
    if not high > low:
        return Foreground(separation)
    return Foreground(separation, weight / (high - low), (bias - low) / (high - low))


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


def neighbours(histograms: Tensor, kept: int, nearest: int) -> Tensor:
    """The images that resemble each image most, without itself: (N, min(nearest, N − 1)) int64, best first.

    Args:
        histograms: (N, blocks, clusters).
        kept: blocks that count per comparison.
        nearest: how many.
    """
    rows = []
    for index, query in enumerate(histograms):
        distances = histogram_distances(query, histograms, kept)
        distances[index] = torch.inf
        rows.append(distances.topk(min(nearest, len(histograms) - 1), largest=False).indices)
    return torch.stack(rows)


def spread_out(histograms: Tensor, count: int, seed: int) -> list[int]:
    """A coreset: greedy k-centre on the roots of the frequencies (Hellinger's distance), ascending indices.

    The first one is drawn, each further one is the farthest from all that were chosen.
    """
    points = histograms.flatten(1).sqrt()
    chosen = [int(torch.randint(len(points), (), generator=generator(seed, "coreset")))]
    nearest = torch.cdist(points, points[chosen]).squeeze(1)
    while len(chosen) < min(count, len(points)):
        nearest[chosen] = -1.0  # also where images are alike
        chosen.append(int(nearest.argmax()))
        nearest = torch.minimum(nearest, torch.cdist(points, points[chosen[-1:]]).squeeze(1))
    return sorted(chosen)
