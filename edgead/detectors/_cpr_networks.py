"""The parts of CPR: the retrieval heads, block histograms, and the windowed search.

Parameters of a head are named as in the authors' code (``lrb.conv.i.`` + these names).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Added to frequencies before the logarithm, and to a descriptor's length before the division.
EPS = 1e-8

_STEM, _BRANCH, _REDUCED = 192, 64, 48
_BRANCH_BN_EPS = 1e-3


class ConvBnRelu(nn.Module):
    """Convolution without bias, batch norm (ε = 1e-3), ReLU; the size stays."""

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=_BRANCH_BN_EPS)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, h, w) to (N, outputs, h, w)."""
        return torch.relu(self.bn(self.conv(x)))


class Inception(nn.Module):
    """Four branches of 64 channels: 1×1; 1×1 and 3×3; 1×1; average of the valid 3×3 cells and 1×1."""

    def __init__(self) -> None:
        super().__init__()
        self.branch0 = ConvBnRelu(_STEM, _BRANCH, 1)
        self.branch1 = nn.Sequential(ConvBnRelu(_STEM, _REDUCED, 1), ConvBnRelu(_REDUCED, _BRANCH, 3))
        self.branch2 = nn.Sequential(ConvBnRelu(_STEM, _BRANCH, 1))
        pool = nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)
        self.branch3 = nn.Sequential(pool, ConvBnRelu(_STEM, _BRANCH, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(N, 192, h, w) to (N, 256, h, w)."""
        return torch.cat([self.branch0(x), self.branch1(x), self.branch2(x), self.branch3(x)], dim=1)


class RetrievalHead(nn.Sequential):
    """A tap's features to descriptors, not yet normalised: (N, inputs, h, w) to (N, dim, h, w)."""

    def __init__(self, inputs: int, dim: int) -> None:
        super().__init__(
            nn.Conv2d(inputs, _STEM, 1),
            nn.BatchNorm2d(_STEM),
            nn.ReLU(),
            Inception(),
            nn.Conv2d(4 * _BRANCH, dim, 1),
        )


def normalised(descriptors: Tensor) -> Tensor:
    """(N, D, h, w), each position's vector divided by its length + 1e-8."""
    length: Tensor = descriptors.norm(dim=1, keepdim=True)
    return descriptors / (length + EPS)


def block_histograms(features: Tensor, centres: Tensor, grid: int) -> Tensor:
    """How often each cluster is the nearest one, per block of a grid × grid partition.

    Args:
        features: (N, C, h, w); h and w are multiples of `grid`.
        centres: (clusters, C).
        grid: blocks per side.

    Returns:
        (N, grid², clusters) frequencies, which sum to 1 per block.
    """
    # argmin |x − c|² = argmax 2 c·x − |c|²
    nearness = F.conv2d(features, 2 * centres[:, :, None, None], -centres.square().sum(1))
    codes = F.one_hot(nearness.argmax(1), len(centres)).movedim(3, 1).to(features.dtype)
    block = (features.shape[2] // grid, features.shape[3] // grid)
    return F.avg_pool2d(codes, block).flatten(2).transpose(1, 2)


def histogram_distances(query: Tensor, references: Tensor, kept: int) -> Tensor:
    """Sum over the `kept` most similar blocks of the Kullback–Leibler divergence of query from reference.

    Args:
        query: (blocks, clusters) frequencies of one image.
        references: (N, blocks, clusters).
        kept: blocks that count, the others are occluded or defective.

    Returns:
        (N,).
    """
    p, r = query + EPS, references + EPS
    per_block: Tensor = (p * (p.log() - r.log())).sum(2)
    return per_block.topk(kept, dim=1, largest=False).values.sum(1)


def windowed_distance(query: Tensor, references: Tensor, window: int) -> Tensor:
    """1 − the largest cosine between a position and those in its window, in any reference.

    Args:
        query: (D, h, w) normalised.
        references: (K, D, h, w) normalised.
        window: odd side of the window, centred on the position and cut at the border.

    Returns:
        (h, w) in 0 … 2.
    """
    reach = window // 2
    height, width = query.shape[1:]
    best = query.new_full((height, width), -torch.inf)
    for dy in range(-reach, reach + 1):
        for dx in range(-reach, reach + 1):
            rows = slice(max(0, -dy), height - max(0, dy))
            cols = slice(max(0, -dx), width - max(0, dx))
            other_rows = slice(max(0, dy), height - max(0, -dy))
            other_cols = slice(max(0, dx), width - max(0, -dx))
            cosine = (query[:, rows, cols] * references[:, :, other_rows, other_cols]).sum(1).amax(0)
            best[rows, cols] = torch.maximum(best[rows, cols], cosine)
    return 1 - best
