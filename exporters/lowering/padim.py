"""PaDiM lowered: the distance is the length of a whitened vector, and coarse features are whitened per cell.

With Σ⁻¹ = L·Lᵀ (Cholesky, float64) and U = Lᵀ, upper triangular:

    (x − μ)ᵀ Σ⁻¹ (x − μ) = ‖U·(x − μ)‖²

Features are ordered by tap, the finest first, which only permutes Σ⁻¹. A column of U then reaches only the
rows above it, so the features of a fine tap meet few rows. Nearest up-sampling repeats a coarse tap's vector
in all k² positions of its cell, so it is not done: the k² positions' columns for that tap are one matrix
per cell, k² times as tall, and the vector is read once. μ is subtracted on the tap's own grid, before the
product: it is constant in a cell where it came from such features, and what differs becomes a bias.

Positions are kept in nested order (cells of the coarsest tap in rows, in each the cells of the next), and
brought back to rows at the end, one value each. Where grids do not divide each other, features are
up-sampled first, and each position is a cell of its own. A ResNet's last block computes only the channels
that are kept: nothing behind it reads the others. `benchmarks/suites/padim_forms.py` compares.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgead.backbones._resnet import BasicBlock, Bottleneck, ResNet
from edgead.detectors._base import DetectorOutput
from edgead.detectors.padim import Padim
from edgead.exporters.lowering._fold import fold_backbone

_COLUMNS = 32  # per product: fewer skip more of the zeros below U's diagonal, and cost more products


class _Select(nn.Module):
    """Some channels of its input, (N, C, h, w)."""

    channels: Tensor

    def __init__(self, channels: Tensor) -> None:
        super().__init__()
        self.register_buffer("channels", channels)

    def forward(self, x: Tensor) -> Tensor:
        return x.index_select(1, self.channels)


class _TapProduct(nn.Module):
    """One tap's share of U·(x − μ).

    Attributes:
        channels: of the tap, those that are kept; None where it has no others.
        centre: (cells, 1, channels), subtracted.
        blocks: (cells, columns, k²·rows) each: rows 0 … rows − 1 of U for some of the columns.
    """

    channels: Tensor | None
    centre: Tensor

    def __init__(
        self, channels: Tensor | None, centre: Tensor, blocks: Sequence[Tensor], splits: list[int]
    ) -> None:
        super().__init__()
        self.register_buffer("channels", channels)
        self.register_buffer("centre", centre)
        self.blocks = nn.ParameterList([nn.Parameter(block, requires_grad=False) for block in blocks])
        self.splits = splits

    def forward(self, tap: Tensor, cells: int, inside: int, dim: int) -> Tensor:
        """(1, C, h, w) to (coarsest cells, positions in each, dim)."""
        kept = tap if self.channels is None else tap.index_select(1, self.channels)
        x = _nested(kept, self.splits) - self.centre
        found, start = torch.zeros(1, dtype=tap.dtype), 0
        for block in self.blocks:
            columns = block.shape[1]
            part = (x[:, :, start : start + columns] @ block).view(cells, inside, -1)
            missing = dim - part.shape[2]
            found = found + (F.pad(part, (0, missing)) if missing else part)
            start += columns
        return found


class LoweredPadim(nn.Module):
    """What goes into the graph.

    Attributes:
        offset: (3, 1, 1), subtracted from the pixels; their scaling is in the backbone's first weights.
        backbone: without batch norms.
        products: per tap of which features are kept.
        bias: (coarsest cells, positions in each, dim), or None.
    """

    offset: Tensor
    bias: Tensor | None

    def __init__(
        self,
        offset: Tensor,
        backbone: nn.Module,
        products: dict[int, _TapProduct],
        bias: Tensor | None,
        grid: tuple[int, int],
        splits: list[int],
        dim: int,
    ) -> None:
        super().__init__()
        self.register_buffer("offset", offset)
        self.register_buffer("bias", bias)
        self.backbone = backbone
        self.products = nn.ModuleList(products.values())
        self.taps = list(products)
        self.grid, self.splits, self.dim = grid, splits, dim

    def forward(self, image: Tensor) -> DetectorOutput:
        """Score (1, H, W, 3) uint8 RGB; the map is (1, 1, h, w)."""
        taps = self.backbone(image.permute(0, 3, 1, 2).to(self.offset.dtype) - self.offset)
        return DetectorOutput(self.head(taps))

    def head(self, taps: tuple[Tensor, ...]) -> Tensor:
        """(1, C_i, h_i, w_i) per tap to the raw map."""
        factor = math.prod(self.splits)
        cells, inside = self.grid[0] * self.grid[1] // factor**2, factor**2
        y = self.bias
        for index, product in zip(self.taps, self.products, strict=True):
            tap = taps[index]
            if not self.splits and tuple(tap.shape[2:]) != self.grid:
                tap = F.interpolate(tap, size=self.grid, mode="nearest")
            part = product(tap, cells, inside, self.dim)
            y = part if y is None else y + part
        assert y is not None
        distances = y.square().sum(2).sqrt()
        rows, cols = self.grid[0] // factor, self.grid[1] // factor
        count = len(self.splits)
        nested = distances.view(rows, cols, *(split for split in self.splits for _ in range(2)))
        down = [0, *range(2, 2 + 2 * count, 2)]
        return nested.permute(*down, *(axis + 1 for axis in down)).reshape(1, 1, *self.grid)


def lower(detector: Padim) -> LoweredPadim:
    """The same function as `detector` for one image, folded in float64, in the detector's own dtype."""
    dtype, dim = detector.mean.dtype, detector.config.dim
    spec, names = detector.backbone.spec, detector.config.taps
    height, width = detector.geometry.input_size
    with torch.no_grad():
        folded = fold_backbone(
            detector.backbone, torch.rand(1, 3, 64, 64), 1 / (255 * detector.backbone.std.double().flatten())
        )
        grids = [(-(-height // spec.taps[t].stride), -(-width // spec.taps[t].stride)) for t in names]
        ratios = _ratios(grids)
        steps = [below // above for above, below in itertools.pairwise(ratios)]  # fine to coarse
        splits = [step for step in reversed(steps) if step > 1]
        order = _nested(torch.arange(len(detector.mean)).view(1, 1, *detector.grid), splits).flatten()

        ends = torch.tensor([spec.taps[tap].channels for tap in names]).cumsum(0)
        tap_of = torch.bucketize(detector.index.cpu(), ends, right=True)
        by_tap = tap_of.argsort(stable=True)
        mean = detector.mean.double()[order][:, by_tap]
        upper = whitening(detector.inv_covariance.double()[:, by_tap][:, :, by_tap])[order]

        products, residual, start = {}, torch.zeros_like(mean), 0
        for index in sorted(set(tap_of.tolist())):
            stop = start + int((tap_of == index).sum())
            inside = ratios[index] ** 2
            centre = mean[::inside, start:stop]
            residual[:, start:stop] = mean[:, start:stop] - centre.repeat_interleave(inside, 0)
            edges = torch.linspace(start, stop, -(-(stop - start) // _COLUMNS) + 1).round().long().tolist()
            blocks = [
                upper[:, :high, low:high].reshape(-1, inside * high, high - low).transpose(1, 2).contiguous()
                for low, high in itertools.pairwise(edges)
            ]
            channels: Tensor | None = detector.index.cpu()[by_tap][start:stop] - (
                int(ends[index - 1]) if index else 0
            )
            if names[index] == max(names, key=list(spec.taps).index) and isinstance(folded, ResNet):
                assert channels is not None
                _keep(folded.get_submodule(names[index])[-1], channels)  # type: ignore[index]
                channels = None
            own = [step for step in reversed(steps[index:]) if step > 1]
            products[index] = _TapProduct(channels, centre[:, None].contiguous(), blocks, own)
            start = stop
        bias = None
        if bool(residual.any()):
            factor = math.prod(splits)
            bias = -(upper @ residual[:, :, None]).view(-1, factor**2, dim)
        lowered = LoweredPadim(
            255 * detector.backbone.mean.double(), folded, products, bias, detector.grid, splits, dim
        )
    return lowered.to(dtype).requires_grad_(False).eval()


def _keep(block: BasicBlock | Bottleneck, channels: Tensor) -> None:
    """Make the block without batch norms, in place, compute these channels of its output only."""
    convs = [block.conv3 if isinstance(block, Bottleneck) else block.conv2]
    if block.downsample is None:
        block.downsample = _Select(channels)  # type: ignore[assignment]
    else:
        convs.append(block.downsample[0])  # type: ignore[arg-type]
    for conv in convs:
        assert conv.bias is not None
        conv.weight = nn.Parameter(conv.weight[channels], requires_grad=False)
        conv.bias = nn.Parameter(conv.bias[channels], requires_grad=False)
        conv.out_channels = len(channels)


def whitening(inv_covariance: Tensor) -> Tensor:
    """(P, d, d) upper triangular U with UᵀU = `inv_covariance`, float64.

    Rounding may leave a stored inverse slightly indefinite. Its negative eigenvalues then count as 0: they
    are below what float32 could tell of the form.
    """
    symmetric = (inv_covariance + inv_covariance.transpose(1, 2)) / 2
    lower_factor, failed = torch.linalg.cholesky_ex(symmetric)
    upper: Tensor = lower_factor.transpose(1, 2).contiguous()
    for position in failed.nonzero().flatten().tolist():
        values, vectors = torch.linalg.eigh(symmetric[position])
        upper[position] = torch.linalg.qr(values.clamp_min(0).sqrt()[:, None] * vectors.T).R
    return upper


def _ratios(grids: Sequence[tuple[int, int]]) -> list[int]:
    """How many times each grid fits into the first, in rows and columns; all 1 where grids do not nest."""
    rows, cols = grids[0]
    ratios = [rows // grid[0] for grid in grids]
    exact = all((ratio * h, ratio * w) == (rows, cols) for ratio, (h, w) in zip(ratios, grids, strict=True))
    nested = all(below % above == 0 for above, below in itertools.pairwise(ratios))
    return ratios if exact and nested else [1] * len(grids)


def _nested(tap: Tensor, splits: Sequence[int]) -> Tensor:
    """(1, C, h, w) to (h·w, 1, C), cells of the coarsest tap in rows, in each the cells of the next."""
    _, channels, height, width = tap.shape
    factor, count = math.prod(splits), len(splits)
    apart = tap.view(channels, height // factor, *splits, width // factor, *splits)
    axes = [axis for level in range(count + 1) for axis in (1 + level, 2 + count + level)]
    return apart.permute(*axes, 0).reshape(-1, 1, channels)
