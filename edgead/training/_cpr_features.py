"""What CPR's backbone says of good images, and the clusters of it: the vocabulary of the global retrieval.

scikit-learn clusters; a MODEL holds the centres, so it is needed in training only.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

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
