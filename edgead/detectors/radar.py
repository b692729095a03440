"""RADAR-style: what a denoising network gets wrong about the noise, in one pass and without a reconstruction.

Our reading of the abstract of Moradi, Grasso, Colosimo, Paynabar, "Single-Step Reconstruction-Free Anomaly
Detection and Segmentation via Diffusion Models" (2025): a network that was trained on good images alone takes
an image with a little noise on it, and edges in its guess of that noise betray what it does not know. Noise
level, patches and widths of the authors are not known here, and their isolation forest is left out: the score
is the map's maximum. Since the noise is stored, it can be taken off the guess (`evidence`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from edgead.detectors._base import DetectorOutput
from edgead.detectors._denoising import DenoisingConfig, DenoisingDetector
from edgead.detectors._diffusion_schedule import STEPS, roots
from edgead.errors import UsageError
from edgead.types import PostRecipe

Evidence = Literal["error", "guess"]

# Kept from 0 under the root, whose slope would be infinite there.
EPS = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class RadarConfig(DenoisingConfig):
    """What fixes the network's shape and its evidence.

    Attributes:
        level: step t of the noise.
        evidence: ``error``: edges in what the guess is off; ``guess``: in the guess itself, as the authors.
        blur_sigma: of the map's Gaussian, in pixels.
    """

    level: int = 100
    evidence: Evidence = "error"
    blur_sigma: float = 4.0

    def __post_init__(self) -> None:
        self.check("radar")
        if not 0 <= self.level < STEPS:
            raise UsageError(f"radar: level {self.level}; give a step 0 … {STEPS - 1}")
        if self.evidence not in get_args(Evidence):
            raise UsageError(
                f"radar: evidence {self.evidence!r} is unknown; use {' or '.join(get_args(Evidence))}"
            )


class Radar(DenoisingDetector):
    """The network and the noise, (1, 3, H, W)."""

    name = "radar"
    config_class = RadarConfig
    config: RadarConfig

    def __init__(self, config: RadarConfig) -> None:
        super().__init__(config, 1)

    @property
    def post_recipe(self) -> PostRecipe:
        """Gaussian blur of the edges; the score is the maximum."""
        size = self.geometry.input_size
        return PostRecipe(
            grid=size,
            output=size,
            upsample="none",
            blur_sigma=self.config.blur_sigma,
            border="mirror",
            score_rule="max",
        )

    def pixels(self, image: Tensor) -> Tensor:
        """(N, H, W, 3) uint8 RGB to (N, 3, H, W) in −1 … 1, which is what the network reads."""
        return image.permute(0, 3, 1, 2).to(self.noise.dtype) / 127.5 - 1.0

    def guess(self, x: Tensor, noise: Tensor, levels: Tensor) -> Tensor:
        """The network's guess of `noise`, (N or 1, 3, H, W), in x (N, 3, H, W) after (N,) steps of it."""
        a, s = roots(levels, x)
        guess: Tensor = self.unet(a * x + s * noise, levels).to(x)
        return guess

    def forward(self, image: Tensor) -> DetectorOutput:
        """Score (N, H, W, 3) uint8 RGB images; the map is (N, 1, H, W), the strength of edges."""
        x = self.pixels(image)
        levels = torch.full((len(x),), self.config.level, device=x.device)
        found = self.guess(x, self.noise, levels)
        if self.config.evidence == "error":
            found = found - self.noise
        grey = F.pad(found.mean(1, keepdim=True), (1, 1, 1, 1), mode="reflect")
        across = grey[..., 2:] - grey[..., :-2]
        down = grey[..., 2:, :] - grey[..., :-2, :]
        across = across[..., :-2, :] + 2 * across[..., 1:-1, :] + across[..., 2:, :]
        down = down[..., :-2] + 2 * down[..., 1:-1] + down[..., 2:]
        return DetectorOutput((across**2 + down**2 + EPS).sqrt())
