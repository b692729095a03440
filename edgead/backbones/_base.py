"""What every backbone is: a frozen, truncated network and the facts about its taps and weights."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from edgead import discovery
from edgead.errors import UsageError


@dataclass(frozen=True, slots=True)
class Tap:
    """A place where features are read: its channels, and input pixels per grid cell."""

    channels: int
    stride: int


@dataclass(frozen=True, slots=True)
class WeightsSource:
    """Where a backbone's well-known weights come from: an installed package, or a file at a URL.

    Attributes:
        sha256: hex digest of the file, or its first digits.
        package: import name of the package that ships the file `file`; None = download from `url`.
    """

    file: str
    sha256: str
    url: str | None = None
    package: str | None = None


@dataclass(frozen=True, slots=True)
class BackboneSpec:
    """Facts about a backbone.

    Attributes:
        taps: by name, from the shallowest to the deepest.
        mean: per RGB channel, subtracted from pixels in [0, 1].
        std: per RGB channel, divided by afterwards.
        behind: shapes of tensors behind the deepest tap, where only they tell a file from a sibling's.
    """

    taps: Mapping[str, Tap]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    weights: WeightsSource
    behind: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Backbone(nn.Module, ABC):
    """A feature network that ends at its deepest tap.

    Attributes:
        spec: facts about the whole network.
        taps: names of the taps that `forward` returns, in that order.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, spec: BackboneSpec, taps: Sequence[str]) -> None:
        super().__init__()
        unknown = [tap for tap in taps if tap not in spec.taps]
        if unknown or not taps:
            raise UsageError(f"taps {list(taps)}: this backbone has {', '.join(spec.taps)}")
        self.spec = spec
        self.taps = tuple(taps)
        self.register_buffer("mean", torch.tensor(spec.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(spec.std).view(3, 1, 1), persistent=False)

    def normalise(self, image: Tensor) -> Tensor:
        """(N, H, W, 3) uint8 RGB to what the network was trained on: (N, 3, H, W) float."""
        pixels = image.permute(0, 3, 1, 2).to(self.mean.dtype) / 255.0
        return (pixels - self.mean) / self.std

    def renamed(self, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Tensors of a weights file by this network's names, where files by other names are about."""
        return tensors

    @abstractmethod
    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Features (N, C, h, w) of each tap for a normalised image (N, 3, H, W)."""


class BackboneModule(Protocol):
    """What a file in this folder offers under the backbone's name."""

    SPEC: BackboneSpec

    def build(self, taps: Sequence[str]) -> Backbone:
        """Make the network up to the deepest of `taps`, with random weights."""


def names() -> tuple[str, ...]:
    """All backbones there are."""
    return discovery.stems("edgead.backbones")


def module(name: str) -> BackboneModule:
    """The file of the backbone `name`.

    Raises:
        UsageError: there is no such backbone.
    """
    return cast(BackboneModule, discovery.load("edgead.backbones", name, kind="backbone"))


def build(name: str, taps: Sequence[str]) -> Backbone:
    """Make backbone `name` up to the deepest of `taps`, random weights, frozen, in evaluation mode.

    Raises:
        UsageError: there is no such backbone or tap.
    """
    network = module(name).build(taps)
    return network.requires_grad_(False).eval()
