"""A coreset of patch vectors: greedy k-centre on random projections."""

from __future__ import annotations

import torch
from torch import Tensor

from edgead.progress import Progress
from edgead.training._seeds import derive, generator


def k_centre(vectors: Tensor, count: int, *, dim: int, seed: int, progress: Progress) -> Tensor:
    """Indices of `count` vectors that leave no other far away, in the order of choice: (≤ count,) int64.

    The first is drawn, each further one is the farthest from all that were chosen. Fewer where all others are
    copies of chosen ones. The same seed gives the same choice on one machine.

    Args:
        vectors: (M, D); distances are taken on their device.
        count: how many.
        dim: values per vector while choosing; smaller than D, a random projection (Johnson-Lindenstrauss).
        seed: of the first one and of the projection.
        progress: a bar.
    """
    points = vectors - vectors.mean(0)
    if dim < points.shape[1]:
        projection = torch.randn(points.shape[1], dim, generator=generator(seed, "projection"))
        points = points @ (projection / dim**0.5).to(points)
    squares = points.square().sum(1)
    first = derive(seed, "coreset") % len(points)
    chosen = [first]
    far = (points - points[first]).square().sum(1)
    # What a difference of squares may leave of two equal points.
    least = 1e-6 * float(squares.max())
    with progress.task("coreset", min(count, len(points))) as task:
        task.advance(1)
        while len(chosen) < min(count, len(points)):
            farthest = int(far.argmax())
            if not float(far[farthest]) > least:
                task.advance(min(count, len(points)) - len(chosen))
                break
            chosen.append(farthest)
            apart = torch.addmv(squares, points, points[farthest], alpha=-2.0).add_(squares[farthest])
            torch.minimum(far, apart, out=far)
            far[farthest] = 0.0
            task.advance(1)
    return torch.tensor(chosen)
