"""STFPM lowered: both networks without batch norms on pixels minus the mean colour.

Where zeros are padded, they stand for the mean colour, so 255·m is subtracted and only the scaling is in the
first weights. A normalised vector is t·r with r = 1/max(‖t‖, ε), one number per position. The squared
difference stays as it is: 2 − 2·t·s·r_t·r_s has fewer operations, but what a good image leaves of it, some
thousandths, is the difference of two numbers near 2, which bfloat16 cannot hold. Up-sampling is two matrix
products per map: OpenVINO 2026.4's bilinear Resize of three maps took a ninth of an 8-bit
engine's time.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgead.detectors._base import DetectorOutput
from edgead.detectors.stfpm import Stfpm
from edgead.exporters._qdq import Int8Recipe
from edgead.exporters.lowering._fold import fold_backbone
from edgead.exporters.lowering._unit import unit
from edgead.imaging.map_operator import upsample_matrix

INT8 = Int8Recipe(keep_float=("large.*/*",))

_EPS = 1e-12  # of torch.nn.functional.normalize


class _Enlarged(nn.Module):
    """Maps (N, 1, *grid) up-sampled to `size`: bilinear, align_corners=False."""

    rows: Tensor
    columns: Tensor

    def __init__(self, grid: tuple[int, int], size: tuple[int, int]) -> None:
        super().__init__()
        rows, columns = (
            torch.from_numpy(upsample_matrix(cells, pixels, "bilinear"))
            for cells, pixels in zip(grid, size, strict=True)
        )
        self.register_buffer("rows", rows)
        self.register_buffer("columns", columns.T.contiguous())

    def forward(self, x: Tensor) -> Tensor:
        return self.rows @ (x @ self.columns)


class LoweredStfpm(nn.Module):
    """What goes into the graph.

    Attributes:
        offset: (3, 1, 1), subtracted from the pixels.
        teacher, student: without batch norms.
        large: per tap, its map to the size of the product.
    """

    offset: Tensor

    def __init__(
        self, offset: Tensor, teacher: nn.Module, student: nn.Module, large: list[nn.Module]
    ) -> None:
        super().__init__()
        self.register_buffer("offset", offset)
        self.teacher, self.student = teacher, student
        self.large = nn.ModuleList(large)

    def forward(self, image: Tensor) -> DetectorOutput:
        """Score (N, H, W, 3) uint8 RGB images; the map is (N, 1, h, w)."""
        pixels = image.permute(0, 3, 1, 2).to(self.offset.dtype) - self.offset
        found: Tensor | None = None
        pairs = zip(self.teacher(pixels), self.student(pixels), self.large, strict=True)
        for taught, learnt, large in pairs:
            one = large((unit(taught, _EPS) - unit(learnt, _EPS)).square().sum(1, keepdim=True))
            found = one if found is None else found * one
        assert found is not None
        return DetectorOutput(found)


def lower(detector: Stfpm) -> LoweredStfpm:
    """The same function as `detector` in evaluation mode, folded in float64, in the detector's own dtype."""
    mean, std = detector.teacher.mean.double(), detector.teacher.std.double()
    image, scale = torch.rand(1, 3, 64, 64), 1 / (255 * std.flatten())
    networks = [fold_backbone(one, image, scale) for one in (detector.teacher, detector.student)]
    height, width = detector.geometry.input_size
    strides = [detector.teacher.spec.taps[tap].stride for tap in detector.config.taps]
    grids = [(-(-height // stride), -(-width // stride)) for stride in strides]
    large: list[nn.Module] = [
        nn.Identity() if grid == detector.grid else _Enlarged(grid, detector.grid) for grid in grids
    ]
    lowered = LoweredStfpm(255 * mean, networks[0], networks[1], large)
    return lowered.to(detector.teacher.mean.dtype).requires_grad_(False).eval()
