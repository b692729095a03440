"""How much of an image is left after t steps of noise, and what a network's guess of the noise says of it.

The linear schedule of DDPM (Ho et al., 2020) that DiffusionAD, DDAD and their kin train with.
"""

from __future__ import annotations

import torch
from torch import Tensor

STEPS = 1000
_FIRST_BETA, _LAST_BETA = 1e-4, 0.02


def kept_shares(device: torch.device | str = "cpu") -> Tensor:
    """ᾱ per step, (1000,) float64, made on `device`: x_t = √ᾱ·x + √(1 − ᾱ)·noise, where t counts from 0."""
    betas = torch.linspace(_FIRST_BETA, _LAST_BETA, STEPS, dtype=torch.float64, device=device)
    return (1 - betas).cumprod(0)


def roots(levels: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    """(√ᾱ, √(1 − ᾱ)) of noise levels.

    Args:
        levels: (N,) int64 steps t.
        like: gives dtype and device.

    Returns:
        two tensors of (N, 1, 1, 1).
    """
    shares = kept_shares(levels.device)[levels].view(-1, 1, 1, 1)
    return shares.sqrt().to(like), (1 - shares).sqrt().to(like)
