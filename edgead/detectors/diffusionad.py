"""DiffusionAD: one guided step of denoising gives a clean image; a second network compares it with the real.

Zhang, Wang, Wu, Jiang, "DiffusionAD: Norm-guided One-step Denoising Diffusion for Anomaly Detection" (2023),
as the authors' code computes it. That draws new noise for every image; here the noise is part of the model,
so that an image has one score, in every engine. This is the straightforward form: each step written out.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from edgead.detectors._base import DetectorOutput
from edgead.detectors._denoising import DenoisingConfig, DenoisingDetector
from edgead.detectors._diffusion_networks import SEGMENTATION_HALVINGS, SegmentationUnet
from edgead.detectors._diffusion_schedule import STEPS, roots
from edgead.errors import UsageError
from edgead.types import PostRecipe


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffusionAdConfig(DenoisingConfig):
    """What fixes the networks' shape and the noise levels.

    Attributes:
        segmentation_width: the segmentation network's channels at full size.
        levels: steps t of the light and of the heavy noise.
        guidance: weight of what the heavy noise leaves of the image (w).
        top_k: highest values of the map whose mean is the score.
    """

    segmentation_width: int
    levels: tuple[int, int] = (200, 400)
    guidance: float = 1.0
    top_k: int = 50

    def __post_init__(self) -> None:
        counts = (self.segmentation_width, self.top_k)
        self.check("diffusionad", halvings=SEGMENTATION_HALVINGS, counts=counts)
        if len(self.levels) != 2 or not 0 <= self.levels[0] < self.levels[1] < STEPS:
            raise UsageError(f"diffusionad: levels {self.levels}; two steps that rise, 0 … {STEPS - 1}")


class DiffusionAd(DenoisingDetector):
    """Both networks and the noise; all are random until training or loading fills them.

    Attributes:
        segmentation: reads image and reconstruction.
        noise: (2, 3, H, W), for the light and the heavy level.
    """

    name = "diffusionad"
    config_class = DiffusionAdConfig
    tuples = (*DenoisingDetector.tuples, "levels")
    config: DiffusionAdConfig

    def __init__(self, config: DiffusionAdConfig) -> None:
        super().__init__(config, 2)
        self.segmentation = SegmentationUnet(config.segmentation_width)

    @property
    def post_recipe(self) -> PostRecipe:
        """The map as it is; the score is the mean of its highest values."""
        size = self.geometry.input_size
        return PostRecipe(
            grid=size, output=size, upsample="none", score_rule="top_k_mean", top_k=self.config.top_k
        )

    def pixels(self, image: Tensor) -> Tensor:
        """(N, H, W, 3) uint8 RGB to (N, 3, H, W) in 0 … 1, which is what the networks read."""
        return image.permute(0, 3, 1, 2).to(self.noise.dtype) / 255.0

    def reconstruct(self, x: Tensor, noise: Tensor, levels: Tensor) -> tuple[Tensor, Tensor]:
        """One guided step: what the images would be without their anomalies.

        With a = √ᾱ and s = √(1 − ᾱ) at the light level, A and S at the heavy one, n the noise and E the
        network, in the order of the authors' code:

            x_s = a·x + s·n_s,  x_b = A·x + S·n_b,  e_s = E(x_s),  e_b = E(x_b)
            x0_b = clip((x_b − S·e_b)/A),  x_t = a·x0_b + s·e_s
            e = e_s − s·w·(x_t − x_s),  x0 = clip((x_s − s·e)/a),  clip to −1 … 1

        Args:
            x: (N, 3, H, W) in 0 … 1.
            noise: (2, N, 3, H, W), or (2, 1, 3, H, W) for all images.
            levels: (2, N) int64 steps t, light and heavy.

        Returns:
            (reconstruction, guesses): (N, 3, H, W) in −1 … 1, and (2, N, 3, H, W), the network's of `noise`.
        """
        (a, s), (big_a, big_s) = (roots(level, x) for level in levels)
        x_s, x_b = a * x + s * noise[0], big_a * x + big_s * noise[1]
        e_s, e_b = (self.unet(seen, level).to(x) for seen, level in zip((x_s, x_b), levels, strict=True))
        x0_b = ((x_b - big_s * e_b) / big_a).clamp(-1, 1)
        x_t = a * x0_b + s * e_s
        guided = e_s - s * self.config.guidance * (x_t - x_s)
        return ((x_s - s * guided) / a).clamp(-1, 1), torch.stack([e_s, e_b])

    def segment(self, x: Tensor, reconstruction: Tensor) -> Tensor:
        """(N, 3, H, W) twice to logits of the anomaly, (N, 1, H, W)."""
        logits: Tensor = self.segmentation(torch.cat([x, reconstruction], dim=1)).to(x)
        return logits

    def forward(self, image: Tensor) -> DetectorOutput:
        """Score (N, H, W, 3) uint8 RGB images; the map is (N, 1, H, W), 0 … 1."""
        x = self.pixels(image)
        # Filled where they are needed: a copy from the host cannot be recorded in a CUDA graph.
        levels = torch.stack([torch.full((len(x),), level, device=x.device) for level in self.config.levels])
        reconstruction, _ = self.reconstruct(x, self.noise[:, None], levels)
        return DetectorOutput(self.segment(x, reconstruction).sigmoid())
