"""SimpleNet lowered: all between backbone and LeakyReLU is one affine map, below the up-sampling.

With P_i the fixed averages from tap i's patches to its part of the embedding, W_p, b_p the projection,
W_1, b_1 the discriminator's first layer and g, o its batch norm as g·x + o:

    h = Σ_i U_i(A·P_i·patches_i) + c,   A = diag(g)·W_1·W_p,   c = g∘(W_1·b_p + b_1) + o
    map = −w_tail·LeakyReLU(h)

U_i, the bilinear up-sampling to the finest grid, works per channel, so it commutes with A·P_i, and it is done
on the hidden channels instead of nine values per feature. It does not commute with the LeakyReLU.
Each A·P_i takes the form with the fewest multiply-accumulates (`_patch_affine`).
"""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgead.detectors._base import DetectorOutput
from edgead.detectors.simplenet import SimpleNet
from edgead.exporters.lowering._fold import fold_backbone, norm_affine
from edgead.exporters.lowering._patch_affine import forms, poolings


class LoweredSimpleNet(nn.Module):
    """What goes into the graph: backbone, one branch per tap, tail.

    Attributes:
        offset: (3, 1, 1), subtracted from the pixels; their scaling is in the backbone's first weights.
        backbone: without batch norms.
        branches: per tap, its map to the hidden channels on the tap's own grid; the first one adds c.
        tail: 1 × 1 convolution to the map, its sign turned: higher = more anomalous.
    """

    offset: Tensor

    def __init__(
        self,
        *,
        offset: Tensor,
        backbone: nn.Module,
        branches: list[nn.Sequential],
        tail: nn.Conv2d,
        slope: float,
    ) -> None:
        super().__init__()
        self.register_buffer("offset", offset)
        self.backbone = backbone
        self.branches = nn.ModuleList(branches)
        self.tail = tail
        self.slope = slope

    def forward(self, image: Tensor) -> DetectorOutput:
        """Score (N, H, W, 3) uint8 RGB images; the map is (N, 1, h, w)."""
        taps = self.backbone(image.permute(0, 3, 1, 2).to(self.offset.dtype) - self.offset)
        return DetectorOutput(self.head(taps))

    def head(self, taps: tuple[Tensor, ...]) -> Tensor:
        """(N, C_i, h_i, w_i) per tap to the raw map."""
        grid = max((tap.shape[2:] for tap in taps), key=lambda size: size[0] * size[1])
        parts = [
            mixed
            if mixed.shape[2:] == grid
            else F.interpolate(mixed, size=grid, mode="bilinear", align_corners=False)
            for mixed in (branch(tap) for tap, branch in zip(taps, self.branches, strict=True))
        ]
        anomaly_map: Tensor = self.tail(F.leaky_relu(functools.reduce(torch.add, parts), self.slope))
        return anomaly_map


def lower(detector: SimpleNet) -> LoweredSimpleNet:
    """The same function as `detector` in evaluation mode, folded in float64, in the detector's own dtype.

    Raises:
        InternalError: the backbone does not fold (see `fold_backbone`).
    """
    backbone = detector.backbone
    dtype = detector.discriminator.tail.weight.dtype
    mean, std = backbone.mean.double(), backbone.std.double()
    pixels = torch.linspace(0, 255, 3 * 32 * 32, dtype=torch.float64).view(1, 3, 32, 32)
    with torch.no_grad():
        folded = fold_backbone(backbone, (pixels / 255 - mean) / std, 1 / (255 * std.flatten()))
        mixing, constant = affine(detector)
        patch_size = detector.config.patch_size
        branches = [
            forms(mixing, pooling, patch_size)[0].layers for pooling in poolings(backbone, detector.config)
        ]
        # Bilinear weights sum to 1, so c may stand below the up-sampling too.
        branches[0][-1].bias = nn.Parameter(constant)
        tail = nn.Conv2d(mixing.shape[0], 1, 1, bias=False, dtype=torch.float64)
        tail.weight.copy_(-detector.discriminator.tail.weight.double()[..., None, None])
        lowered = LoweredSimpleNet(
            offset=255 * mean,
            backbone=folded,
            branches=branches,
            tail=tail,
            slope=detector.discriminator.activation.negative_slope,
        )
    return lowered.to(dtype).requires_grad_(False).eval()


def affine(detector: SimpleNet) -> tuple[Tensor, Tensor]:
    """(A, c): hidden values before the LeakyReLU from the embedding, float64."""
    first = detector.discriminator.hidden
    gain, offset = norm_affine(detector.discriminator.norm)
    mixing, bias = first.weight.double(), first.bias.double()
    if isinstance(detector.projection, nn.Linear):
        bias = mixing @ detector.projection.bias.double() + bias
        mixing = mixing @ detector.projection.weight.double()
    return gain[:, None] * mixing, gain * bias + offset
