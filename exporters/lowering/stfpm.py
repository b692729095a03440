"""STFPM lowered: both networks without batch norms on pixels minus the mean colour.

Where zeros are padded, they stand for the mean colour, so 255·m is subtracted and only the scaling is in the
first weights. A normalised vector is t·r with r = 1/max(‖t‖, ε), one number per position. The squared
difference stays as it is: 2 − 2·t·s·r_t·r_s has fewer operations, but what a good image leaves of it, some
thousandths, is the difference of two numbers near 2, which bfloat16 cannot hold.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgead.detectors._base import DetectorOutput
from edgead.detectors.stfpm import Stfpm
from edgead.exporters.lowering._fold import fold_backbone
from edgead.exporters.lowering._unit import unit

_EPS = 1e-12  # of torch.nn.functional.normalize


class LoweredStfpm(nn.Module):
    """What goes into the graph.

    Attributes:
        offset: (3, 1, 1), subtracted from the pixels.
        teacher, student: without batch norms.
    """

    offset: Tensor

    def __init__(self, offset: Tensor, teacher: nn.Module, student: nn.Module, grid: tuple[int, int]) -> None:
        super().__init__()
        self.register_buffer("offset", offset)
        self.teacher, self.student, self.grid = teacher, student, grid

    def forward(self, image: Tensor) -> DetectorOutput:
        """Score (N, H, W, 3) uint8 RGB images; the map is (N, 1, h, w)."""
        pixels = image.permute(0, 3, 1, 2).to(self.offset.dtype) - self.offset
        found: Tensor | None = None
        for taught, learnt in zip(self.teacher(pixels), self.student(pixels), strict=True):
            one = (unit(taught, _EPS) - unit(learnt, _EPS)).square().sum(1, keepdim=True)
            if tuple(one.shape[2:]) != self.grid:
                one = F.interpolate(one, size=self.grid, mode="bilinear", align_corners=False)
            found = one if found is None else found * one
        assert found is not None
        return DetectorOutput(found)


def lower(detector: Stfpm) -> LoweredStfpm:
    """The same function as `detector` in evaluation mode, folded in float64, in the detector's own dtype."""
    mean, std = detector.teacher.mean.double(), detector.teacher.std.double()
    image, scale = torch.rand(1, 3, 64, 64), 1 / (255 * std.flatten())
    networks = [fold_backbone(one, image, scale) for one in (detector.teacher, detector.student)]
    lowered = LoweredStfpm(255 * mean, networks[0], networks[1], detector.grid)
    return lowered.to(detector.teacher.mean.dtype).requires_grad_(False).eval()
