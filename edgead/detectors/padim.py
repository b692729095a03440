"""PaDiM: at each position a Gaussian over a frozen backbone's features, and the distance from it.

Defard et al., "PaDiM: a Patch Distribution Modeling Framework for Anomaly Detection and Localization" (2021),
as xiahaifeng1995's and anomalib's code compute it. This is the straightforward form: nothing folded.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from edgead.backbones import _base as backbones
from edgead.detectors._base import Detector, DetectorOutput
from edgead.errors import UsageError
from edgead.types import Border, Geometry, PostRecipe

# A graph is one protobuf message while it is made, and those end at 2 GiB.
_LIMIT_BYTES = 3 << 29


@dataclass(frozen=True, slots=True, kw_only=True)
class PadimConfig:
    """What fixes the network's shape and pixels.

    Attributes:
        taps: the backbone's taps, the finest first; their channels, tap after tap, are the features.
        dim: features per position that are kept, chosen at random.
        blur_sigma: of the map's Gaussian, in input pixels.
        border: of the blur: ``reflect`` as SciPy's, ``mirror`` as anomalib's (torch's "reflect").
    """

    backbone: str
    taps: tuple[str, ...]
    dim: int
    geometry: Geometry
    blur_sigma: float = 4.0
    border: Border = "reflect"

    def __post_init__(self) -> None:
        if self.border not in ("reflect", "mirror"):
            raise UsageError(f"padim: border {self.border!r} is unknown; use reflect or mirror")


class Padim(Detector):
    """The network and its Gaussians, which are those of no product until training or loading fills them.

    Attributes:
        backbone: frozen feature network (`Backbone`).
        index: (dim,) int64, the features that are kept.
        mean: (h·w, dim), per position in row order.
        inv_covariance: (h·w, dim, dim), symmetric.
        features: how many there are to choose from.
    """

    name = "padim"
    config_class = PadimConfig
    tuples = ("taps",)
    config: PadimConfig
    index: Tensor
    mean: Tensor
    inv_covariance: Tensor

    def __init__(self, config: PadimConfig) -> None:
        super().__init__()
        self.config = config
        self.geometry = config.geometry
        self.backbone = backbones.build(config.backbone, config.taps)
        taps = [self.backbone.spec.taps[tap] for tap in config.taps]
        self.features = sum(tap.channels for tap in taps)
        if not 1 <= config.dim <= self.features:
            raise UsageError(f"padim: dim {config.dim}: the taps have 1 to {self.features} features to keep")
        if taps[0].stride > min(tap.stride for tap in taps):
            raise UsageError(f"padim: taps {', '.join(config.taps)}: put the finest one first")
        height, width = self.geometry.input_size
        self.grid = (-(-height // taps[0].stride), -(-width // taps[0].stride))
        positions = self.grid[0] * self.grid[1]
        needed = 4 * positions * config.dim**2
        if needed > _LIMIT_BYTES:
            raise UsageError(
                f"padim: {positions} covariances of {config.dim}² values take {needed / 2**30:.1f} GiB, a "
                f"graph holds {_LIMIT_BYTES / 2**30:.1f}; keep fewer features or use fewer pixels"
            )
        self.register_buffer("index", torch.arange(config.dim))
        self.register_buffer("mean", torch.zeros(positions, config.dim))
        self.register_buffer("inv_covariance", torch.eye(config.dim).repeat(positions, 1, 1))

    @property
    def post_recipe(self) -> PostRecipe:
        """Bilinear to the input size, Gaussian blur; the score is the map's maximum."""
        return PostRecipe(
            grid=self.grid,
            output=self.geometry.input_size,
            upsample="bilinear",
            blur_sigma=self.config.blur_sigma,
            blur_truncate=4.0,
            border=self.config.border,
            score_rule="max",
        )

    def embed(self, image: Tensor) -> Tensor:
        """(N, H, W, 3) uint8 RGB to the features that are kept, (N, h·w, dim)."""
        taps = self.backbone(self.backbone.normalise(image))
        large = [F.interpolate(tap, size=self.grid, mode="nearest") for tap in taps]
        return torch.cat(large, dim=1).index_select(1, self.index).flatten(2).transpose(1, 2)

    def forward(self, image: Tensor) -> DetectorOutput:
        """Score (N, H, W, 3) uint8 RGB images; the map, Mahalanobis distances, is (N, 1, h, w)."""
        delta = self.embed(image) - self.mean
        squares = torch.einsum("npd,pde,npe->np", delta, self.inv_covariance, delta)
        return DetectorOutput(squares.clamp_min(0).sqrt().view(-1, 1, *self.grid))

    def train(self, mode: bool = True) -> Padim:
        """Nothing here is trained by steps: the backbone stays in evaluation mode."""
        super().train(mode)
        self.backbone.eval()
        return self
