"""Which good images CPR keeps as references, and which resemble each other."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from edgead.detectors._cpr_networks import histogram_distances
from edgead.errors import DatasetError
from edgead.progress import Progress
from edgead.training._seeds import generator

if TYPE_CHECKING:
    import numpy.typing as npt

    from edgead.detectors.cpr import Cpr

    Pixels = npt.NDArray[np.uint8]

_MIB = 1 << 20


def different(images: Pixels, progress: Progress) -> Pixels:
    """The images without copies, in their order; how many there were is said."""
    first: dict[bytes, int] = {}
    for index, image in enumerate(images):
        first.setdefault(hashlib.sha256(image.tobytes()).digest(), index)
    if len(first) < len(images):
        progress.say(f"{len(images) - len(first)} of {len(images)} images are copies; each counts once")
    return images[list(first.values())]


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


def choose_references(detector: Cpr, histograms: Tensor, budget: float | None, seed: int) -> list[int]:
    """Indices of the images for the bank: all, or as many as `budget` MiB hold, spread out.

    Raises:
        DatasetError: the budget holds fewer than are searched per image.
    """
    if budget is None:
        return list(range(len(histograms)))
    each = detector.reference_bytes
    count = int(budget * _MIB / each)
    if count < detector.config.nearest:
        raise DatasetError(
            f"a bank of {budget:g} MiB holds {count} references of {each / _MIB:.2f} MiB, but "
            f"{detector.config.nearest} are searched per image: give at least "
            f"{detector.config.nearest * each / _MIB:.1f} MiB (--bank-budget)"
        )
    return spread_out(histograms, count, seed)
