"""The networks of DiffusionAD: a UNet that guesses the noise in an image, and one that segments.

Parameters are named as in the authors' code (``unet_model_state_dict`` and ``seg_model_state_dict``). DDAD's
UNet is the first one with other widths.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Halvings in the segmentation network; both networks need sides that they can halve.
SEGMENTATION_HALVINGS = 5
# The sinusoids' longest period, in steps.
_LONGEST = 10_000


class Sinusoids(nn.Module):
    """Steps t, (N,), to (N, width): sines, then cosines, of t at geometric frequencies."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.pairs = width // 2

    def forward(self, levels: Tensor) -> Tensor:
        """Float64, whatever the network's own dtype: t·frequency is up to 1000."""
        place = torch.arange(float(self.pairs), dtype=torch.float64, device=levels.device) / self.pairs
        angles = levels.double()[:, None] * torch.exp(-math.log(_LONGEST) * place)
        return torch.cat([angles.sin(), angles.cos()], dim=1)


class TimeEmbedding(nn.Sequential):
    """Steps t, (N,), to (N, 4·base)."""

    def __init__(self, base: int) -> None:
        super().__init__(Sinusoids(base), nn.Linear(base, 4 * base), nn.SiLU(), nn.Linear(4 * base, 4 * base))

    def forward(self, levels: Tensor) -> Tensor:
        """In the dtype of the weights."""
        sinusoids, first, activation, last = self
        values: Tensor = last(activation(first(sinusoids(levels).to(first.weight))))
        return values


class ResidualBlock(nn.Module):
    """Norm, SiLU, convolution, twice, with the time between them, beside a skip.

    Args:
        resample: ``down`` halves (average) or ``up`` doubles (nearest) both ways, after the first SiLU.
    """

    def __init__(
        self, inputs: int, outputs: int, embedding: int, groups: int, resample: str | None = None
    ) -> None:
        super().__init__()
        self.resample = resample
        self.in_layers = nn.Sequential(
            nn.GroupNorm(groups, inputs), nn.SiLU(), nn.Conv2d(inputs, outputs, 3, padding=1)
        )
        self.embed_layers = nn.Sequential(nn.SiLU(), nn.Linear(embedding, outputs))
        # The authors' dropout has rate 0, and a place among the names.
        self.out_layers = nn.Sequential(
            nn.GroupNorm(groups, outputs),
            nn.SiLU(),
            nn.Dropout(0.0),
            nn.Conv2d(outputs, outputs, 3, padding=1),
        )
        self.skip_connection = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """(N, inputs, h, w) and (N, 4·base) to (N, outputs, h′, w′)."""
        norm, activation, conv = self.in_layers
        h = activation(norm(x))
        h = conv(resampled(h, self.resample))
        h = h + self.embed_layers(embedding)[:, :, None, None]
        out: Tensor = self.skip_connection(resampled(x, self.resample)) + self.out_layers(h)
        return out


class AttentionBlock(nn.Module):
    """Self-attention between all positions, beside a skip. Channels of q, k, v lie head by head."""

    def __init__(self, channels: int, heads: int, groups: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(groups, channels)
        self.to_qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.proj_out = nn.Conv1d(channels, channels, 1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """(N, C, h, w) to the same; the time is not used."""
        count, channels, height, width = x.shape
        flat = x.reshape(count, channels, height * width)
        per_head = self.to_qkv(self.norm(flat)).reshape(count * self.heads, -1, height * width)
        q, k, v = per_head.chunk(3, dim=1)
        scale = q.shape[1] ** -0.25
        weight = torch.softmax((q * scale).transpose(1, 2) @ (k * scale), dim=-1)
        seen = (v @ weight.transpose(1, 2)).reshape(count, channels, height * width)
        out: Tensor = flat + self.proj_out(seen)
        return out.reshape(x.shape)


class Stage(nn.Sequential):
    """Blocks that share a place in the list; those that use the time get it."""

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:  # type: ignore[override]
        """(N, C, h, w) and (N, 4·base) to (N, C′, h′, w′)."""
        for block in self:
            x = block(x) if isinstance(block, nn.Conv2d) else block(x, embedding)
        return x


class DenoisingUnet(nn.Module):
    """Guesses the noise in noisy images.

    Args:
        base: channels at full size; a multiple of `groups`.
        multipliers: of `base`, per halving; the sides are multiples of 2^(len − 1).
        blocks: residual blocks per size on the way down; one more on the way up.
        attention: factors of down-sampling at which positions attend to each other.
        heads: of the attention.
        groups: of every group norm.
    """

    def __init__(
        self,
        *,
        base: int,
        multipliers: Sequence[int],
        blocks: int,
        attention: Sequence[int],
        heads: int,
        groups: int,
    ) -> None:
        super().__init__()
        embedding = 4 * base
        self.time_embedding = TimeEmbedding(base)

        def residual(inputs: int, outputs: int, resample: str | None = None) -> ResidualBlock:
            return ResidualBlock(inputs, outputs, embedding, groups, resample)

        def attend(channels: int, level: int) -> Iterator[nn.Module]:
            if 2**level in attention:
                yield AttentionBlock(channels, heads, groups)

        channels = base * multipliers[0]
        self.down = nn.ModuleList([Stage(nn.Conv2d(3, channels, 3, padding=1))])
        skips = [channels]
        for level, multiplier in enumerate(multipliers):
            for _ in range(blocks):
                block = residual(channels, base * multiplier)
                channels = base * multiplier
                self.down.append(Stage(block, *attend(channels, level)))
                skips.append(channels)
            if level < len(multipliers) - 1:
                self.down.append(Stage(residual(channels, channels, "down")))
                skips.append(channels)
        self.middle = Stage(
            residual(channels, channels),
            AttentionBlock(channels, heads, groups),
            residual(channels, channels),
        )
        self.up = nn.ModuleList()
        for level, multiplier in reversed(list(enumerate(multipliers))):
            for index in range(blocks + 1):
                block = residual(channels + skips.pop(), base * multiplier)
                channels = base * multiplier
                ending = [residual(channels, channels, "up")] if level and index == blocks else []
                self.up.append(Stage(block, *attend(channels, level), *ending))
        self.out = nn.Sequential(
            nn.GroupNorm(groups, channels), nn.SiLU(), nn.Conv2d(channels, 3, 3, padding=1)
        )

    def forward(self, x: Tensor, levels: Tensor) -> Tensor:
        """(N, 3, H, W) noisy images and (N,) int64 steps t to the noise, (N, 3, H, W)."""
        embedding = self.time_embedding(levels)
        skips = []
        for stage in self.down:
            x = stage(x, embedding)
            skips.append(x)
        x = self.middle(x, embedding)
        for stage in self.up:
            x = stage(torch.cat([x, skips.pop()], dim=1), embedding)
        noise: Tensor = self.out(x)
        return noise


def resampled(x: Tensor, how: str | None) -> Tensor:
    """(N, C, h, w), halved by averages, doubled by repetition, or as it is."""
    if how == "down":
        return F.avg_pool2d(x, 2)
    return F.interpolate(x, scale_factor=2.0, mode="nearest") if how == "up" else x


class _Encoder(nn.Module):
    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        for index, (inputs, outputs) in enumerate(zip((6, *widths[:-1]), widths, strict=True)):
            self.add_module(f"block{index + 1}", _double(inputs, outputs))

    def forward(self, x: Tensor) -> list[Tensor]:
        found: list[Tensor] = []
        for index, block in enumerate(self.children()):
            x = block(F.max_pool2d(x, 2) if index else x)
            found.append(x)
        return found


class _Decoder(nn.Module):
    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        below = widths[-1]
        outputs = (widths[4], widths[2], widths[1], widths[0], widths[0])
        for name, skip, width in zip(("_b", "1", "2", "3", "4"), widths[-2::-1], outputs, strict=True):
            up = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
            self.add_module(f"up{name}", nn.Sequential(up, *_single(below, width)))
            self.add_module(f"db{name}", _double(width + skip, width))
            below = width
        self.fin_out = nn.Sequential(nn.Conv2d(below, 1, 3, padding=1))

    def forward(self, found: Sequence[Tensor]) -> Tensor:
        *skips, x = found
        *parts, last = self.children()
        for up, double in zip(parts[::2], parts[1::2], strict=True):
            x = double(torch.cat([up(x), skips.pop()], dim=1))
        logits: Tensor = last(x)
        return logits


class SegmentationUnet(nn.Module):
    """Says from an image and its reconstruction where they differ in a way that matters.

    Args:
        width: channels at full size; 8 times that at the smallest three.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        widths = [width * factor for factor in (1, 2, 4, 8, 8, 8)]
        self.encoder_segment = _Encoder(widths)
        self.decoder_segment = _Decoder(widths)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 6, H, W) to logits (N, 1, H, W); the authors' network ends with their sigmoid."""
        logits: Tensor = self.decoder_segment(self.encoder_segment(x))
        return logits


def _single(inputs: int, outputs: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()]


def _double(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(*_single(inputs, outputs), *_single(outputs, outputs))
