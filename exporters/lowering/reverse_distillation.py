"""Reverse Distillation lowered: no batch norms, and one product for all three up-samplings and their sum.

A transposed convolution that makes 2 × 2 cells of each is a 1 × 1 convolution to four times the channels, and
a rearrangement (`Spread`), which all engines have in 8 bits: ONNX Runtime lacks the former.

The up-samplings align the corners; they are matrices (`_upsampled_sum`).
1 − cos of two vectors is taken from their difference at length 1, x̂ − ŷ, where two numbers near 1 need not
cancel, which bfloat16 could not hold:

    1 − x̂·ŷ = ½·(‖x̂ − ŷ‖² + (1 − ‖x̂‖²) + (1 − ‖ŷ‖²))

The last two terms are 0, but for a vector that is shorter than ε, whose cosine torch counts as 0.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgead.detectors._base import DetectorOutput
from edgead.detectors.reverse_distillation import ReverseDistillation
from edgead.exporters._qdq import Int8Recipe
from edgead.exporters.lowering._fold import fold_backbone
from edgead.exporters.lowering._unit import unit
from edgead.exporters.lowering._upsampled_sum import UpsampledSum

# Map arithmetic, which few values would blur.
INT8 = Int8Recipe(keep_float=("together/*",))

_EPS = 1e-8  # of torch.nn.functional.cosine_similarity


class _Features(nn.Module):
    """The detector's three networks as one: an image to the teacher's maps, then the rebuilt ones."""

    def __init__(self, detector: ReverseDistillation) -> None:
        super().__init__()
        self.encoder, self.bottleneck, self.decoder = detector.encoder, detector.bottleneck, detector.decoder

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        taps = self.encoder(image)
        return (*taps, *self.decoder(self.bottleneck(taps)))


class Spread(nn.Module):
    """A transposed convolution of kernel and stride 2 in another form.

    Attributes:
        conv: to 4·C channels: all of the upper left cells, of the upper right, lower left, lower right.
    """

    def __init__(self, transposed: nn.ConvTranspose2d) -> None:
        super().__init__()
        inputs, outputs = transposed.weight.shape[:2]
        self.conv = nn.Conv2d(inputs, 4 * outputs, 1, dtype=transposed.weight.dtype)
        # (inputs, outputs, row, column) to (row, column, outputs, inputs).
        weight = transposed.weight.permute(2, 3, 1, 0).reshape(4 * outputs, inputs, 1, 1)
        self.conv.weight = nn.Parameter(weight, requires_grad=False)
        assert transposed.bias is not None, "of the batch norm"
        self.conv.bias = nn.Parameter(transposed.bias.repeat(4), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, h, w) to (N, outputs, 2h, 2w)."""
        count, _, height, width = x.shape
        cells: Tensor = self.conv(x).reshape(count, 2, 2, -1, height, width)
        return cells.permute(0, 3, 4, 1, 5, 2).reshape(count, -1, 2 * height, 2 * width)


class LoweredReverseDistillation(nn.Module):
    """What goes into the graph.

    Attributes:
        offset: (3, 1, 1), subtracted from the pixels; their scaling is in the first weights.
        features: the networks without batch norms.
        together: the three maps to one (`UpsampledSum`).
    """

    offset: Tensor

    def __init__(self, offset: Tensor, features: nn.Module, together: UpsampledSum) -> None:
        super().__init__()
        self.register_buffer("offset", offset)
        self.features, self.together = features, together

    def forward(self, image: Tensor) -> DetectorOutput:
        """Score (N, H, W, 3) uint8 RGB images; the map is (N, 1, H, W)."""
        found = self.features(image.permute(0, 3, 1, 2).to(self.offset.dtype) - self.offset)
        return DetectorOutput(
            self.together([distance(*pair) for pair in zip(found[:3], found[3:], strict=True)])
        )


def lower(detector: ReverseDistillation) -> LoweredReverseDistillation:
    """The same function as `detector` in evaluation mode, folded in float64, in the detector's own dtype."""
    mean, std = detector.encoder.mean.double(), detector.encoder.std.double()
    features = fold_backbone(_Features(detector), torch.rand(1, 3, 64, 64), 1 / (255 * std.flatten()))
    for name, module in list(features.named_modules()):
        if isinstance(module, nn.ConvTranspose2d):
            features.set_submodule(name, Spread(module))
    axes = [[corners(size // scale, size) for scale in (4, 8, 16)] for size in detector.geometry.input_size]
    lowered = LoweredReverseDistillation(255 * mean, features, UpsampledSum(*axes))
    return lowered.to(detector.encoder.mean.dtype).requires_grad_(False).eval()


def distance(one: Tensor, other: Tensor) -> Tensor:
    """1 − cos over the channels: (N, C, h, w) twice to (N, 1, h, w)."""
    difference = (unit(one, _EPS) - unit(other, _EPS)).square().sum(1, keepdim=True)
    return 0.5 * (difference + _short(one) + _short(other))


def corners(cells: int, pixels: int) -> Tensor:
    """One axis of bilinear up-sampling with aligned corners, (pixels, cells) float64.

    Pixel i lies at i·(cells − 1)/(pixels − 1), between two cells.
    """
    matrix = torch.zeros(pixels, cells, dtype=torch.float64)
    for pixel in range(pixels):
        position = pixel * (cells - 1) / (pixels - 1)
        lower_cell = min(int(position), cells - 1)
        matrix[pixel, lower_cell] += 1 - (position - lower_cell)
        matrix[pixel, min(lower_cell + 1, cells - 1)] += position - lower_cell
    return matrix


def _short(features: Tensor) -> Tensor:
    """1 − ‖x̂‖²: 0 for a vector that could be brought to length 1."""
    squares = features.square().sum(1, keepdim=True)
    return 1 - squares / squares.clamp_min(_EPS**2)
