"""CPR's losses: normal pairs are to agree, anomalous and remote ones to differ, the worst ones most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from edgead.training._cpr_pairs import Pairs

_EPS = 1e-7


@dataclass(frozen=True, slots=True)
class PairBatch:
    """The fields of `Pairs` for many images: positions (B, n, 2), weights (B, n)."""

    positive: Tensor
    positive_weight: Tensor
    remote_query: Tensor
    remote_reference: Tensor
    remote_weight: Tensor
    anomalous: Tensor
    anomalous_weight: Tensor


def stack_pairs(pairs: Sequence[Pairs], device: torch.device) -> PairBatch:
    """One batch of the pairs of many images."""
    columns = (np.stack([getattr(each, field.name) for each in pairs]) for field in fields(Pairs))
    return PairBatch(*(torch.from_numpy(column).to(device) for column in columns))


def pair_losses(
    descriptors: tuple[Tensor, Tensor],
    features: tuple[Tensor, Tensor],
    pairs: PairBatch,
    *,
    margins: tuple[float, float],
) -> tuple[Tensor, Tensor]:
    """Of one tap: hinge losses of the cosine, cubed.

    A remote pair counts as much as the frozen features differ (squared distance, over the mean of the
    image's remote pairs), so that places that look alike need not differ.

    Args:
        descriptors: (B, D, h, w) of queries and of references.
        features: (B, C, h, w) of the same images in the tap.
        pairs: their positions.
        margins: positive pairs shall have a cosine above the first, all others one below the second.

    Returns:
        (positive, negative): each averaged over the pairs of weight > 0.
    """
    query, reference = descriptors
    agreement = F.cosine_similarity(_at(query, pairs.positive), _at(reference, pairs.positive))
    positive = _cubed(margins[0] - agreement, pairs.positive_weight)
    with torch.no_grad():
        apart = _at(features[0], pairs.remote_query) - _at(features[1], pairs.remote_reference)
        weight = apart.square().sum(1) * (pairs.remote_weight > 0)
        weight = weight / (weight.sum(1, keepdim=True) + _EPS) * pairs.remote_weight.sum(1, keepdim=True)
    in_query = torch.cat([pairs.remote_query, pairs.anomalous], 1)
    in_reference = torch.cat([pairs.remote_reference, pairs.anomalous], 1)
    agreement = F.cosine_similarity(_at(query, in_query), _at(reference, in_reference))
    negative = _cubed(agreement - margins[1], torch.cat([weight, pairs.anomalous_weight], 1))
    return positive, negative


def _at(values: Tensor, points: Tensor) -> Tensor:
    """(B, C, h, w) bilinearly at (B, n, 2) points: (B, C, n)."""
    found = F.grid_sample(values, points[:, :, None], padding_mode="border", align_corners=False)
    return found.squeeze(3)


def _cubed(shortfall: Tensor, weight: Tensor) -> Tensor:
    return (shortfall.clamp_min(0) * weight).pow(3).sum() / (weight > 0).sum().clamp_min(1)
