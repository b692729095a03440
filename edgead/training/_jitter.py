"""Colour changes of an image tensor in [0, 1]: the formulas of torchvision's functions of the same names."""

from __future__ import annotations

import torch
from torch import Tensor

# ITU-R 601-2, as Pillow and torchvision round it.
_GREY = (0.2989, 0.587, 0.114)


def grey(image: Tensor) -> Tensor:
    """(N, 3, H, W) to (N, 1, H, W)."""
    weights = torch.tensor(_GREY, dtype=image.dtype, device=image.device).view(1, 3, 1, 1)
    return (image * weights).sum(1, keepdim=True)


def brightness(image: Tensor, factor: float) -> Tensor:
    """Blend with black."""
    return (image * factor).clamp(0, 1)


def contrast(image: Tensor, factor: float) -> Tensor:
    """Blend with the image's mean grey."""
    mean = grey(image).mean((1, 2, 3), keepdim=True)
    return (mean + (image - mean) * factor).clamp(0, 1)


def saturation(image: Tensor, factor: float) -> Tensor:
    """Blend with the image in grey."""
    shade = grey(image)
    return (shade + (image - shade) * factor).clamp(0, 1)


def jitter(image: Tensor, random: torch.Generator) -> Tensor:
    """Exactly one of brightness, contrast and saturation, by a factor from 0.8 to 1.2."""
    factor = 0.8 + 0.4 * float(torch.rand((), generator=random))
    change = (brightness, contrast, saturation)[int(torch.randint(3, (), generator=random))]
    return change(image, factor)
