"""What detectors around a denoising network share: its sizes, the network, and the noise that it is given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from edgead.detectors._base import Detector
from edgead.detectors._diffusion_networks import DenoisingUnet
from edgead.errors import UsageError
from edgead.types import Geometry


@dataclass(frozen=True, slots=True, kw_only=True)
class DenoisingConfig:
    """What fixes the denoising network's shape.

    Attributes:
        base: its channels at full size.
        multipliers: of `base`, one per size; each next size is half.
        blocks: residual blocks per size.
        attention: factors of down-sampling at which positions attend to each other.
        heads: of the attention.
        groups: of every group norm; divides `base`.
    """

    geometry: Geometry
    base: int
    multipliers: tuple[int, ...] = (1, 1, 2, 2, 4, 4)
    blocks: int = 2
    attention: tuple[int, ...] = (8, 16, 32)
    heads: int = 4
    groups: int = 32

    def check(self, name: str, *, halvings: int = 0, counts: tuple[int, ...] = ()) -> None:
        """Make sure that the sizes go together.

        Args:
            name: of the detector, for messages.
            halvings: of the input by its other networks.
            counts: its own that must be at least 1.

        Raises:
            UsageError: they do not.
        """
        own = (self.base, self.blocks, self.heads, self.groups, *self.multipliers, *self.attention)
        if min(*own, *counts) < 1 or not self.multipliers:
            raise UsageError(f"{name}: widths, blocks, heads, groups and other counts must be at least 1")
        if self.base % 2 or self.base % self.groups:
            raise UsageError(f"{name}: base {self.base} must be even and divide into {self.groups} groups")
        channels = [self.base * factor for factor in self.multipliers]
        attending = [count for level, count in enumerate(channels) if 2**level in self.attention]
        for count in (*attending, channels[-1]):
            if count % self.heads:
                raise UsageError(f"{name}: {count} channels do not divide into {self.heads} heads")
        halvings = max(halvings, len(self.multipliers) - 1)
        step = 2**halvings
        height, width = self.geometry.input_size
        if min(height, width) < step or height % step or width % step:
            raise UsageError(
                f"{name}: input size {height}x{width}; the networks halve it {halvings} times, so each side "
                f"must be a multiple of {step}"
            )


class DenoisingDetector(Detector):
    """A denoising network and its noise; both are random until training or loading fills them.

    Attributes:
        unet: guesses the noise in an image.
        noise: (levels, 3, H, W), standard normal.
    """

    tuples: ClassVar[tuple[str, ...]] = ("multipliers", "attention")
    noise: Tensor

    def __init__(self, config: DenoisingConfig, levels: int) -> None:
        super().__init__()
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
        self.register_buffer("noise", torch.randn(levels, 3, *config.geometry.input_size))

    @torch.no_grad()
    def draw_noise(self, random: torch.Generator) -> None:
        """Fill the noise; `random` is a generator on the CPU, whatever device the noise is on."""
        self.noise.copy_(torch.randn(self.noise.shape, generator=random))
