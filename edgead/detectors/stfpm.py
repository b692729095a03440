"""STFPM: a student imitates a frozen teacher of the same shape; where their features differ is the map.

Wang et al., "Student-Teacher Feature Pyramid Matching for Anomaly Detection" (BMVC 2021), as the authors'
code (gdwang08/STFPM) computes it, and in anomalib's order. This is the straightforward form: nothing folded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from edgead.backbones import _base as backbones
from edgead.detectors._base import Detector, DetectorOutput
from edgead.errors import UsageError
from edgead.types import Geometry, PostRecipe

MapOrder = Literal["product_then_upsample", "upsample_then_product"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StfpmConfig:
    """What fixes the network's shape and pixels.

    Attributes:
        backbone: of teacher and student.
        taps: whose features are compared; one map each.
        map_order: ``product_then_upsample``: the maps are multiplied on the finest tap's grid, as the authors
            do; ``upsample_then_product``: on the input's pixels, as anomalib does.
        factor: of each map before the product; the authors' 1, anomalib's 0.5.
    """

    backbone: str
    taps: tuple[str, ...]
    geometry: Geometry
    map_order: MapOrder = "product_then_upsample"
    factor: float = 1.0

    def __post_init__(self) -> None:
        if self.map_order not in ("product_then_upsample", "upsample_then_product"):
            raise UsageError(
                f"stfpm: map_order {self.map_order!r} is unknown; use product_then_upsample or "
                "upsample_then_product"
            )
        if not self.factor > 0:
            raise UsageError(f"stfpm: factor {self.factor}: give a number above 0")


class Stfpm(Detector):
    """Teacher and student; weights are random until training or loading fills them.

    Attributes:
        teacher: frozen (`Backbone`).
        student: the same network, trained.
    """

    name = "stfpm"
    config_class = StfpmConfig
    tuples = ("taps",)
    config: StfpmConfig

    def __init__(self, config: StfpmConfig) -> None:
        super().__init__()
        self.config = config
        self.geometry = config.geometry
        self.teacher = backbones.build(config.backbone, config.taps)
        self.student = backbones.build(config.backbone, config.taps).requires_grad_(True)

    @property
    def grid(self) -> tuple[int, int]:
        """(h, w) of the raw map."""
        height, width = self.geometry.input_size
        if self.config.map_order == "upsample_then_product":
            return height, width
        stride = min(self.teacher.spec.taps[tap].stride for tap in self.config.taps)
        return -(-height // stride), -(-width // stride)

    @property
    def post_recipe(self) -> PostRecipe:
        """Bilinear to the input size, no blur; the score is the map's maximum."""
        grid = self.grid
        return PostRecipe(
            grid=grid,
            output=self.geometry.input_size,
            alpha=(self.config.factor ** len(self.config.taps),),
            upsample="none" if grid == self.geometry.input_size else "bilinear",
            score_rule="max",
        )

    def differences(self, image: Tensor) -> tuple[Tensor, ...]:
        """(N, 3, H, W) normalised to Σ_c (t/‖t‖ − s/‖s‖)² per tap, (N, 1, h, w): from 0 to 4."""
        pairs = zip(self.teacher(image), self.student(image), strict=True)
        return tuple(
            (F.normalize(taught, dim=1) - F.normalize(learnt, dim=1)).square().sum(1, keepdim=True)
            for taught, learnt in pairs
        )

    def forward(self, image: Tensor) -> DetectorOutput:
        """Score (N, H, W, 3) uint8 RGB images; the map is (N, 1, h, w)."""
        found = self.differences(self.teacher.normalise(image))
        large = [F.interpolate(one, size=self.grid, mode="bilinear", align_corners=False) for one in found]
        return DetectorOutput(torch.stack(large).prod(0))

    def train(self, mode: bool = True) -> Stfpm:
        """Switch the student; the teacher stays frozen in evaluation mode."""
        super().train(mode)
        self.teacher.eval()
        return self
