"""A denoising UNet lowered: the noise levels are fixed, so all that the time says is constant.

Exact steps, in float64:

* sinusoids, the time's two layers and each block's projection of it become one vector per block and level,
  which also holds the bias of the convolution that it is added to;
* an attention's group norm is followed by a linear layer, which takes over its weights and bias;
* q and k are each divided by the fourth root of their length: their rows in the weights are. Channels that
  lie head by head (q, k, v of the first head, then of the second) come out as all q, all k, all v.

Weights that no fold changes are shared with the detector: a copy of the full size takes half a gigabyte.
"""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgead.detectors._diffusion_networks import (
    AttentionBlock,
    DenoisingUnet,
    ResidualBlock,
    Stage,
    resampled,
)

_Layer = TypeVar("_Layer", bound=nn.Module)


class GroupNorm(nn.Module):
    """Mean 0 and deviation 1 per group as an instance norm of the groups, which every engine has.

    Args:
        affine: whether to multiply by the weights and add the bias; else the next layer does.
    """

    def __init__(self, norm: nn.Module, *, affine: bool = True) -> None:
        super().__init__()
        assert isinstance(norm, nn.GroupNorm)
        self.groups, self.eps = norm.num_groups, norm.eps
        self.affine = affine
        if affine:
            self.register_buffer("weight", norm.weight.detach()[:, None, None])
            self.register_buffer("bias", norm.bias.detach()[:, None, None])

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, h, w) to the same."""
        normed = F.instance_norm(x.reshape(len(x), self.groups, -1), eps=self.eps).reshape(x.shape)
        return normed * self.get_buffer("weight") + self.get_buffer("bias") if self.affine else normed


class LoweredResidual(nn.Module):
    """A residual block.

    Attributes:
        offset: (levels, C, 1, 1), the time's share and the first convolution's bias.
    """

    offset: Tensor

    def __init__(self, block: ResidualBlock, embedding: Tensor) -> None:
        super().__init__()
        self.resample = block.resample
        norm, _, conv = block.in_layers
        projection = block.embed_layers[1]
        assert isinstance(conv, nn.Conv2d)
        assert isinstance(projection, nn.Linear)
        assert conv.bias is not None
        self.first_norm, self.first = GroupNorm(norm), shared(conv)
        said = F.linear(F.silu(embedding), projection.weight.double(), projection.bias.double())
        offset = said + conv.bias.double()
        self.first.bias = None
        self.register_buffer("offset", offset.detach()[:, :, None, None].to(conv.weight.dtype))
        norm, _, _, conv = block.out_layers
        self.second_norm, self.second = GroupNorm(norm), shared(conv)
        self.skip = shared(block.skip_connection)

    def forward(self, x: Tensor, levels: slice) -> Tensor:
        """(levels, C, h, w) to (levels, C′, h′, w′)."""
        h = resampled(F.silu(self.first_norm(x)), self.resample)
        h = self.first(h) + self.offset[levels]
        out: Tensor = self.skip(resampled(x, self.resample)) + self.second(F.silu(self.second_norm(h)))
        return out


class LoweredAttention(nn.Module):
    """An attention block, its 1 × 1 convolutions on maps."""

    def __init__(self, block: AttentionBlock) -> None:
        super().__init__()
        self.heads = block.heads
        self.norm = GroupNorm(block.norm, affine=False)
        weight, bias = block.to_qkv.weight.double()[..., 0], block.to_qkv.bias
        assert bias is not None
        bias = bias.double() + weight @ block.norm.bias.double()
        weight = weight * block.norm.weight.double()
        channels = weight.shape[1]
        per_head = channels // self.heads
        scale = torch.full((3, 1), per_head**-0.25, dtype=torch.float64)
        scale[2] = 1.0
        order = torch.arange(3 * channels).view(self.heads, 3, per_head).transpose(0, 1).flatten()
        rows = scale.expand(3, channels).flatten()
        dtype = block.to_qkv.weight.dtype
        self.to_qkv = convolution(weight[order] * rows[:, None], bias[order] * rows, dtype)
        assert block.proj_out.bias is not None
        self.proj_out = convolution(block.proj_out.weight[..., 0], block.proj_out.bias, dtype)

    def forward(self, x: Tensor, levels: slice) -> Tensor:
        """(levels, C, h, w) to the same."""
        count, channels, height, width = x.shape
        shape = (count, self.heads, channels // self.heads, height * width)
        q, k, v = (part.reshape(shape) for part in self.to_qkv(self.norm(x)).chunk(3, dim=1))
        weight = torch.softmax(q.transpose(2, 3) @ k, dim=-1)
        seen = (v @ weight.transpose(2, 3)).reshape(x.shape)
        out: Tensor = x + self.proj_out(seen)
        return out


class LoweredUnet(nn.Module):
    """The network at fixed noise levels, up to its last convolution's bias.

    Args:
        unet: not changed; must not change while this is in use.
        levels: steps t; sample i of a batch has level i.

    Attributes:
        bias: (3,) of the last convolution, which is left out, for the caller to fold.
    """

    bias: Tensor

    def __init__(self, unet: DenoisingUnet, levels: tuple[int, ...]) -> None:
        super().__init__()
        embedding = copy.deepcopy(unet.time_embedding).double()(torch.tensor(levels))
        self.down, self.middle, self.up = (
            nn.ModuleList(_lowered(stage, embedding) for stage in stages)
            for stages in (unet.down, [unet.middle], unet.up)
        )
        norm, _, last = unet.out
        assert isinstance(last, nn.Conv2d)
        assert last.bias is not None
        self.norm, self.last = GroupNorm(norm), shared(last)
        self.last.bias = None
        self.register_buffer("bias", last.bias.detach())

    def forward(self, x: Tensor, levels: slice = slice(None)) -> Tensor:
        """(levels, 3, H, W), one noisy image per level, to the noise less `bias`.

        Args:
            x: noisy images.
            levels: which of the levels they have.
        """
        skips = []
        for stage in self.down:
            x = _run(stage, x, levels)
            skips.append(x)
        x = _run(self.middle[0], x, levels)
        for stage in self.up:
            x = _run(stage, torch.cat([x, skips.pop()], dim=1), levels)
        noise: Tensor = self.last(F.silu(self.norm(x)))
        return noise


def shared(layer: _Layer) -> _Layer:
    """The layer once more, on the same memory, its parameters never to be trained."""
    memo = {id(value): nn.Parameter(value.detach(), requires_grad=False) for value in layer.parameters()}
    return copy.deepcopy(layer, memo)


def convolution(weight: Tensor, bias: Tensor, dtype: torch.dtype) -> nn.Conv2d:
    """A 1 × 1 convolution of weights (C′, C) and bias (C′,)."""
    conv = nn.Conv2d(weight.shape[1], weight.shape[0], 1)
    conv.weight = nn.Parameter(weight.detach()[:, :, None, None].to(dtype), requires_grad=False)
    conv.bias = nn.Parameter(bias.detach().to(dtype), requires_grad=False)
    return conv


def _lowered(stage: nn.Module, embedding: Tensor) -> nn.ModuleList:
    assert isinstance(stage, Stage)
    made: list[nn.Module] = []
    for block in stage:
        if isinstance(block, ResidualBlock):
            made.append(LoweredResidual(block, embedding))
        else:
            made.append(LoweredAttention(block) if isinstance(block, AttentionBlock) else shared(block))
    return nn.ModuleList(made)


def _run(stage: nn.Module, x: Tensor, levels: slice) -> Tensor:
    assert isinstance(stage, nn.ModuleList)
    for block in stage:
        x = block(x) if isinstance(block, nn.Conv2d) else block(x, levels)
    return x
