"""SimpleNet: a frozen backbone's patch features, a linear projection, and a discriminator per patch.

Liu et al., "SimpleNet: A Simple Network for Image Anomaly Detection and Localization" (CVPR 2023), as the
authors' code computes it. This is the straightforward form: every step by itself, nothing folded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgead.backbones import _base as backbones
from edgead.detectors._base import Detector, DetectorOutput
from edgead.errors import UsageError
from edgead.types import Geometry, PostRecipe


@dataclass(frozen=True, slots=True, kw_only=True)
class SimpleNetConfig:
    """What fixes the network's shape and pixels.

    Attributes:
        taps: the backbone's taps whose patches are embedded; the smallest stride among them gives the grid.
        tap_dim: values per position that each tap's patches are pooled to (the authors'
            pretrain_embed_dimension).
        embedding_dim: values per position after all taps are pooled together (target_embed_dimension).
        hidden_dim: width of the discriminator's hidden layer.
        patch_size: neighbourhood per position, odd, in cells of each tap's own grid.
        projection: whether the linear projection is there (the code's pre_proj).
        blur_sigma: of the map's Gaussian, in input pixels.
        score_rule: ``max_grid``, the highest patch, as in the paper; ``max``, the highest value of the
            blurred map, which one odd patch moves less.
    """

    backbone: str
    taps: tuple[str, ...]
    tap_dim: int
    embedding_dim: int
    hidden_dim: int
    geometry: Geometry
    patch_size: int = 3
    projection: bool = True
    blur_sigma: float = 4.0
    score_rule: Literal["max_grid", "max"] = "max_grid"

    def __post_init__(self) -> None:
        if self.score_rule not in ("max_grid", "max"):
            raise UsageError(f"simplenet: score_rule {self.score_rule!r} is unknown; use max_grid or max")
        sizes = (self.tap_dim, self.embedding_dim, self.hidden_dim, self.patch_size)
        if min(sizes) < 1 or self.patch_size % 2 == 0:
            raise UsageError(f"simplenet: dimensions must be positive and patch_size odd, not {sizes}")


class PatchEmbedding(nn.Module):
    """Tap maps to one vector per position, by fixed averages only: everything here is linear.

    Per tap: the patch_size × patch_size neighbourhood of each cell (zeros outside), bilinear to the finest
    tap's grid, averaged to `tap_dim` values in the order channel, row, column; then the values of all taps,
    one after the other, averaged to `embedding_dim`.
    """

    def __init__(self, *, patch_size: int, tap_dim: int, embedding_dim: int) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.tap_dim = tap_dim
        self.embedding_dim = embedding_dim

    def forward(self, taps: tuple[Tensor, ...]) -> Tensor:
        """(N, C_i, h_i, w_i) per tap to (N, h, w, embedding_dim), h × w being the largest of the grids."""
        grid = max((tuple(tap.shape[2:]) for tap in taps), key=lambda size: size[0] * size[1])
        rows = [self._tap_rows(tap, grid) for tap in taps]
        stacked = torch.cat(rows, dim=1)
        pooled = F.adaptive_avg_pool1d(stacked, self.embedding_dim)
        return pooled.view(-1, *grid, self.embedding_dim)

    def _tap_rows(self, tap: Tensor, grid: tuple[int, ...]) -> Tensor:
        """(N, C, h, w) to (N · grid rows · grid columns, tap_dim)."""
        size = self.patch_size
        patches = F.unfold(tap, size, padding=size // 2).view(len(tap), -1, *tap.shape[2:])
        if tuple(tap.shape[2:]) != grid:
            patches = F.interpolate(patches, size=grid, mode="bilinear", align_corners=False)
        rows = patches.permute(0, 2, 3, 1).reshape(-1, patches.shape[1])
        return F.adaptive_avg_pool1d(rows, self.tap_dim)


class Discriminator(nn.Module):
    """Linear, batch norm, LeakyReLU 0.2, linear without bias: high for normal patches, low for others."""

    def __init__(self, embedding_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(embedding_dim, hidden_dim)
        self.norm = nn.BatchNorm1d(hidden_dim)
        self.activation = nn.LeakyReLU(0.2)
        self.tail = nn.Linear(hidden_dim, 1, bias=False)
        nn.init.xavier_normal_(self.hidden.weight)
        nn.init.xavier_normal_(self.tail.weight)

    def forward(self, features: Tensor) -> Tensor:
        """(M, embedding_dim) to (M,)."""
        hidden: Tensor = self.activation(self.norm(self.hidden(features)))
        scores: Tensor = self.tail(hidden)
        return scores.squeeze(1)


class SimpleNet(Detector):
    """The network; weights are random until training or loading fills them.

    Attributes:
        config: what it was built from.
        backbone: frozen feature network (`Backbone`).
        embedding: tap maps to patch vectors (`PatchEmbedding`).
        projection: `nn.Linear`, or `nn.Identity` where the config has none.
        discriminator: patch vectors to normality (`Discriminator`).
    """

    name = "simplenet"
    config_class = SimpleNetConfig
    tuples = ("taps",)
    config: SimpleNetConfig

    def __init__(self, config: SimpleNetConfig) -> None:
        super().__init__()
        self.config = config
        self.geometry = config.geometry
        self.backbone = backbones.build(config.backbone, config.taps)
        self.embedding = PatchEmbedding(
            patch_size=config.patch_size, tap_dim=config.tap_dim, embedding_dim=config.embedding_dim
        )
        self.projection: nn.Module = nn.Identity()
        if config.projection:
            linear = nn.Linear(config.embedding_dim, config.embedding_dim)
            nn.init.xavier_normal_(linear.weight)
            self.projection = linear
        self.discriminator = Discriminator(config.embedding_dim, config.hidden_dim)

    @property
    def grid(self) -> tuple[int, int]:
        """(h, w) of the raw map."""
        stride = min(self.backbone.spec.taps[tap].stride for tap in self.config.taps)
        height, width = self.geometry.input_size
        return -(-height // stride), -(-width // stride)

    @property
    def post_recipe(self) -> PostRecipe:
        """Bilinear to the input size, Gaussian blur; the score is a maximum."""
        return PostRecipe(
            grid=self.grid,
            output=self.geometry.input_size,
            upsample="bilinear",
            blur_sigma=self.config.blur_sigma,
            blur_truncate=4.0,
            border="reflect",
            score_rule=self.config.score_rule,
        )

    def embed(self, image: Tensor) -> Tensor:
        """(N, H, W, 3) uint8 RGB to patch vectors (N, h, w, embedding_dim)."""
        embedded: Tensor = self.embedding(self.backbone(self.backbone.normalise(image)))
        return embedded

    def forward(self, image: Tensor) -> DetectorOutput:
        """Score (N, H, W, 3) uint8 RGB images; the map is (N, 1, h, w)."""
        embedded = self.embed(image)
        count, rows, cols, dim = embedded.shape
        normality = self.discriminator(self.projection(embedded.reshape(-1, dim)))
        return DetectorOutput(-normality.view(count, 1, rows, cols))

    def train(self, mode: bool = True) -> SimpleNet:
        """Switch the heads; the backbone stays frozen in evaluation mode."""
        super().train(mode)
        self.backbone.eval()
        return self
