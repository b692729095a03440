"""DenseNet-201 with torchvision's and timm's parameter names (``features.`` + …), up to its second block.

Huang et al., "Densely Connected Convolutional Networks" (2017): each layer reads all that its block made
before, concatenated, through batch norm, ReLU and a 1×1 and a 3×3 convolution. A tap is a block's raw
concatenation, before the next transition's batch norm. The deeper half of the network is not built: nothing
here reads it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from edgead.backbones._base import IMAGENET_MEAN, IMAGENET_STD, Backbone, BackboneSpec, Tap, WeightsSource

SPEC = BackboneSpec(
    taps={"denseblock1": Tap(256, 4), "denseblock2": Tap(512, 8)},
    mean=IMAGENET_MEAN,
    std=IMAGENET_STD,
    weights=WeightsSource(
        file="densenet201-c1103571.pth",
        sha256="c1103571",
        url="https://download.pytorch.org/models/densenet201-c1103571.pth",
    ),
    # DenseNet-121 and -169 have the same first two blocks, with other weights.
    behind={"features.transition3.conv.weight": (896, 1792, 1, 1)},
)

_STEM, _GROWTH, _BOTTLENECK = 64, 32, 128
_LAYERS = {"denseblock1": 6, "denseblock2": 12}
# torchvision's file is older than its network: denselayer1.norm.1.weight is now denselayer1.norm1.weight.
_OLD_NAME = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)")


class _Layer(nn.Module):
    """What one layer adds to its block: (N, inputs, h, w) to (N, 32, h, w)."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, _BOTTLENECK, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(_BOTTLENECK)
        self.conv2 = nn.Conv2d(_BOTTLENECK, _GROWTH, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, h, w) to (N, 32, h, w)."""
        x = self.conv1(torch.relu(self.norm1(x)))
        added: Tensor = self.conv2(torch.relu(self.norm2(x)))
        return added


class _Block(nn.Module):
    """Layers ``denselayer1`` …: (N, inputs, h, w) to (N, inputs + 32·layers, h, w)."""

    def __init__(self, inputs: int, layers: int) -> None:
        super().__init__()
        for number in range(layers):
            self.add_module(f"denselayer{number + 1}", _Layer(inputs + number * _GROWTH))

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, h, w) to (N, inputs + 32·layers, h, w)."""
        for layer in self.children():
            x = torch.cat([x, layer(x)], 1)
        return x


class _Transition(nn.Module):
    """Half the channels and half the grid."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(inputs)
        self.conv = nn.Conv2d(inputs, inputs // 2, 1, bias=False)
        self.pool = nn.AvgPool2d(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, h, w) to (N, C/2, h/2, w/2), rounded down."""
        halved: Tensor = self.pool(self.conv(torch.relu(self.norm(x))))
        return halved


class DenseNet201(Backbone):
    """Stem and blocks up to the deepest tap.

    Args:
        taps: blocks whose outputs are returned.
    """

    def __init__(self, taps: Sequence[str]) -> None:
        super().__init__(SPEC, taps)
        self.features = nn.Sequential()
        self.features.add_module("conv0", nn.Conv2d(3, _STEM, 7, 2, 3, bias=False))
        self.features.add_module("norm0", nn.BatchNorm2d(_STEM))
        self.features.add_module("relu0", nn.ReLU())
        self.features.add_module("pool0", nn.MaxPool2d(3, 2, 1))
        channels = _STEM
        deepest = max(list(SPEC.taps).index(tap) for tap in taps)
        for index, (block, tap) in enumerate(list(SPEC.taps.items())[: deepest + 1]):
            if index:
                self.features.add_module(f"transition{index}", _Transition(channels))
                channels //= 2
            self.features.add_module(block, _Block(channels, _LAYERS[block]))
            channels = tap.channels

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Features of each tap, (N, C, H/stride, W/stride); H and W are multiples of 8."""
        x, found = image, {}
        for name, layer in self.features.named_children():
            x = layer(x)
            if name in self.taps:
                found[name] = x
        return tuple(found[tap] for tap in self.taps)

    def renamed(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Tensors by today's names, from a file by today's or by the old ones."""
        return {_OLD_NAME.sub(r"\1\2", key): value for key, value in tensors.items()}


def build(taps: Sequence[str]) -> Backbone:
    """Make the network up to the deepest of `taps`, with random weights."""
    return DenseNet201(taps)
