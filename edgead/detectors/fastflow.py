"""FastFlow: a frozen backbone's features go through normalising flows; what is unlikely there is the map.

Yu et al., "FastFlow: Unsupervised Anomaly Detection and Localization via 2D Normalizing Flows" (2021), as
gathierry's and anomalib's code compute it. This is the straightforward form: nothing folded.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgead.backbones import _base as backbones
from edgead.detectors._base import Detector, DetectorOutput
from edgead.detectors._flow import Flow
from edgead.errors import UsageError
from edgead.types import Geometry, PostRecipe


@dataclass(frozen=True, slots=True, kw_only=True)
class FastFlowConfig:
    """What fixes the network's shape and pixels.

    Attributes:
        taps: of the backbone; one flow each.
        flow_steps: couplings per flow.
        only_3x3: all kernels 3 × 3; else every second one is 1 × 1.
        hidden_ratio: channels inside a coupling, over its input's.
        clamp: the logarithm of a coupling's scale stays within ± it.
    """

    backbone: str
    taps: tuple[str, ...]
    geometry: Geometry
    flow_steps: int = 8
    only_3x3: bool = False
    hidden_ratio: float = 1.0
    clamp: float = 2.0

    def __post_init__(self) -> None:
        if self.flow_steps < 1 or not self.hidden_ratio > 0 or not self.clamp > 0:
            raise UsageError(
                f"fastflow: flow_steps {self.flow_steps}, hidden_ratio {self.hidden_ratio} and clamp "
                f"{self.clamp} must be positive"
            )


class FastFlow(Detector):
    """Backbone, norms and flows; weights are random until training or loading fills them.

    Attributes:
        backbone: frozen feature network (`Backbone`).
        norms: per tap, over channels, rows and columns together, with a weight for each value.
        flows: per tap (`Flow`).
    """

    name = "fastflow"
    config_class = FastFlowConfig
    tuples = ("taps",)
    config: FastFlowConfig

    def __init__(self, config: FastFlowConfig) -> None:
        super().__init__()
        self.config = config
        self.geometry = config.geometry
        self.backbone = backbones.build(config.backbone, config.taps)
        taps = [self.backbone.spec.taps[tap] for tap in config.taps]
        height, width = self.geometry.input_size
        self.grids = [(-(-height // tap.stride), -(-width // tap.stride)) for tap in taps]
        self.norms = nn.ModuleList(
            nn.LayerNorm([tap.channels, *grid]) for tap, grid in zip(taps, self.grids, strict=True)
        )
        self.flows = nn.ModuleList(
            Flow(
                tap.channels,
                steps=config.flow_steps,
                only_3x3=config.only_3x3,
                hidden_ratio=config.hidden_ratio,
                clamp=config.clamp,
            )
            for tap in taps
        )

    @property
    def post_recipe(self) -> PostRecipe:
        """The map has the input's size and stays as it is; the score is its maximum."""
        size = self.geometry.input_size
        return PostRecipe(grid=size, output=size, upsample="none", score_rule="max")

    def latent(self, image: Tensor) -> list[tuple[Tensor, Tensor]]:
        """(N, 3, H, W) normalised to, per tap, z (N, C, h, w) and the log-determinant (N,)."""
        taps = zip(self.backbone(image), self.norms, self.flows, strict=True)
        return [flow(norm(tap)) for tap, norm, flow in taps]

    def forward(self, image: Tensor) -> DetectorOutput:
        """Score (N, H, W, 3) uint8 RGB images; the map, from −1 to 0, is (N, 1, H, W)."""
        found = [
            -torch.exp(-0.5 * z.square().mean(1, keepdim=True))
            for z, _ in self.latent(self.backbone.normalise(image))
        ]
        size = self.geometry.input_size
        large = [F.interpolate(one, size=size, mode="bilinear", align_corners=False) for one in found]
        return DetectorOutput(torch.stack(large).mean(0))

    def train(self, mode: bool = True) -> FastFlow:
        """Switch norms and flows; the backbone stays frozen in evaluation mode."""
        super().train(mode)
        self.backbone.eval()
        return self
