"""Reverse Distillation: a decoder rebuilds a frozen teacher's features from a narrow embedding of them.

Deng and Li, "Anomaly Detection via Reverse Distillation from One-Class Embedding" (CVPR 2022), as the
authors' code (RD4AD) computes it. This is the straightforward form: nothing folded.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from edgead.backbones import _base as backbones
from edgead.detectors._base import Detector, DetectorOutput
from edgead.detectors._reverse_networks import Decoder, Embedding
from edgead.errors import UsageError
from edgead.types import Border, Geometry, PostRecipe


@dataclass(frozen=True, slots=True, kw_only=True)
class ReverseDistillationConfig:
    """What fixes the network's shape and pixels.

    Attributes:
        backbone: of the teacher; wide_resnet50_2 gets the paper's decoder of bottleneck blocks, any other one
            of basic blocks, as deep as ResNet-18.
        taps: three, of strides 4, 8 and 16.
        blur_sigma: of the map's Gaussian, in input pixels.
        border: of the blur: ``reflect`` as the authors' (SciPy's), ``mirror`` as anomalib's (torch's).
        embedding_width: of the embedding's bottleneck blocks, over ResNet-50's: 2 as the authors', 1 as
            anomalib's; basic blocks have none.
    """

    backbone: str
    taps: tuple[str, ...]
    geometry: Geometry
    blur_sigma: float = 4.0
    border: Border = "reflect"
    embedding_width: int = 2

    def __post_init__(self) -> None:
        if self.embedding_width not in (1, 2):
            raise UsageError(f"reverse_distillation: embedding_width {self.embedding_width}: give 1 or 2")
        if self.border not in ("reflect", "mirror"):
            raise UsageError(
                f"reverse_distillation: border {self.border!r} is unknown; use reflect or mirror"
            )
        height, width = self.geometry.input_size
        if height % 32 or width % 32:
            raise UsageError(
                f"reverse_distillation: input size {height}x{width}: the decoder doubles a grid of stride 32 "
                "three times, so give multiples of 32"
            )


class ReverseDistillation(Detector):
    """Teacher, embedding and decoder; weights are random until training or loading fills them.

    Attributes:
        encoder: the teacher, frozen (`Backbone`).
        bottleneck: its features to an embedding (`Embedding`), trained.
        decoder: the embedding to features (`Decoder`), trained.
    """

    name = "reverse_distillation"
    config_class = ReverseDistillationConfig
    tuples = ("taps",)
    config: ReverseDistillationConfig

    def __init__(self, config: ReverseDistillationConfig) -> None:
        super().__init__()
        self.config = config
        self.geometry = config.geometry
        self.encoder = backbones.build(config.backbone, config.taps)
        taps = [self.encoder.spec.taps[tap] for tap in config.taps]
        if [tap.stride for tap in taps] != [4, 8, 16]:
            raise UsageError(
                f"reverse_distillation: taps {', '.join(config.taps)}: give three, of strides 4, 8 and 16"
            )
        channels, wide = [tap.channels for tap in taps], config.backbone == "wide_resnet50_2"
        self.bottleneck = Embedding(channels, wide=wide, width=config.embedding_width)
        self.decoder = Decoder(channels, wide=wide)

    @property
    def post_recipe(self) -> PostRecipe:
        """Gaussian blur of the map, which has the input's size; the score is its maximum."""
        return PostRecipe(
            grid=self.geometry.input_size,
            output=self.geometry.input_size,
            upsample="none",
            blur_sigma=self.config.blur_sigma,
            blur_truncate=4.0,
            border=self.config.border,
            score_rule="max",
        )

    def features(self, image: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """(N, 3, H, W) normalised to the teacher's maps and the rebuilt ones, the finest first."""
        taps = self.encoder(image)
        return taps, self.decoder(self.bottleneck(taps))

    def forward(self, image: Tensor) -> DetectorOutput:
        """Score (N, H, W, 3) uint8 RGB images; the map, Σ (1 − cos) over the taps, is (N, 1, H, W)."""
        pairs = zip(*self.features(self.encoder.normalise(image)), strict=True)
        distances = [1 - F.cosine_similarity(taught, rebuilt, dim=1)[:, None] for taught, rebuilt in pairs]
        large = [
            F.interpolate(one, size=self.geometry.input_size, mode="bilinear", align_corners=True)
            for one in distances
        ]
        return DetectorOutput(torch.stack(large).sum(0))

    def train(self, mode: bool = True) -> ReverseDistillation:
        """Switch embedding and decoder; the teacher stays frozen in evaluation mode."""
        super().train(mode)
        self.encoder.eval()
        return self
