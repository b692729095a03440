"""Reverse Distillation's trained networks, with the authors' parameter names (hq-deng/RD4AD, resnet.py).

Their fourth convolution of the embedding (``conv4``, ``bn4``) is in no path to the output and is not built.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from edgead.backbones._resnet import BasicBlock, Bottleneck


def _conv3x3(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)


def _spread(inputs: int, outputs: int) -> nn.ConvTranspose2d:
    """Twice the grid: each cell becomes 2 × 2."""
    return nn.ConvTranspose2d(inputs, outputs, 2, 2, bias=False)


class Embedding(nn.Module):
    """One-class bottleneck embedding: the teacher's three maps to one at twice the coarsest's stride.

    Args:
        channels: of the three maps, the finest first.
        wide: bottleneck blocks, three of them; else basic ones, two of them.
        width: of the bottleneck blocks, over ResNet-50's.
    """

    def __init__(self, channels: Sequence[int], *, wide: bool, width: int = 2) -> None:
        super().__init__()
        fine, middle, coarse = channels
        self.conv1, self.bn1 = _conv3x3(fine, middle, 2), nn.BatchNorm2d(middle)
        self.conv2, self.bn2 = _conv3x3(middle, coarse, 2), nn.BatchNorm2d(coarse)
        self.conv3, self.bn3 = _conv3x3(middle, coarse, 2), nn.BatchNorm2d(coarse)
        block: type[BasicBlock | Bottleneck] = Bottleneck if wide else BasicBlock
        planes = 2 * coarse // block.expansion
        blocks: list[nn.Module] = [block(3 * coarse, planes, 2, width)]
        blocks += [block(2 * coarse, planes, 1, width) for _ in range(2 if wide else 1)]
        self.bn_layer = nn.Sequential(*blocks)

    def forward(self, taps: Sequence[Tensor]) -> Tensor:
        """(N, c_i, h/2^i, w/2^i) to (N, 2·c_2, h/8, w/8)."""
        fine = torch.relu(self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(taps[0]))))))
        middle = torch.relu(self.bn3(self.conv3(taps[1])))
        embedded: Tensor = self.bn_layer(torch.cat([fine, middle, taps[2]], 1))
        return embedded


class _Basic(nn.Module):
    """A basic residual block that may double the grid."""

    def __init__(self, inputs: int, outputs: int, *, doubles: bool) -> None:
        super().__init__()
        self.conv1 = _spread(inputs, outputs) if doubles else _conv3x3(inputs, outputs)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2, self.bn2 = _conv3x3(outputs, outputs), nn.BatchNorm2d(outputs)
        self.upsample = (
            nn.Sequential(_spread(inputs, outputs), nn.BatchNorm2d(outputs)) if doubles else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, h, w) to (N, outputs, h or 2h, w or 2w)."""
        out = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(out)) + self.upsample(x))


class _Wide(nn.Module):
    """A bottleneck block of twice the usual width that may double the grid."""

    def __init__(self, inputs: int, outputs: int, *, doubles: bool) -> None:
        super().__init__()
        width = outputs // 2
        self.conv1, self.bn1 = nn.Conv2d(inputs, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2 = _spread(width, width) if doubles else _conv3x3(width, width)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3, self.bn3 = nn.Conv2d(width, outputs, 1, bias=False), nn.BatchNorm2d(outputs)
        self.upsample = (
            nn.Sequential(_spread(inputs, outputs), nn.BatchNorm2d(outputs)) if doubles else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, h, w) to (N, outputs, h or 2h, w or 2w)."""
        out = torch.relu(self.bn1(self.conv1(x)))
        out = torch.relu(self.bn2(self.conv2(out)))
        return torch.relu(self.bn3(self.conv3(out)) + self.upsample(x))


class Decoder(nn.Module):
    """The embedding back to the teacher's three maps, the coarsest first made.

    Args:
        channels: of the three maps, the finest first.
        wide: as for `Embedding`; its blocks have twice ResNet-50's width.
    """

    def __init__(self, channels: Sequence[int], *, wide: bool) -> None:
        super().__init__()
        block: type[_Basic | _Wide] = _Wide if wide else _Basic
        inputs = 2 * channels[2]
        for number, (outputs, depth) in enumerate(zip(reversed(channels), (3, 4, 6), strict=True)):
            blocks: list[nn.Module] = [block(inputs, outputs, doubles=True)]
            blocks += [block(outputs, outputs, doubles=False) for _ in range(depth - 1 if wide else 1)]
            self.add_module(f"layer{number + 1}", nn.Sequential(*blocks))
            inputs = outputs

    def forward(self, embedded: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(N, 2·c_2, h/8, w/8) to (N, c_i, h/2^i, w/2^i), the finest first."""
        coarse = self.get_submodule("layer1")(embedded)
        middle = self.get_submodule("layer2")(coarse)
        return self.get_submodule("layer3")(middle), middle, coarse
