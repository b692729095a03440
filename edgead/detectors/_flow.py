"""The normalising flow of FastFlow: affine couplings with two convolutions each, as FrEIA's AllInOneBlock."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

DAMPING = 0.1  # of the subnet's output and of the global scale
_BETA = 0.5  # of the softplus that the global scale goes through


class FlowStep(nn.Module):
    """One coupling: the first half of the channels says how the second is scaled and shifted.

    Args:
        channels: in and out; the first half is the larger one where they are odd.
        kernel: of both convolutions, odd.
        hidden_ratio: channels between the two convolutions, over those of the first half.
        clamp: the logarithm of a scale stays within ± it.

    Attributes:
        subnet: convolution, ReLU, convolution; the second gives log-scales, then shifts.
        global_scale, global_offset: (1, channels, 1, 1), of all channels after the coupling.
        order: (channels,) int64; output channel i is channel order[i] of that.
    """

    order: Tensor

    def __init__(self, channels: int, *, kernel: int, hidden_ratio: float, clamp: float) -> None:
        super().__init__()
        self.passed, self.changed, self.clamp = channels - channels // 2, channels // 2, clamp
        hidden = int(self.passed * hidden_ratio)
        self.subnet = nn.Sequential(
            nn.Conv2d(self.passed, hidden, kernel, padding=kernel // 2),
            nn.ReLU(),
            nn.Conv2d(hidden, 2 * self.changed, kernel, padding=kernel // 2),
        )
        start = math.log(math.expm1(_BETA / DAMPING)) / _BETA  # where the scale is 1
        self.global_scale = nn.Parameter(torch.full((1, channels, 1, 1), start))
        self.global_offset = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.register_buffer("order", torch.arange(channels))

    @property
    def scale(self) -> Tensor:
        """(1, channels, 1, 1), positive."""
        return DAMPING * F.softplus(self.global_scale, beta=_BETA)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(N, C, h, w) to the same and the logarithm of the Jacobian's determinant, (N,)."""
        passed, changed = x[:, : self.passed], x[:, self.passed :]
        logarithm, shift = (DAMPING * self.subnet(passed)).chunk(2, dim=1)
        logarithm = self.clamp * torch.tanh(logarithm)
        changed = changed * logarithm.exp() + shift
        y = torch.cat([passed, changed], dim=1) * self.scale + self.global_offset
        jacobian = logarithm.sum((1, 2, 3)) + self.scale.log().sum() * (x.shape[2] * x.shape[3])
        return y.index_select(1, self.order), jacobian


class Flow(nn.Module):
    """Steps one after the other.

    Args:
        channels: of the features.
        steps: how many.
        only_3x3: all kernels 3 × 3; else every second one is 1 × 1.
        hidden_ratio: see `FlowStep`.
        clamp: likewise.
    """

    def __init__(
        self, channels: int, *, steps: int, only_3x3: bool, hidden_ratio: float, clamp: float
    ) -> None:
        super().__init__()
        self.steps = nn.ModuleList(
            FlowStep(
                channels,
                kernel=3 if only_3x3 or number % 2 == 0 else 1,
                hidden_ratio=hidden_ratio,
                clamp=clamp,
            )
            for number in range(steps)
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(N, C, h, w) to z of the same shape and the log-determinant, (N,)."""
        total = x.new_zeros(len(x))
        for step in self.steps:
            x, jacobian = step(x)
            total = total + jacobian
        return x, total
