"""EfficientAD: a student that fails to imitate its teacher where an image is odd, beside an autoencoder.

Batzner, Heckler, König, "EfficientAD: Accurate Visual Anomaly Detection at Millisecond-Level Latencies"
(WACV 2024). The two known implementations differ in the order of the map's last steps; that order is data
here. This is the straightforward form: every step by itself, nothing folded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from edgead.backbones._base import IMAGENET_MEAN, IMAGENET_STD
from edgead.detectors._base import Detector, DetectorOutput
from edgead.detectors._efficientad_networks import BORDER, CHANNELS, Autoencoder, Size, description_network
from edgead.errors import ModelError, UsageError
from edgead.types import Geometry, PostRecipe

MapOrder = Literal["quantile_then_upsample", "upsample_then_quantile"]

# A map value at the upper quantile of the good images becomes 0.1, as in the paper; each map counts half.
_UPPER_VALUE = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class EfficientAdConfig:
    """What fixes the networks' shape and the map's way.

    Attributes:
        size: of the patch description networks: ``small`` and ``medium`` are the paper's, ``edge`` needs at
            most an eighth of the small one's multiply-accumulates.
        padding: whether the description networks pad; the paper's do not when they detect.
        map_padding: cells of zeros around the maps on each side; 4 makes a map without padding as large as
            the image.
        map_order: ``quantile_then_upsample``: the maps are normalised by their quantiles, then padded and
            up-sampled, so the border is 0 (nelson1425); ``upsample_then_quantile``: the other way round, and
            the quantiles are of the up-sampled maps (anomalib).
    """

    size: Size
    geometry: Geometry
    padding: bool = False
    map_padding: int = BORDER
    map_order: MapOrder = "quantile_then_upsample"

    def __post_init__(self) -> None:
        if self.size not in get_args(Size):
            raise UsageError(f"efficientad: size {self.size!r} is unknown; use {', '.join(get_args(Size))}")
        if self.map_order not in get_args(MapOrder):
            raise UsageError(
                f"efficientad: map_order {self.map_order!r} is unknown; use {' or '.join(get_args(MapOrder))}"
            )
        if self.map_padding < 0:
            raise UsageError(f"efficientad: map_padding {self.map_padding} must be at least 0")
        height, width = self.geometry.input_size
        if min(height, width) < 64 or height % 32 or width % 32:
            raise UsageError(
                f"efficientad: input size {height}x{width}; each side must be a multiple of 32, at least 64"
            )

    @property
    def grid(self) -> tuple[int, int]:
        """(h, w) of the raw maps."""
        less = 0 if self.padding else 2 * BORDER
        height, width = self.geometry.input_size
        return height // 4 - less, width // 4 - less


class EfficientAd(Detector):
    """The networks; weights are random until training or loading fills them.

    Attributes:
        config: what it was built from.
        teacher: frozen description network, 384 channels.
        student: description network of 768 channels: the teacher's and the autoencoder's imitation.
        ae: autoencoder to the teacher's channels.
        teacher_mean, teacher_std: (384, 1, 1), of the teacher's output over good images.
        quantiles: (2, 2) float64, rows student-teacher and autoencoder, columns the 0.9 and 0.995 quantiles
            of the maps of good images. As built, they leave the maps as they are.
    """

    name = "efficientad"
    config_class = EfficientAdConfig
    config: EfficientAdConfig

    mean: Tensor
    std: Tensor
    teacher_mean: Tensor
    teacher_std: Tensor
    quantiles: Tensor

    def __init__(self, config: EfficientAdConfig) -> None:
        super().__init__()
        self.config = config
        self.geometry = config.geometry
        self.teacher = description_network(config.size, CHANNELS, padding=config.padding)
        self.student = description_network(config.size, 2 * CHANNELS, padding=config.padding)
        self.ae = Autoencoder(config.geometry.input_size, config.grid, light=config.size == "edge")
        self.teacher.requires_grad_(False)
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(3, 1, 1), persistent=False)
        self.register_buffer("teacher_mean", torch.zeros(CHANNELS, 1, 1))
        self.register_buffer("teacher_std", torch.ones(CHANNELS, 1, 1))
        # On the CPU wherever the networks are: the recipe is made of these values.
        plain = [[0.0, _UPPER_VALUE], [0.0, _UPPER_VALUE]]
        self.register_buffer("quantiles", torch.tensor(plain, dtype=torch.float64, device="cpu"))

    @property
    def grid(self) -> tuple[int, int]:
        """(h, w) of the raw maps."""
        return self.config.grid

    @property
    def post_recipe(self) -> PostRecipe:
        """Both maps by their quantiles, half each; zeros around; bilinear to the input size; the maximum.

        With quantiles a and b of a map D, 0.5·0.1·(D − a)/(b − a) is alpha·D + its share of gamma.

        Raises:
            ModelError: a quantile is not finite, or the upper one of a map is not above the lower one.
        """
        quantiles: list[list[float]] = self.quantiles.tolist()
        alphas = []
        for name, (lower, upper) in zip(("student-teacher", "autoencoder"), quantiles, strict=True):
            if not 0 < upper - lower < float("inf"):
                raise ModelError(
                    f"efficientad: the quantiles of the {name} map are {lower} and {upper}; the second must "
                    "be above the first: train again, or import with good images (--calib)"
                )
            alphas.append(0.5 * _UPPER_VALUE / (upper - lower))
        first = self.config.map_order == "quantile_then_upsample"
        return PostRecipe(
            grid=self.grid,
            output=self.geometry.input_size,
            channels=2,
            alpha=tuple(alphas),
            gamma=0.0 - sum(alpha * pair[0] for alpha, pair in zip(alphas, quantiles, strict=True)),
            gamma_stage="before" if first else "after",
            pad=(self.config.map_padding,) * 4,
            upsample="bilinear",
            score_rule="max",
        )

    def normalise(self, image: Tensor) -> Tensor:
        """(N, H, W, 3) uint8 RGB to (N, 3, H, W) by ImageNet's mean and deviation."""
        pixels = image.permute(0, 3, 1, 2).to(self.mean.dtype) / 255.0
        return (pixels - self.mean) / self.std

    def describe(self, normalised: Tensor) -> Tensor:
        """The teacher's description of (N, 3, H, W), standardised: (N, 384, h, w)."""
        described: Tensor = (self.teacher(normalised) - self.teacher_mean) / self.teacher_std
        return described

    def forward(self, image: Tensor) -> DetectorOutput:
        """Score (N, H, W, 3) uint8 RGB images; the maps are (N, 2, h, w): student-teacher, autoencoder."""
        pixels = self.normalise(image)
        student_of_teacher, student_of_autoencoder = self.student(pixels).split(CHANNELS, dim=1)
        of_teacher = (self.describe(pixels) - student_of_teacher).square().mean(1)
        of_autoencoder = (self.ae(pixels) - student_of_autoencoder).square().mean(1)
        return DetectorOutput(torch.stack([of_teacher, of_autoencoder], dim=1))

    def train(self, mode: bool = True) -> EfficientAd:
        """Switch student and autoencoder; the teacher stays frozen in evaluation mode."""
        super().train(mode)
        self.teacher.eval()
        return self
