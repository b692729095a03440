"""PatchCore lowered: one static graph from the pixels to the distances.

* Batch norms and pixel scaling go into the backbone's convolutions; the authors' averages of channels are
  convolutions below the up-sampling (`_patch_affine`), which is per channel and commutes with them.
* The search is ‖b‖² − 2·q·b, its least one, and the distance to that vector alone: no root and no difference
  of large numbers for the others. The bank stands without its mean, which is taken from the queries.
* The neighbours of each vector of the bank are constants, so a weighted score needs no second search.

`LoweredQuery` ends before the search, for libedgead's ``bank_search`` head.
"""

from __future__ import annotations

import functools
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgead.bundle.head import BANK_SEARCH
from edgead.detectors._base import DetectorOutput
from edgead.detectors.patchcore import PatchCore
from edgead.errors import OutputError
from edgead.exporters._head_files import BANK_FOLDER, query_path, write_bank_head
from edgead.exporters._qdq import Int8Recipe
from edgead.exporters.lowering._fold import fold_backbone
from edgead.exporters.lowering._patch_affine import forms, poolings
from edgead.exporters.onnx_exporter import trace

# Distances are differences of large numbers.
INT8 = Int8Recipe(keep_float=("MatMul_*",))

SEARCH = BANK_SEARCH
"""The head that `write_search` writes files for."""


class LoweredQuery(nn.Module):
    """Everything before the search.

    Attributes:
        offset: (3, 1, 1), subtracted from the pixels; their scaling is in the backbone's first weights.
        backbone: without batch norms.
        branches: per tap, its patches' part of the vectors, on the tap's own grid.
    """

    offset: Tensor

    def __init__(self, detector: PatchCore) -> None:
        super().__init__()
        mean, std = detector.backbone.mean.double(), detector.backbone.std.double()
        pixels = torch.linspace(0, 255, 3 * 64 * 64, dtype=torch.float64).view(1, 3, 64, 64)
        self.register_buffer("offset", 255 * mean)
        self.backbone = fold_backbone(
            detector.backbone, (pixels / 255 - mean) / std, 1 / (255 * std.flatten())
        )
        size = detector.config.patch_size
        self.summed = detector.config.embedding_dim > 0
        if self.summed:
            identity = torch.eye(detector.dim, dtype=torch.float64)
            branches = [
                forms(identity, pooling, size)[0].layers
                for pooling in poolings(detector.backbone, detector.config)
            ]
            self.branches = nn.ModuleList(branches)
        else:
            self.branches = nn.ModuleList(nn.AvgPool2d(size, 1, size // 2) for _ in detector.config.taps)

    def forward(self, image: Tensor) -> Tensor:
        """(N, H, W, 3) uint8 RGB to patch vectors (N, h · w, D)."""
        taps = self.backbone(image.permute(0, 3, 1, 2).to(self.offset.dtype) - self.offset)
        grid = max((tap.shape[2:] for tap in taps), key=lambda size: size[0] * size[1])
        parts = [
            part
            if part.shape[2:] == grid
            else F.interpolate(part, size=grid, mode="bilinear", align_corners=False)
            for part in (branch(tap) for tap, branch in zip(taps, self.branches, strict=True))
        ]
        vectors = functools.reduce(torch.add, parts) if self.summed else torch.cat(parts, dim=1)
        return vectors.flatten(2).transpose(1, 2)


class LoweredPatchCore(nn.Module):
    """The complete network.

    Attributes:
        query: all before the search.
        centre: (D,), the bank's mean.
        bank: (M, D), without it.
        squares: (M,), of the bank's lengths.
        near: (M, K) int64, or None.
    """

    centre: Tensor
    bank: Tensor
    squares: Tensor
    near: Tensor | None

    def __init__(self, detector: PatchCore) -> None:
        super().__init__()
        self.grid = detector.grid
        self.query = LoweredQuery(detector)
        bank = detector.bank.double()
        self.register_buffer("centre", bank.mean(0))
        self.register_buffer("bank", bank - self.centre)
        self.register_buffer("squares", self.bank.square().sum(1))
        self.register_buffer("near", detector.near if detector.config.neighbours else None)

    def forward(self, image: Tensor) -> DetectorOutput:
        """Score (N, H, W, 3) uint8 RGB images; the map is (N, 1, h, w)."""
        queries = self.query(image) - self.centre
        products = torch.matmul(-2 * queries, self.bank.T)
        found = (products + self.squares).argmin(2)
        distances = length(queries - self.bank[found])
        anomaly_map = distances.view(-1, 1, *self.grid)
        if self.near is None:
            return DetectorOutput(anomaly_map)
        worst = distances.argmax(1, keepdim=True)
        others = self.bank[self.near[found.gather(1, worst)[:, 0]]]
        query = queries.gather(1, worst[..., None].expand(-1, -1, queries.shape[2]))
        shares = length(query - others).softmax(1)
        return DetectorOutput(anomaly_map, (1 - shares[:, 0]) * distances.amax(1))


def length(vectors: Tensor) -> Tensor:
    """Of the last dimension."""
    return vectors.square().sum(-1).sqrt()


def lower(detector: PatchCore) -> LoweredPatchCore:
    """The same function as `detector` in evaluation mode, folded in float64, in the detector's own dtype.

    Raises:
        InternalError: the backbone does not fold (see `fold_backbone`).
    """
    return LoweredPatchCore(detector).to(detector.bank.dtype).requires_grad_(False).eval()


def write_search(detector: PatchCore, lowered: LoweredPatchCore, graph: Path) -> None:
    """Write what targets with a ``bank_search`` head are made of, beside graph.onnx.

    Args:
        detector: whose bank is written.
        lowered: what `lower` made of it.
        graph: graph.onnx.

    Raises:
        OutputError: the files cannot be written.
    """
    import onnx

    image = torch.zeros((1, *detector.geometry.input_size, 3), dtype=torch.uint8)
    model = trace(lowered.query, {"image": image}, ["query"], {"edgead.detector": detector.name})
    path = query_path(graph, BANK_FOLDER)
    try:
        onnx.save(model, path)
    except OSError as err:
        raise OutputError(f"cannot write {path}: {err.strerror or err}") from err
    near = detector.near.numpy() if detector.config.neighbours else None
    write_bank_head(graph, detector.bank.numpy(), near, grid=detector.grid)
