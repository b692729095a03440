"""DiffusionAD: one guided step of denoising gives a clean image; a second network compares it with the real.

Zhang, Wang, Wu, Jiang, "DiffusionAD: Norm-guided One-step Denoising Diffusion for Anomaly Detection" (2023),
as the authors' code computes it. That draws new noise for every image; here the noise is part of the model,
so that an image has one score, in every engine. This is the straightforward form: each step written out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from edgead.detectors._base import Detector, DetectorOutput
from edgead.detectors._diffusion_networks import SEGMENTATION_HALVINGS, DenoisingUnet, SegmentationUnet
from edgead.detectors._diffusion_schedule import STEPS, roots
from edgead.errors import UsageError
from edgead.types import Geometry, PostRecipe


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffusionAdConfig:
    """What fixes the networks' shape and the noise levels.

    Attributes:
        base: the denoising network's channels at full size.
        multipliers: of `base`, one per size; each next size is half.
        blocks: residual blocks per size.
        attention: factors of down-sampling at which positions attend to each other.
        heads: of the attention.
        groups: of every group norm; divides `base`.
        segmentation_width: the segmentation network's channels at full size.
        levels: steps t of the light and of the heavy noise.
        guidance: weight of what the heavy noise leaves of the image (w).
        top_k: highest values of the map whose mean is the score.
    """

    geometry: Geometry
    base: int
    segmentation_width: int
    multipliers: tuple[int, ...] = (1, 1, 2, 2, 4, 4)
    blocks: int = 2
    attention: tuple[int, ...] = (8, 16, 32)
    heads: int = 4
    groups: int = 32
    levels: tuple[int, int] = (200, 400)
    guidance: float = 1.0
    top_k: int = 50

    def __post_init__(self) -> None:
        counts = (self.base, self.segmentation_width, self.blocks, self.heads, self.groups, self.top_k)
        if min(*counts, *self.multipliers, *self.attention) < 1 or not self.multipliers:
            raise UsageError("diffusionad: widths, blocks, heads, groups and top_k must be at least 1")
        check_divisions(
            "diffusionad", self.base, self.multipliers, self.attention, heads=self.heads, groups=self.groups
        )
        if len(self.levels) != 2 or not 0 <= self.levels[0] < self.levels[1] < STEPS:
            raise UsageError(f"diffusionad: levels {self.levels}; two steps that rise, 0 … {STEPS - 1}")
        check_size("diffusionad", self.geometry, max(len(self.multipliers) - 1, SEGMENTATION_HALVINGS))


class DiffusionAd(Detector):
    """Both networks and the noise; all are random until training or loading fills them.

    Attributes:
        config: what it was built from.
        unet: guesses the noise in an image.
        segmentation: reads image and reconstruction.
        noise: (2, 3, H, W), standard normal, for the light and the heavy level.
    """

    noise: Tensor

    def __init__(self, config: DiffusionAdConfig) -> None:
        super().__init__()
        self.name = "diffusionad"
        self.config = config
        self.geometry = config.geometry
        self.unet = DenoisingUnet(
            base=config.base,
            multipliers=config.multipliers,
            blocks=config.blocks,
            attention=config.attention,
            heads=config.heads,
            groups=config.groups,
        )
        self.segmentation = SegmentationUnet(config.segmentation_width)
        self.register_buffer("noise", torch.randn(2, 3, *config.geometry.input_size))

    @property
    def post_recipe(self) -> PostRecipe:
        """The map as it is; the score is the mean of its highest values."""
        size = self.geometry.input_size
        return PostRecipe(
            grid=size, output=size, upsample="none", score_rule="top_k_mean", top_k=self.config.top_k
        )

    @torch.no_grad()
    def draw_noise(self, random: torch.Generator) -> None:
        """Fill the noise; `random` is a generator on the CPU, whatever device the noise is on."""
        self.noise.copy_(torch.randn(self.noise.shape, generator=random))

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
        levels = torch.tensor(self.config.levels, device=x.device)[:, None].expand(2, len(x))
        reconstruction, _ = self.reconstruct(x, self.noise[:, None], levels)
        return DetectorOutput(self.segment(x, reconstruction).sigmoid())

    def config_dict(self) -> dict[str, Any]:
        """The config as JSON values."""
        return asdict(self.config)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> DiffusionAd:
        """Build the networks from `config_dict` output or from a preset's values, with random weights.

        Raises:
            UsageError: a value is missing, unknown or out of range.
        """
        values = dict(config)
        try:
            geometry = Geometry.from_values(values.pop("geometry"))
            values |= {
                key: tuple(values[key]) for key in ("multipliers", "attention", "levels") if key in values
            }
            return cls(DiffusionAdConfig(geometry=geometry, **values))
        except (KeyError, TypeError) as err:
            raise UsageError(f"diffusionad: the config does not fit: {err}") from err


def check_divisions(
    name: str,
    base: int,
    multipliers: tuple[int, ...],
    attention: tuple[int, ...],
    *,
    heads: int,
    groups: int,
) -> None:
    """Make sure that a denoising network's channels divide into groups and heads.

    Raises:
        UsageError: they do not.
    """
    if base % 2 or base % groups:
        raise UsageError(f"{name}: base {base} must be even and divide into {groups} groups")
    attending = [base * factor for level, factor in enumerate(multipliers) if 2**level in attention]
    for channels in (*attending, base * multipliers[-1]):
        if channels % heads:
            raise UsageError(f"{name}: {channels} channels do not divide into {heads} heads")


def check_size(name: str, geometry: Geometry, halvings: int) -> None:
    """Make sure that a network can halve the input that often.

    Raises:
        UsageError: it cannot.
    """
    step = 2**halvings
    height, width = geometry.input_size
    if min(height, width) < step or height % step or width % step:
        raise UsageError(
            f"{name}: input size {height}x{width}; the networks halve it {halvings} times, so each side must "
            f"be a multiple of {step}"
        )
