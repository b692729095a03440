"""A fixed linear map of patches (neighbourhoods of a feature map) as the cheapest exact convolutions.

The map takes the p × p patch of every cell, flattened in the order channel, row, column (zeros outside), to
`mixing @ pooling @ patch`; pooling is sparse (means over bins), mixing is dense. Any of the forms below
computes it; which one needs the fewest multiply-accumulates (MACs) depends on the sizes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from edgead.backbones._base import Backbone


def pool_matrix(length: int, bins: int) -> Tensor:
    """(bins, length) float64 matrix of torch's adaptive_avg_pool1d.

    Bin j is the mean of the values ⌊j·length/bins⌋ … ⌈(j + 1)·length/bins⌉ − 1; bins overlap where the
    division leaves a rest.
    """
    matrix = torch.zeros(bins, length, dtype=torch.float64)
    for index in range(bins):
        start, stop = index * length // bins, -(-(index + 1) * length // bins)
        matrix[index, start:stop] = 1.0 / (stop - start)
    return matrix


class PooledConfig(Protocol):
    """What `poolings` reads of the config of a detector with a `PatchEmbedding`."""

    @property
    def taps(self) -> tuple[str, ...]: ...
    @property
    def tap_dim(self) -> int: ...
    @property
    def embedding_dim(self) -> int: ...
    @property
    def patch_size(self) -> int: ...


def poolings(backbone: Backbone, config: PooledConfig) -> list[Tensor]:
    """Per tap, (embedding_dim, C·p²): its patches' share of a `PatchEmbedding`, float64."""
    dim = config.tap_dim
    stacked = pool_matrix(dim * len(config.taps), config.embedding_dim)
    return [
        stacked[:, index * dim : (index + 1) * dim]
        @ pool_matrix(backbone.spec.taps[tap].channels * config.patch_size**2, dim)
        for index, tap in enumerate(config.taps)
    ]


@dataclass(frozen=True, slots=True)
class Form:
    """One way to compute the map.

    Attributes:
        name: ``dense``: one p × p convolution of the product; ``rows``: means along a patch's rows, then a
            p × 1 convolution, where the map is constant along them; ``pooled``: grouped p × p convolution for
            the bins, then 1 × 1 mixing.
        macs_per_cell: multiply-accumulates per cell of the map's grid, zero padding counted, means too.
        layers: float64, without bias.
    """

    name: str
    macs_per_cell: int
    layers: nn.Sequential


def forms(mixing: Tensor, pooling: Tensor, patch_size: int) -> list[Form]:
    """Every form that computes the map exactly, cheapest first.

    Args:
        mixing: (O, E) float64.
        pooling: (E, C·p²) float64; rows of zeros are dropped.
        patch_size: p, odd.
    """
    used = pooling.abs().sum(1) > 0
    mixing, pooling = mixing[:, used], pooling[used]
    found = [_dense(mixing @ pooling, patch_size), _pooled(mixing, pooling, patch_size)]
    rows = _rows(mixing, pooling, patch_size)
    return sorted([*found, rows] if rows else found, key=lambda form: form.macs_per_cell)


def _dense(product: Tensor, size: int) -> Form:
    kernel = product.view(len(product), -1, size, size)
    return Form("dense", kernel.numel(), nn.Sequential(_conv(kernel)))


def _rows(mixing: Tensor, pooling: Tensor, size: int) -> Form | None:
    """None where the bins are not unions of whole patch rows."""
    taps = pooling.view(len(pooling), -1, size, size)
    if size == 1 or not torch.equal(taps, taps[..., :1].expand_as(taps)):
        return None
    channels = taps.shape[1]
    mean = torch.full((channels, 1, 1, size), 1.0 / size, dtype=torch.float64)
    kernel = (mixing @ (taps.sum(3).flatten(1))).view(len(mixing), channels, size, 1)
    layers = nn.Sequential(_conv(mean, groups=channels), _conv(kernel))
    return Form("rows", kernel.numel() + mean.numel(), layers)


def _pooled(mixing: Tensor, pooling: Tensor, size: int) -> Form:
    channels = pooling.shape[1] // size**2
    taps = pooling.view(len(pooling), channels, size, size)
    groups = _groups(taps)
    bins, inputs = len(taps) // groups, channels // groups
    kernel = torch.cat(
        [taps[g * bins : (g + 1) * bins, g * inputs : (g + 1) * inputs] for g in range(groups)]
    ).contiguous()
    layers = nn.Sequential(_conv(kernel, groups=groups), _conv(mixing[..., None, None]))
    return Form("pooled", kernel.numel() + mixing.numel(), layers)


def _groups(taps: Tensor) -> int:
    """Most groups (dividing bins and channels) such that bins read channels of their own group only."""
    bins, channels = taps.shape[:2]
    touched_bins, touched_channels = (taps.abs().sum((2, 3)) > 0).nonzero(as_tuple=True)
    common = math.gcd(bins, channels)
    for groups in (n for n in range(common, 0, -1) if common % n == 0):
        if torch.equal(touched_bins // (bins // groups), touched_channels // (channels // groups)):
            return groups
    return 1


def _conv(kernel: Tensor, groups: int = 1) -> nn.Conv2d:
    outputs, inputs, rows, cols = kernel.shape
    conv = nn.Conv2d(
        inputs * groups,
        outputs,
        (rows, cols),
        padding=(rows // 2, cols // 2),
        groups=groups,
        bias=False,
        dtype=torch.float64,
    )
    conv.weight = nn.Parameter(kernel.contiguous(), requires_grad=False)
    return conv
