"""The networks of EfficientAD: patch description networks in three sizes, and the autoencoder.

A patch description network (PDN) has a receptive field of 33 × 33 pixels and one output per 4 pixels. Without
padding it sees whole patches only: N pixels give N/4 − 8 cells; with padding, N/4. Parameters are named as
in anomalib (``conv1`` …, ``encoder.enconv1`` …, ``decoder.deconv1`` …).
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Size = Literal["small", "medium", "edge"]

# Channels of the teacher's description; the student gives twice as many.
CHANNELS = 384
# Cells that a grid without padding lacks on each side.
BORDER = 4


@dataclass(frozen=True, slots=True)
class _Conv:
    """One convolution of a PDN's table.

    Attributes:
        channels: output channels; None = as many as the network gives.
        padding: where the network pads; none where it does not.
        pool: whether an average over 2 × 2 follows the ReLU.
        depthwise: a k × k convolution per channel and a 1 × 1 convolution, instead of one k × k.
    """

    kernel: int
    channels: int | None
    padding: int
    stride: int = 1
    pool: bool = False
    depthwise: bool = False


# Small and medium are the paper's. Edge halves twice by stride instead of pooling a full-size map, and mixes
# neighbours per channel: its first 33 × 33 pixels lie where the small one's do.
_TABLES: dict[Size, tuple[_Conv, ...]] = {
    "small": (
        _Conv(4, 128, 3, pool=True),
        _Conv(4, 256, 3, pool=True),
        _Conv(3, 256, 1),
        _Conv(4, None, 0),
    ),
    "medium": (
        _Conv(4, 256, 3, pool=True),
        _Conv(4, 512, 3, pool=True),
        _Conv(1, 512, 0),
        _Conv(3, 512, 1),
        _Conv(4, None, 0),
        _Conv(1, None, 0),
    ),
    "edge": (
        _Conv(3, 64, 1, stride=2),
        _Conv(4, 128, 1, stride=2),
        _Conv(3, 256, 1, depthwise=True),
        _Conv(3, 256, 1, depthwise=True),
        _Conv(3, 256, 1, depthwise=True),
        _Conv(1, None, 0),
    ),
}


def description_network(size: Size, outputs: int, *, padding: bool = False) -> nn.Sequential:
    """A PDN: (N, 3, H, W) normalised to (N, outputs, h, w); its last layer has no activation.

    Args:
        size: which table.
        outputs: 384 for a teacher, 768 for a student.
        padding: whether zeros (the mean colour) stand around the image and between the layers.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    inputs, table = 3, _TABLES[size]
    for number, row in enumerate(table, 1):
        channels = outputs if row.channels is None else row.channels
        pad = row.padding if padding else 0
        if row.depthwise:
            layers[f"depthwise{number}"] = nn.Conv2d(inputs, inputs, row.kernel, padding=pad, groups=inputs)
            layers[f"conv{number}"] = nn.Conv2d(inputs, channels, 1)
        else:
            layers[f"conv{number}"] = nn.Conv2d(inputs, channels, row.kernel, row.stride, pad)
        if number < len(table):
            layers[f"relu{number}"] = nn.ReLU()
        if row.pool:
            layers[f"pool{number}"] = nn.AvgPool2d(2, 2, int(padding))
        inputs = channels
    return nn.Sequential(layers)


def initialise_deep(network: nn.Sequential, generator: torch.Generator | None = None) -> None:
    """Weights that keep the spread of what passes (He); torch's own shrink it by a factor per layer.

    The edge size has eight layers and no normalisation between them: with torch's start its output hardly
    depends on the image.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            fan_in = module.weight[0].numel()
            # Depthwise layers have no activation of their own, and images come without one either.
            gain = 1.0 if module.groups > 1 or module.in_channels == 3 else 2.0
            with torch.no_grad():
                module.weight.normal_(0, (gain / fan_in) ** 0.5, generator=generator)
                if module.bias is not None:
                    module.bias.zero_()


class Encoder(nn.Module):
    """Five halvings and one convolution over what is left: (N, 3, H, W) to (N, 64, h, w).

    The last kernel is 8 × 8, so that 256 pixels become one cell; less where the image is smaller.
    """

    def __init__(self, image_size: tuple[int, int]) -> None:
        super().__init__()
        left = (min(8, image_size[0] // 32), min(8, image_size[1] // 32))
        self.enconv1 = nn.Conv2d(3, 32, 4, 2, 1)
        self.enconv2 = nn.Conv2d(32, 32, 4, 2, 1)
        self.enconv3 = nn.Conv2d(32, 64, 4, 2, 1)
        self.enconv4 = nn.Conv2d(64, 64, 4, 2, 1)
        self.enconv5 = nn.Conv2d(64, 64, 4, 2, 1)
        self.enconv6 = nn.Conv2d(64, 64, left)

    def forward(self, image: Tensor) -> Tensor:
        """(N, 3, H, W) normalised to (N, 64, 1, 1) for 256 × 256 pixels."""
        x = image
        for layer in (self.enconv1, self.enconv2, self.enconv3, self.enconv4, self.enconv5):
            x = F.relu(layer(x))
        code: Tensor = self.enconv6(x)
        return code


def decoder_sizes(image_size: tuple[int, int], *, light: bool) -> tuple[tuple[int, int], ...]:
    """(rows, columns) that the code is resized to before each of the decoder's first convolutions.

    For 256 pixels: 3, 8, 15, 32, 63, 127; `light` leaves out the last, which is scaled down again at once.
    """

    def one(pixels: int) -> list[int]:
        sizes = [pixels // 64 - 1, pixels // 32, pixels // 16 - 1, pixels // 8, pixels // 4 - 1]
        return [max(1, size) for size in (sizes if light else [*sizes, pixels // 2 - 1])]

    return tuple(zip(one(image_size[0]), one(image_size[1]), strict=True))


class Decoder(nn.Module):
    """Resize, convolve, drop out, five or six times; then two convolutions on the PDN's grid.

    Args:
        image_size: (H, W) of the network's input.
        grid: (h, w) of the PDN's output.
        light: one stage less, and a 1 × 1 convolution at the end.
    """

    def __init__(self, image_size: tuple[int, int], grid: tuple[int, int], *, light: bool) -> None:
        super().__init__()
        self.sizes = decoder_sizes(image_size, light=light)
        self.grid = grid
        for number in range(1, len(self.sizes) + 1):
            self.add_module(f"deconv{number}", nn.Conv2d(64, 64, 4, 1, 2))
        last = len(self.sizes) + 1
        self.add_module(f"deconv{last}", nn.Conv2d(64, 64, 3, 1, 1))
        kernel = 1 if light else 3
        self.add_module(f"deconv{last + 1}", nn.Conv2d(64, CHANNELS, kernel, 1, kernel // 2))
        self.dropout = nn.Dropout(0.2)

    @property
    def layers(self) -> tuple[nn.Conv2d, ...]:
        """The convolutions in the order of the data."""
        found = [self.get_submodule(f"deconv{number}") for number in range(1, len(self.sizes) + 3)]
        return tuple(layer for layer in found if isinstance(layer, nn.Conv2d))

    def forward(self, code: Tensor) -> Tensor:
        """(N, 64, h', w') to (N, 384, h, w)."""
        *stages, before, last = self.layers
        x = code
        for size, layer in zip(self.sizes, stages, strict=True):
            x = F.interpolate(x, size=size, mode="bilinear", align_corners=False)
            x = self.dropout(F.relu(layer(x)))
        x = F.interpolate(x, size=self.grid, mode="bilinear", align_corners=False)
        described: Tensor = last(F.relu(before(x)))
        return described


class Autoencoder(nn.Module):
    """The whole image through one cell, back to what the teacher would say: it learns the layout."""

    def __init__(self, image_size: tuple[int, int], grid: tuple[int, int], *, light: bool = False) -> None:
        super().__init__()
        self.encoder = Encoder(image_size)
        self.decoder = Decoder(image_size, grid, light=light)

    def forward(self, image: Tensor) -> Tensor:
        """(N, 3, H, W) normalised to (N, 384, h, w)."""
        described: Tensor = self.decoder(self.encoder(image))
        return described
