"""Feature vectors at length 1, with one reciprocal per position."""

from __future__ import annotations

from torch import Tensor


def unit(features: Tensor, eps: float) -> Tensor:
    """(N, C, h, w) with each position's vector divided by max(its length, eps)."""
    return features * features.square().sum(1, keepdim=True).sqrt().clamp_min(eps).reciprocal()
