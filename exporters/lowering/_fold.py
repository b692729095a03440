"""Batch norm and pixel scaling folded into convolutions, in float64, for any network of plain modules."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from edgead.errors import InternalError

_Conv = nn.Conv2d | nn.ConvTranspose2d
_AnyConv = TypeVar("_AnyConv", bound=_Conv)


@dataclass
class _Observed:
    """Who read what in one forward pass: pairs come from the data's way, not from names."""

    stems: list[_Conv] = field(default_factory=list)
    pairs: list[tuple[_Conv, str]] = field(default_factory=list)


def fold_backbone(network: nn.Module, image: Tensor, scale: Tensor | None = None) -> nn.Module:
    """A float64 copy of `network` in which each batch norm that follows a convolution is part of it.

    One that reads something else, as the first of a DenseNet's layers does, stays as it is.

    With g = γ/√(v + ε), g·(w∗x + b − m) + β is the convolution of weights g·w and bias g·(b − m) + β.
    With `scale`, the network is to be given x/scale, and the first convolution's weights are multiplied by
    scale: exact at the border too, since zero padding stays zero.

    Args:
        network: in evaluation mode; not changed.
        image: (N, 3, H, W) example input of any size, to see the data's way and to compare.
        scale: (3,) per input channel.

    Raises:
        InternalError: a batch norm or its convolution that runs twice, no single stem to scale, or a result
            that is not the same network.
    """
    folded = copy.deepcopy(network).double().eval()
    image = image.double()
    with torch.no_grad():
        before = folded(image)
        observed = _observe(folded, image)
        for conv, name in observed.pairs:
            absorb(conv, folded.get_submodule(name))
            folded.set_submodule(name, nn.Identity())
        if scale is not None:
            if len(observed.stems) != 1:
                raise InternalError(f"{len(observed.stems)} convolutions read the image, scaling needs one")
            observed.stems[0].weight.mul_(scale.double().view(1, -1, 1, 1))
            image = image / scale.double().view(1, -1, 1, 1)
        _compare(before, folded(image))
    return folded


def _observe(network: nn.Module, image: Tensor) -> _Observed:
    observed = _Observed()
    written: dict[int, _Conv] = {}
    alive: list[Tensor] = []  # keeps id() of outputs unique for the pass
    runs: dict[nn.Module, int] = {}
    names = {module: name for name, module in network.named_modules()}

    def after(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        runs[module] = runs.get(module, 0) + 1
        if isinstance(module, _Conv):
            written[id(output)] = module
            alive.append(output)
            if inputs[0] is image:
                observed.stems.append(module)
        elif id(inputs[0]) in written:
            conv = written.pop(id(inputs[0]))
            if runs[module] > 1 or runs[conv] > 1:
                raise InternalError(f"batch norm {names[module]} does not follow one convolution of its own")
            observed.pairs.append((conv, names[module]))

    kinds = (nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d)
    handles = [
        module.register_forward_hook(after) for module in network.modules() if isinstance(module, kinds)
    ]
    try:
        network(image)
    finally:
        for handle in handles:
            handle.remove()
    return observed


def absorb(conv: _AnyConv, norm: nn.Module) -> _AnyConv:
    """Make `conv`, in place, compute what the batch norm `norm` behind it would; returns it."""
    gain, offset = norm_affine(norm)
    bias = offset if conv.bias is None else conv.bias * gain + offset
    # A transposed convolution without groups keeps its outputs in the second place.
    outputs = (1, -1, 1, 1) if isinstance(conv, nn.ConvTranspose2d) else (-1, 1, 1, 1)
    conv.weight = nn.Parameter(conv.weight * gain.view(outputs), requires_grad=False)
    conv.bias = nn.Parameter(bias, requires_grad=False)
    return conv


def norm_affine(norm: nn.Module) -> tuple[Tensor, Tensor]:
    """(g, o) of a batch norm in evaluation mode, float64: it computes g·x + o per channel."""
    mean, var = norm.running_mean, norm.running_var
    assert isinstance(mean, Tensor)
    assert isinstance(var, Tensor)
    gain = torch.rsqrt(var.double() + float(norm.eps))  # type: ignore[arg-type]
    if isinstance(norm.weight, Tensor) and isinstance(norm.bias, Tensor):
        gain = gain * norm.weight.double()
        return gain.detach(), (norm.bias.double() - mean.double() * gain).detach()
    return gain, -mean.double() * gain


def _compare(before: tuple[Tensor, ...], after: tuple[Tensor, ...]) -> None:
    for index, (left, right) in enumerate(zip(before, after, strict=True)):
        error = float((left - right).abs().max() / left.abs().max().clamp_min(1e-300))
        if not error <= 1e-9:
            raise InternalError(
                f"folding changed tap {index} of the backbone by {error:g} of its largest value"
            )
