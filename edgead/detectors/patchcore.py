"""PatchCore: each patch of an image against the nearest patch of good images.

Roth et al., "Towards Total Recall in Industrial Anomaly Detection" (CVPR 2022). Distances are Euclidean, as
in anomalib; the authors' code has their squares. This is the straightforward form, nothing folded.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgead.backbones import _base as backbones
from edgead.detectors._base import Detector, DetectorOutput
from edgead.detectors.simplenet import PatchEmbedding
from edgead.errors import InternalError, UsageError
from edgead.types import Border, Geometry, PostRecipe


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchCoreConfig:
    """What fixes the network's shape and pixels.

    Attributes:
        taps: the backbone's taps whose patches are embedded; the smallest stride among them gives the grid.
        tap_dim, embedding_dim: of the authors' embedding, which averages neighbouring channels (see
            `PatchEmbedding`). Both 0: anomalib's, which keeps them: each tap's mean of the neighbourhood,
            bilinear to the finest grid, one after the other.
        patch_size: side of the neighbourhood, odd, in cells of each tap's own grid; zeros outside count.
        vectors: in the bank; 0 = not fitted yet.
        neighbours: 0: the score is the highest distance, as in the authors' code. K > 0: it is weighted by
            1 − softmax(distances to the K vectors nearest to the one found)[0], as in the paper and anomalib.
        upsample: from the grid to the input's size.
        blur_sigma: of the map's Gaussian, in input pixels.
        border: of the Gaussian: ``reflect`` as in SciPy and the authors' code, ``mirror`` as in torch.
        score_rule: without `neighbours`: ``max_grid``, the highest patch; ``max``, the highest value of the
            blurred map.
    """

    backbone: str
    taps: tuple[str, ...]
    geometry: Geometry
    tap_dim: int = 0
    embedding_dim: int = 0
    patch_size: int = 3
    vectors: int = 0
    neighbours: int = 0
    upsample: Literal["bilinear", "nearest"] = "bilinear"
    blur_sigma: float = 4.0
    border: Border = "reflect"
    score_rule: Literal["max_grid", "max"] = "max_grid"

    def __post_init__(self) -> None:
        if self.patch_size < 1 or self.patch_size % 2 == 0:
            raise UsageError(f"patchcore: patch_size is odd, not {self.patch_size}")
        if min(self.tap_dim, self.embedding_dim, self.vectors) < 0 or not 0 <= self.neighbours <= 64:
            raise UsageError("patchcore: sizes cannot be negative, and neighbours must be 0 to 64")
        if (self.tap_dim == 0) != (self.embedding_dim == 0):
            raise UsageError(
                f"patchcore: tap_dim {self.tap_dim} and embedding_dim {self.embedding_dim}: both or neither"
            )
        if self.score_rule not in ("max_grid", "max") or self.upsample not in ("bilinear", "nearest"):
            raise UsageError(
                f"patchcore: score_rule {self.score_rule!r} or upsample {self.upsample!r} is unknown; use "
                "max_grid or max, bilinear or nearest"
            )
        if self.border not in ("reflect", "mirror"):
            raise UsageError(f"patchcore: border {self.border!r} is unknown; use reflect or mirror")


class ConcatEmbedding(nn.Module):
    """Tap maps to one vector per position: means of neighbourhoods, side by side."""

    def __init__(self, patch_size: int) -> None:
        super().__init__()
        self.pool = nn.AvgPool2d(patch_size, 1, patch_size // 2)

    def forward(self, taps: tuple[Tensor, ...]) -> Tensor:
        """(N, C_i, h_i, w_i) per tap to (N, h, w, ΣC_i), h × w being the largest of the grids."""
        grid = max((tuple(tap.shape[2:]) for tap in taps), key=lambda size: size[0] * size[1])
        pooled = [self.pool(tap) for tap in taps]
        same = [
            tap
            if tuple(tap.shape[2:]) == grid
            else F.interpolate(tap, size=grid, mode="bilinear", align_corners=False)
            for tap in pooled
        ]
        return torch.cat(same, dim=1).permute(0, 2, 3, 1)


class PatchCore(Detector):
    """The network and its bank, which is empty until training or loading.

    Attributes:
        config: what it was built from.
        backbone: frozen feature network (`Backbone`).
        embedding: tap maps to patch vectors.
        bank: (vectors, D).
        near: (vectors, min(neighbours, vectors)) int64, where there are neighbours: for each vector of the
            bank the nearest ones, itself first. They depend on the bank alone, so no image needs a search.
    """

    name = "patchcore"
    config_class = PatchCoreConfig
    tuples = ("taps",)
    config: PatchCoreConfig

    bank: Tensor
    near: Tensor

    def __init__(self, config: PatchCoreConfig) -> None:
        super().__init__()
        self.config = config
        self.geometry = config.geometry
        self.backbone = backbones.build(config.backbone, config.taps)
        self.embedding: nn.Module = ConcatEmbedding(config.patch_size)
        if config.embedding_dim:
            self.embedding = PatchEmbedding(
                patch_size=config.patch_size, tap_dim=config.tap_dim, embedding_dim=config.embedding_dim
            )
        self.register_buffer("bank", torch.zeros(config.vectors, self.dim))
        if config.neighbours:
            near = torch.zeros(config.vectors, min(config.neighbours, config.vectors), dtype=torch.int64)
            self.register_buffer("near", near)

    @property
    def dim(self) -> int:
        """Values of a patch vector (D)."""
        taps = self.backbone.spec.taps
        return self.config.embedding_dim or sum(taps[tap].channels for tap in self.config.taps)

    @property
    def grid(self) -> tuple[int, int]:
        """(h, w) of the raw map."""
        stride = min(self.backbone.spec.taps[tap].stride for tap in self.config.taps)
        height, width = self.geometry.input_size
        return -(-height // stride), -(-width // stride)

    @property
    def post_recipe(self) -> PostRecipe:
        """Up-sampling to the input size, Gaussian blur."""
        config = self.config
        return PostRecipe(
            grid=self.grid,
            output=self.geometry.input_size,
            upsample=config.upsample,
            blur_sigma=config.blur_sigma,
            blur_truncate=4.0,
            border=config.border,
            score_rule="graph" if config.neighbours else config.score_rule,
        )

    @torch.no_grad()
    def set_bank(self, vectors: Tensor) -> None:
        """Keep (M, D) patch vectors of good images as the bank.

        Raises:
            InternalError: none, or of another size.
        """
        if vectors.ndim != 2 or not len(vectors) or vectors.shape[1] != self.dim:
            raise InternalError(f"a bank of {tuple(vectors.shape)}, needed are vectors of {self.dim} values")
        self.config = replace(self.config, vectors=len(vectors))
        self.bank = vectors.detach().to(self.bank).clone()
        if self.config.neighbours:
            self.near = neighbours_of(self.bank, self.config.neighbours)

    def embed(self, image: Tensor) -> Tensor:
        """(N, H, W, 3) uint8 RGB to patch vectors (N, h, w, D)."""
        embedded: Tensor = self.embedding(self.backbone(self.backbone.normalise(image)))
        return embedded

    def forward(self, image: Tensor) -> DetectorOutput:
        """Score (N, H, W, 3) uint8 RGB images; the map is (N, 1, h, w), distances."""
        if not self.config.vectors:
            raise InternalError("patchcore has no bank yet: set_bank first")
        maps, scores = [], []
        for patches in self.embed(image):
            queries = patches.flatten(0, 1)
            found = nearest(queries, self.bank)
            distances = (queries - self.bank[found]).norm(dim=1)
            maps.append(distances.view(1, *patches.shape[:2]))
            if self.config.neighbours:
                worst = distances.argmax()
                others = (queries[worst] - self.bank[self.near[found[worst]]]).norm(dim=1)
                scores.append((1 - others.softmax(0)[0]) * distances[worst])
        return DetectorOutput(torch.stack(maps), torch.stack(scores) if scores else None)

    def train(self, mode: bool = True) -> PatchCore:
        """Nothing is trained: the backbone stays in evaluation mode."""
        super().train(mode)
        self.backbone.eval()
        return self


def nearest(queries: Tensor, bank: Tensor) -> Tensor:
    """Index of the nearest vector of `bank` (M, D) for each of (P, D) queries: (P,) int64.

    By ‖b‖² − 2·q·b, which orders as distances do. Both without the bank's mean: far from the origin the
    difference of the two terms would have few digits.
    """
    centre = bank.mean(0)
    centred = bank - centre
    return (centred.square().sum(1) - 2 * (queries - centre) @ centred.T).argmin(1)


def neighbours_of(bank: Tensor, count: int, *, chunk: int = 512) -> Tensor:
    """For each vector of (M, D) the `count` nearest ones, itself first: (M, min(count, M)) int64."""
    rows = []
    for start in range(0, len(bank), chunk):
        part = bank[start : start + chunk].double()
        squares = torch.cdist(part, bank.double())
        squares[torch.arange(len(part)), torch.arange(start, start + len(part))] = -1.0  # before its copies
        rows.append(squares.topk(min(count, len(bank)), largest=False).indices)
    return torch.cat(rows)
