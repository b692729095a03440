"""CPR: cascade patch retrieval. Similar whole images first, then similar patches inside them.

Li, Huang, Xue et al., "Target before Shooting: Accurate Anomaly Detection and Localization under One
Millisecond via Cascade Patch Retrieval" (2023), as the authors' code computes it. This is the straightforward
form; the authors' test script reads a precomputed ranking, here the ranking is part of the network.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgead.backbones import _base as backbones
from edgead.detectors._base import Detector, DetectorOutput
from edgead.detectors._cpr_networks import (
    RetrievalHead,
    block_histograms,
    histogram_distances,
    normalised,
    windowed_distance,
)
from edgead.errors import DatasetError, InternalError, UsageError
from edgead.types import Geometry, PostRecipe

BankType = Literal["fp32", "fp16", "int8"]
_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "int8": torch.int8}
# What int8 banks store is this times a normalised descriptor's value, which lies in −1 … 1.
INT8_SCALE = 127.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CprConfig:
    """What fixes the network's shape and pixels.

    Attributes:
        taps: two of the backbone's taps, the finer first; the finer one also feeds the global retrieval and
            the foreground.
        dim: values per descriptor (D: 384 in CPR, 64 in CPR-fast, 16 in CPR-faster).
        references: images in the bank (N); 0 = not fitted yet.
        nearest: references that are searched per image (K).
        windows: odd side of the search window per tap, in cells.
        clusters: of the vocabulary that histograms count.
        blocks: per side of the grid of histograms (S).
        kept_blocks: that count in a comparison of two images; the others may be defective.
        foreground: whether distances count on the object only; False for textures.
        bank_type: how the bank is stored; int8 is 127 times the value, rounded.
        blur_sigma: of the map's Gaussian, in input pixels.
        top_k: highest values of the blurred map whose sum is the score (T).
    """

    backbone: str
    taps: tuple[str, str]
    dim: int
    geometry: Geometry
    references: int = 0
    nearest: int = 10
    windows: tuple[int, int] = (3, 1)
    clusters: int = 12
    blocks: int = 5
    kept_blocks: int = 20
    foreground: bool = True
    bank_type: BankType = "fp16"
    blur_sigma: float = 4.0
    top_k: int = 512

    def __post_init__(self) -> None:
        if len(self.taps) != 2 or len(self.windows) != 2 or min(self.windows) < 1:
            raise UsageError(f"cpr: two taps and two windows, not {self.taps} and {self.windows}")
        if any(window % 2 == 0 for window in self.windows):
            raise UsageError(f"cpr: windows are odd, not {self.windows}")
        if min(self.dim, self.nearest, self.clusters, self.blocks, self.top_k) < 1 or self.references < 0:
            raise UsageError("cpr: dim, nearest, clusters, blocks and top_k must be at least 1")
        if not 1 <= self.kept_blocks <= self.blocks**2:
            raise UsageError(f"cpr: kept_blocks {self.kept_blocks} of {self.blocks**2} blocks")
        if self.bank_type not in _DTYPES:
            raise UsageError(f"cpr: bank_type {self.bank_type!r} is unknown; use {', '.join(_DTYPES)}")
        if 0 < self.references < self.nearest:
            raise UsageError(f"cpr: {self.references} references, but {self.nearest} are searched per image")


class Cpr(Detector):
    """The network and its bank; weights are random and the bank is empty until training or loading.

    Attributes:
        config: what it was built from.
        backbone: frozen feature network (`Backbone`).
        heads: per tap, features to descriptors (`RetrievalHead`).
        centres: (clusters, C) the vocabulary, C = channels of the finer tap.
        foreground_weight, foreground_bias: (C,) and (): foreground = clip(w·x + b, 0, 1) per position.
        histograms: (N, blocks², clusters) of the references.
        reference_foreground: (N, h, w) of the references, 0 … 1.
        bank0, bank1: (N, D, h, w) normalised descriptors of the references per tap, as `bank_type`.
    """

    name = "cpr"
    config_class = CprConfig
    tuples = ("taps", "windows")
    config: CprConfig

    centres: Tensor
    foreground_weight: Tensor
    foreground_bias: Tensor
    histograms: Tensor
    reference_foreground: Tensor
    bank0: Tensor
    bank1: Tensor

    def __init__(self, config: CprConfig) -> None:
        super().__init__()
        self.config = config
        self.geometry = config.geometry
        self.backbone = backbones.build(config.backbone, config.taps)
        channels = [self.backbone.spec.taps[tap].channels for tap in config.taps]
        self.heads = nn.ModuleList(RetrievalHead(count, config.dim) for count in channels)
        height, width = self.grids[0]
        if height % config.blocks or width % config.blocks:
            raise UsageError(
                f"cpr: input size {self.geometry.input_size[0]}x{self.geometry.input_size[1]}: the finer "
                f"tap's {height}x{width} cells do not divide into {config.blocks} blocks per side; give "
                f"multiples of {config.blocks * self.backbone.spec.taps[config.taps[0]].stride}"
            )
        self.register_buffer("centres", torch.zeros(config.clusters, channels[0]))
        if config.foreground:
            self.register_buffer("foreground_weight", torch.zeros(channels[0]))
            self.register_buffer("foreground_bias", torch.ones(()))
        self._set_bank(config.references)

    def _set_bank(self, references: int) -> None:
        config, dtype = self.config, _DTYPES[self.config.bank_type]
        device = self.centres.device
        blocks = torch.zeros(references, config.blocks**2, config.clusters, device=device)
        self.register_buffer("histograms", blocks)
        if config.foreground:
            shown = torch.zeros(references, *self.grids[0], device=device)
            self.register_buffer("reference_foreground", shown)
        for index, grid in enumerate(self.grids):
            empty = torch.zeros(references, config.dim, *grid, dtype=dtype, device=device)
            self.register_buffer(f"bank{index}", empty)

    @property
    def grids(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """(h, w) of each tap."""
        height, width = self.geometry.input_size
        strides = [self.backbone.spec.taps[tap].stride for tap in self.config.taps]
        fine, coarse = ((-(-height // stride), -(-width // stride)) for stride in strides)
        return fine, coarse

    @property
    def reference_bytes(self) -> int:
        """What one reference takes in the bank."""
        cells = [height * width for height, width in self.grids]
        found = 4 * self.config.blocks**2 * self.config.clusters
        found += 4 * cells[0] if self.config.foreground else 0
        return found + sum(cells) * self.config.dim * _DTYPES[self.config.bank_type].itemsize

    @property
    def post_recipe(self) -> PostRecipe:
        """Gaussian blur of the map, which has the input's size; the score sums its highest values."""
        size = self.geometry.input_size
        return PostRecipe(
            grid=size,
            output=size,
            upsample="none",
            blur_sigma=self.config.blur_sigma,
            blur_truncate=4.0,
            border="mirror",
            score_rule="top_k_sum",
            top_k=self.config.top_k,
        )

    def features(self, image: Tensor) -> tuple[Tensor, ...]:
        """(N, H, W, 3) uint8 RGB to the taps' features (N, C_i, h_i, w_i)."""
        taps: tuple[Tensor, ...] = self.backbone(self.backbone.normalise(image))
        return taps

    def describe(self, taps: tuple[Tensor, ...]) -> list[Tensor]:
        """Normalised descriptors per tap, (N, D, h_i, w_i)."""
        return [normalised(head(tap)) for head, tap in zip(self.heads, taps, strict=True)]

    def histogram(self, fine: Tensor) -> Tensor:
        """(N, C, h, w) of the finer tap to (N, blocks², clusters)."""
        return block_histograms(fine, self.centres, self.config.blocks)

    def object_map(self, fine: Tensor) -> Tensor:
        """(N, C, h, w) of the finer tap to the foreground (N, h, w), 0 … 1."""
        raw = F.conv2d(fine, self.foreground_weight[None, :, None, None], self.foreground_bias[None])
        return raw.squeeze(1).clamp(0, 1)

    def retrieve(self, histogram: Tensor) -> Tensor:
        """(blocks², clusters) of one image to the K most similar references, the best first: (K,) int64."""
        distances = histogram_distances(histogram, self.histograms, self.config.kept_blocks)
        return distances.topk(self.config.nearest, largest=False).indices

    def bank(self, level: int, references: Tensor) -> Tensor:
        """(K, D, h, w) float descriptors of some references (K,) int64."""
        stored: Tensor = self.get_buffer(f"bank{level}")[references]
        values = stored.to(self.centres.dtype)
        return values / INT8_SCALE if stored.dtype == torch.int8 else values

    def drop_foreground(self) -> None:
        """Let distances count everywhere, as for textures."""
        if self.config.foreground:
            self.config = replace(self.config, foreground=False)
            del self.foreground_weight, self.foreground_bias, self.reference_foreground

    def store_as(self, bank_type: str) -> None:
        """Empty the bank; the next one is stored as ``fp32``, ``fp16`` or ``int8``.

        Raises:
            UsageError: another type.
        """
        self.config = replace(self.config, references=0, bank_type=bank_type)  # type: ignore[arg-type]
        self._set_bank(0)

    @torch.no_grad()
    def set_references(self, images: Tensor, *, batch: int = 4) -> None:
        """Fill the bank with what the network, as it is now, says of good images.

        Args:
            images: (N, H, W, 3) uint8 RGB.
            batch: images at a time.

        Raises:
            DatasetError: fewer images than are searched per image.
        """
        if len(images) < self.config.nearest:
            raise DatasetError(
                f"{len(images)} reference images, but cpr compares each image with the {self.config.nearest} "
                "most similar ones: give more good images, or a larger memory budget for the bank"
            )
        self.config = replace(self.config, references=len(images))
        self._set_bank(len(images))
        for start in range(0, len(images), batch):
            part = slice(start, start + batch)
            taps = self.features(images[part].to(self.centres.device))
            self.histograms[part] = self.histogram(taps[0])
            if self.config.foreground:
                self.reference_foreground[part] = self.object_map(taps[0])
            for level, descriptors in enumerate(self.describe(taps)):
                stored = self.get_buffer(f"bank{level}")
                if stored.dtype == torch.int8:
                    descriptors = (descriptors * INT8_SCALE).round()
                stored[part] = descriptors.to(stored.dtype)

    def forward(self, image: Tensor) -> DetectorOutput:
        """Score (N, H, W, 3) uint8 RGB images; the map is (N, 1, H, W), distances 0 … 4 on the object."""
        if not self.config.references:
            raise InternalError("cpr has no references yet: set_references first")
        taps = self.features(image)
        descriptors, histograms = self.describe(taps), self.histogram(taps[0])
        objects = self.object_map(taps[0]) if self.config.foreground else [None] * len(image)
        maps = [
            self._distances(histograms[index], [level[index] for level in descriptors], objects[index])
            for index in range(len(image))
        ]
        return DetectorOutput(torch.stack(maps))

    def _distances(self, histogram: Tensor, descriptors: list[Tensor], shown: Tensor | None) -> Tensor:
        """One image: (1, H, W)."""
        references = self.retrieve(histogram)
        fine, coarse = (
            windowed_distance(query, self.bank(level, references), self.config.windows[level])
            for level, query in enumerate(descriptors)
        )
        total = fine + enlarged(coarse, fine.shape)
        full = enlarged(total, self.geometry.input_size)
        if shown is not None:
            weight = torch.cat([shown[None], self.reference_foreground[references]]).amax(0)
            full = full * enlarged(weight, self.geometry.input_size)
        return full[None]

    def train(self, mode: bool = True) -> Cpr:
        """Switch the heads; the backbone stays frozen in evaluation mode."""
        super().train(mode)
        self.backbone.eval()
        return self


def enlarged(values: Tensor, size: tuple[int, ...]) -> Tensor:
    """(h, w) bilinearly to `size`, half-pixel centres."""
    return F.interpolate(values[None, None], size=tuple(size), mode="bilinear", align_corners=False)[0, 0]
