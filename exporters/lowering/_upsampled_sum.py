"""The sum of maps of different grids, each up-sampled to the input's size, as one matrix product.

With X_i a map (h_i × w_i) and R_i, C_i the matrices of its up-sampling in rows and columns:

    Σ R_i·X_i·C_iᵀ = [R_1 R_2 …]·[X_1·C_1ᵀ; X_2·C_2ᵀ; …]
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class UpsampledSum(nn.Module):
    """Maps to their sum at the size of the matrices.

    Args:
        rows: per map, (H, h_i) float64.
        columns: per map, (W, w_i) float64.
    """

    rows: Tensor

    def __init__(self, rows: Sequence[Tensor], columns: Sequence[Tensor]) -> None:
        super().__init__()
        self.register_buffer("rows", torch.cat(list(rows), 1))
        for index, matrix in enumerate(columns):
            self.register_buffer(f"columns{index}", matrix.T.contiguous())

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """(N, 1, h_i, w_i) each to (N, 1, H, W)."""
        wide = [one @ self.get_buffer(f"columns{index}") for index, one in enumerate(maps)]
        return self.rows @ torch.cat(wide, dim=2)
