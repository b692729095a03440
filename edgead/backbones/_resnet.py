"""ResNets with torchvision's parameter names, built only as deep as they are read.

He et al., "Deep Residual Learning for Image Recognition", with the stride on the 3×3 convolution of a
bottleneck (torchvision's choice); the wide variant doubles the bottleneck's inner width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from edgead.backbones._base import Backbone, BackboneSpec


def _downsample(inputs: int, outputs: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))


class BasicBlock(nn.Module):
    """Two 3×3 convolutions beside a shortcut."""

    expansion = 1

    def __init__(self, inputs: int, planes: int, stride: int, width_factor: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, planes, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.downsample = _downsample(inputs, planes, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, planes, H/stride, W/stride)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        out = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(out)) + shortcut)


class Bottleneck(nn.Module):
    """1×1, 3×3, 1×1 convolutions beside a shortcut."""

    expansion = 4

    def __init__(self, inputs: int, planes: int, stride: int, width_factor: int) -> None:
        super().__init__()
        width, outputs = planes * width_factor, planes * self.expansion
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample = _downsample(inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, 4·planes, H/stride, W/stride)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        out = torch.relu(self.bn1(self.conv1(x)))
        out = torch.relu(self.bn2(self.conv2(out)))
        return torch.relu(self.bn3(self.conv3(out)) + shortcut)


class ResNet(Backbone):
    """Stem and the stages ``layer1`` … up to the deepest tap.

    Args:
        spec: taps named layer1 to layer4.
        taps: the stages whose outputs are returned.
        block: the residual block.
        depths: blocks per stage.
        width_factor: bottleneck width over the usual one.
    """

    def __init__(
        self,
        spec: BackboneSpec,
        taps: Sequence[str],
        *,
        block: type[BasicBlock | Bottleneck],
        depths: tuple[int, int, int, int],
        width_factor: int = 1,
    ) -> None:
        super().__init__(spec, taps)
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        deepest = max(list(spec.taps).index(tap) for tap in taps)
        inputs = 64
        self._stages = list(spec.taps)[: deepest + 1]
        for index, stage in enumerate(self._stages):
            planes, first_stride = 64 << index, 1 if index == 0 else 2
            blocks: list[nn.Module] = []
            for number in range(depths[index]):
                blocks.append(block(inputs, planes, first_stride if number == 0 else 1, width_factor))
                inputs = planes * block.expansion
            self.add_module(stage, nn.Sequential(*blocks))

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Features of each tap, (N, C, ceil(H/stride), ceil(W/stride))."""
        x = self.maxpool(torch.relu(self.bn1(self.conv1(image))))
        found: dict[str, Tensor] = {}
        for stage in self._stages:
            x = self.get_submodule(stage)(x)
            found[stage] = x
        return tuple(found[tap] for tap in self.taps)
