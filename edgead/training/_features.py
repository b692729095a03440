"""Patch vectors of many images: kept in memory where they fit, else made again batch by batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from edgead.progress import Progress

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from edgead.detectors.simplenet import SimpleNet

CACHE_BYTES = 2 << 30
_CHUNK = 8
# Images per sample where features do not stay in memory: enough that a batch is no single scene.
_SAMPLED_IMAGES = 16


class PatchFeatures:
    """What a SimpleNet's frozen part makes of `pixels`.

    Args:
        detector: its backbone and embedding are used, its heads are not.
        pixels: (N, H, W, 3) uint8 RGB.
        budget: bytes that all patch vectors together may take; above it they are computed per batch.
    """

    def __init__(
        self,
        detector: SimpleNet,
        pixels: npt.NDArray[np.uint8],
        *,
        progress: Progress,
        name: str,
        budget: int = CACHE_BYTES,
    ) -> None:
        self._detector = detector
        self._pixels = pixels
        self.count = len(pixels)
        self.dim = detector.config.embedding_dim
        self._patches = detector.grid[0] * detector.grid[1]
        self._cache: Tensor | None = None
        if 4 * self.count * self._patches * self.dim <= budget:
            self._cache = torch.empty(self.count, self._patches, self.dim)
            with progress.task(name, self.count) as task:
                for start in range(0, self.count, _CHUNK):
                    chunk = torch.arange(start, min(start + _CHUNK, self.count))
                    self._cache[chunk] = self._compute(chunk)
                    task.advance(len(chunk))

    def batch(self, images: Tensor) -> Tensor:
        """All patch vectors of some images, (len(images) · h · w, embedding_dim) float32."""
        found = self._compute(images) if self._cache is None else self._cache[images]
        return found.reshape(-1, self.dim)

    def sample(self, count: int, random: torch.Generator) -> Tensor:
        """`count` patch vectors drawn with replacement, (count, embedding_dim).

        From all images where they are in memory, else from 16 images, since each costs a pass of the
        backbone. Patches of few images are much alike: batches of them train slower and less surely.
        """
        if self._cache is not None:
            rows = self._cache.view(-1, self.dim)
        else:
            rows = self.batch(torch.randperm(self.count, generator=random)[:_SAMPLED_IMAGES])
        return rows[torch.randint(len(rows), (count,), generator=random)]

    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation over all patches, (embedding_dim,) float64 each."""
        total, squares = torch.zeros(2, self.dim, dtype=torch.float64)
        for start in range(0, self.count, _CHUNK):
            rows = self.batch(torch.arange(start, min(start + _CHUNK, self.count))).double()
            total += rows.sum(0)
            squares += rows.square().sum(0)
        mean = total / (self.count * self._patches)
        variance = squares / (self.count * self._patches) - mean.square()
        return mean, variance.clamp_min(0).sqrt()

    @torch.no_grad()
    def _compute(self, images: Tensor) -> Tensor:
        pixels = torch.from_numpy(self._pixels[images.numpy()])
        return self._detector.embed(pixels).reshape(len(images), -1, self.dim)
