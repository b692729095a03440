"""CPR lowered: one static graph from the pixels to the foreground-weighted distances.

Exact steps, in float64:

* batch norms of the heads go into their convolutions; the block's branches begin with 1 × 1 convolutions of
  the same input, so those without a pooling before them are one. An average of valid cells keeps constants,
  so it commutes with a 1 × 1 convolution and its folded bias: it is taken behind it, of 64 channels instead
  of 192;
* Σ p·ln(p/r) = Σ p·ln p − Σ p·ln r, with ln r of all references as a constant;
* a query's length is common to all references and offsets, so cosines are divided after the maximum;
* the bank's maps are continued by their own border cells: a cell that is repeated outside stands in the same
  window already, so the maximum does not change and no mask is needed.

The search runs reference by reference: the slab of one reference stays in the cache, and nothing of the size
queries × bank exists. `LoweredQuery` ends before the search, for libedgead's ``window_search`` head.
"""

from __future__ import annotations

import copy
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgead.bundle.head import WINDOW_SEARCH
from edgead.detectors._base import DetectorOutput
from edgead.detectors._cpr_networks import EPS, ConvBnRelu, Inception, RetrievalHead
from edgead.detectors.cpr import INT8_SCALE, Cpr
from edgead.errors import OutputError
from edgead.exporters._head_files import query_path, write_head
from edgead.exporters._qdq import Int8Recipe
from edgead.exporters.lowering._fold import absorb, fold_backbone
from edgead.exporters.onnx_exporter import trace

# A ranking and a weight, which few values would blur.
INT8 = Int8Recipe(keep_float=("query.vocabulary/*", "query.object_map/*"))

SEARCH = WINDOW_SEARCH
"""The head that `write_search` writes files for."""


class LoweredHead(nn.Module):
    """A retrieval head of four convolutions of 1 × 1 and one of 3 × 3.

    Attributes:
        stem: 192 channels.
        direct: branches 0 and 2 and what branch 1's second convolution reads, as one.
        reduced: channels of the latter.
        wide: branch 1's second convolution.
        pooled: branch 3, before its average.
        last: to descriptors, its inputs in the order in which `forward` concatenates.
    """

    def __init__(self, head: RetrievalHead) -> None:
        super().__init__()
        stem, norm, _, block, last = head
        assert isinstance(stem, nn.Conv2d)
        assert isinstance(block, Inception)
        assert isinstance(last, nn.Conv2d)
        assert last.bias is not None
        self.stem = absorb(stem, norm)
        first, self.wide = (_folded(part) for part in block.branch1)
        self.direct = _side_by_side([_folded(block.branch0), _folded(block.branch2[0]), first])
        self.reduced = first.out_channels
        self.pooled = _folded(block.branch3[1])
        self.last = _conv(_reordered(last.weight), last.bias)

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, h, w) to descriptors (N, D, h, w), not normalised."""
        x = torch.relu(self.stem(features))
        direct = torch.relu(self.direct(x))
        keep = direct.shape[1] - self.reduced
        wide = torch.relu(self.wide(direct[:, keep:]))
        pooled = F.avg_pool2d(self.pooled(x), 3, 1, 1, count_include_pad=False)
        descriptors: Tensor = self.last(torch.cat([direct[:, :keep], wide, torch.relu(pooled)], dim=1))
        return descriptors


class LoweredQuery(nn.Module):
    """Everything before the search.

    Attributes:
        offset: (3, 1, 1), subtracted from the pixels; their scaling is in the backbone's first weights.
        log_histograms: (clusters, blocks², N), −ln r of the references.
        reference_foreground: (N, h, w), or None.
    """

    offset: Tensor
    log_histograms: Tensor
    codes: Tensor
    eps: Tensor
    reference_foreground: Tensor | None

    def __init__(self, detector: Cpr) -> None:
        super().__init__()
        config = detector.config
        self.nearest, self.kept = config.nearest, config.kept_blocks
        height, width = detector.grids[0]
        self.block = (height // config.blocks, width // config.blocks)
        backbone = detector.backbone
        mean, std = backbone.mean.double(), backbone.std.double()
        self.register_buffer("offset", 255 * mean)
        pixels = torch.linspace(0, 255, 3 * 64 * 64, dtype=torch.float64).view(1, 3, 64, 64)
        scale = 1 / (255 * std.flatten())
        self.backbone = fold_backbone(backbone, (pixels / 255 - mean) / std, scale)
        heads = [head for head in copy.deepcopy(detector.heads).double() if isinstance(head, RetrievalHead)]
        self.heads = nn.ModuleList(LoweredHead(head) for head in heads)
        centres = detector.centres.double()
        self.vocabulary = _conv(2 * centres[:, :, None, None], -centres.square().sum(1))
        reference = detector.histograms.double()
        self.register_buffer("log_histograms", -(reference + EPS).log().permute(2, 1, 0).contiguous())
        self.register_buffer("codes", torch.arange(config.clusters).view(1, -1, 1, 1))
        # One value per element: the ONNX optimiser takes x + 1e-8 for x + 0 where the constant is a scalar.
        self.register_buffer("eps", torch.full((config.clusters, 1, 1), EPS, dtype=torch.float64))
        self.object_map: nn.Module | None = None
        self.register_buffer("reference_foreground", None)
        if config.foreground:
            weight = detector.foreground_weight.double()[None, :, None, None]
            self.object_map = _conv(weight, detector.foreground_bias.double()[None])
            self.reference_foreground = detector.reference_foreground.double()

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """(1, H, W, 3) uint8 RGB to query_0, query_1 (1, D, h_i, w_i), references (1, K) int32, weight.

        The weight (1, 1, h_0, w_0) is left out where there is no foreground.
        """
        queries, references, weight = self.parts(image)
        found = (*queries, references[None].to(torch.int32))
        return found if weight is None else (*found, weight)

    def parts(self, image: Tensor) -> tuple[list[Tensor], Tensor, Tensor | None]:
        """Descriptors per tap, the K most similar references (K,) int64, and the foreground or None."""
        taps = self.backbone(image.permute(0, 3, 1, 2).to(self.offset.dtype) - self.offset)
        references = self.retrieve(taps[0])
        weight = None
        if self.object_map is not None:
            assert self.reference_foreground is not None
            own = self.object_map(taps[0]).clamp(0, 1)
            others = self.reference_foreground.index_select(0, references).amax(0)
            weight = torch.maximum(own, others[None, None])
        return [head(tap) for head, tap in zip(self.heads, taps, strict=True)], references, weight

    def retrieve(self, fine: Tensor) -> Tensor:
        """(1, C, h, w) of the finer tap to (K,) int64."""
        codes = self.vocabulary(fine).argmax(1, keepdim=True)
        frequencies = F.avg_pool2d((codes == self.codes).to(fine.dtype), self.block)
        p = frequencies.flatten(2)[0, :, :, None] + self.eps
        # Products and sums, no matrix product: engines that compute those in bf16 would change the ranking.
        per_block = (p * p.log()).sum(0) + (p * self.log_histograms).sum(0)
        distances = per_block.topk(self.kept, dim=0, largest=False).values.sum(0)
        return distances.topk(self.nearest, largest=False).indices


class LoweredCpr(nn.Module):
    """The complete network.

    Attributes:
        query: all before the search.
        bank0, bank1: (N, D, h + 2δ, w + 2δ), as the detector stores them, δ the window's reach.
        size: (H, W) of the map.
    """

    def __init__(self, detector: Cpr) -> None:
        super().__init__()
        dtype = detector.centres.dtype
        self.query = LoweredQuery(detector).to(dtype)
        self.nearest = detector.config.nearest
        self.windows, self.size = detector.config.windows, detector.geometry.input_size
        for level, window in enumerate(self.windows):
            reach = window // 2
            bank = detector.get_buffer(f"bank{level}")
            continued = F.pad(bank.float(), (reach,) * 4, mode="replicate").to(bank.dtype)
            self.register_buffer(f"bank{level}", continued)
            # One value per element: see LoweredQuery.eps.
            self.register_buffer(f"row_eps{level}", torch.full((bank.shape[3],), EPS, dtype=dtype))

    def forward(self, image: Tensor) -> DetectorOutput:
        """Score (1, H, W, 3) uint8 RGB; the map is (1, 1, H, W)."""
        queries, references, weight = self.query.parts(image)
        fine, coarse = (self.search(level, query, references) for level, query in enumerate(queries))
        total = fine + F.interpolate(coarse, size=fine.shape[2:], mode="bilinear", align_corners=False)
        anomaly_map = F.interpolate(total, size=self.size, mode="bilinear", align_corners=False)
        if weight is not None:
            weight = F.interpolate(weight, size=self.size, mode="bilinear", align_corners=False)
            anomaly_map = anomaly_map * weight
        return DetectorOutput(anomaly_map)

    def search(self, level: int, query: Tensor, references: Tensor) -> Tensor:
        """(1, D, h, w) descriptors and (K,) references to distances (1, 1, h, w)."""
        stored = self.get_buffer(f"bank{level}").index_select(0, references)
        bank = stored.to(query.dtype)
        height, width = query.shape[2:]
        cosines = []
        for index in range(self.nearest):
            one = bank[index : index + 1]
            for dy in range(self.windows[level]):
                for dx in range(self.windows[level]):
                    shifted = one[:, :, dy : dy + height, dx : dx + width]
                    cosines.append((query * shifted).sum(1, keepdim=True))
        best = torch.cat(cosines, dim=1).amax(1, keepdim=True)
        length = query.square().sum(1, keepdim=True).sqrt() + self.get_buffer(f"row_eps{level}")
        scale = INT8_SCALE if stored.dtype == torch.int8 else 1.0
        return 1 - best / (scale * length)


def lower(detector: Cpr) -> LoweredCpr:
    """The same function as `detector` in evaluation mode, folded in float64, in the detector's own dtype.

    The bank stays as it is stored.

    Raises:
        InternalError: the backbone does not fold (see `fold_backbone`).
    """
    return LoweredCpr(detector).requires_grad_(False).eval()


def write_search(detector: Cpr, lowered: LoweredCpr, graph: Path) -> None:
    """Write what targets with a ``window_search`` head are made of, beside graph.onnx.

    Args:
        detector: whose bank is written.
        lowered: what `lower` made of it.
        graph: graph.onnx.

    Raises:
        OutputError: the files cannot be written.
    """
    import onnx

    config = detector.config
    names = ["query_0", "query_1", "references", *(["weight"] if config.foreground else [])]
    image = torch.zeros((1, *config.geometry.input_size, 3), dtype=torch.uint8)
    model = trace(lowered.query, {"image": image}, names, {"edgead.detector": detector.name})
    path = query_path(graph)
    try:
        onnx.save(model, path)
    except OSError as err:
        raise OutputError(f"cannot write {path}: {err.strerror or err}") from err
    banks = [detector.get_buffer(f"bank{level}") for level in range(len(config.windows))]
    scale = INT8_SCALE if config.bank_type == "int8" else 1
    write_head(
        graph,
        [(bank / scale).numpy() for bank in banks],
        config.windows,
        nearest=config.nearest,
        grid=config.geometry.input_size,
        weighted=config.foreground,
        bank_type=config.bank_type,
    )


def _folded(part: nn.Module) -> nn.Conv2d:
    assert isinstance(part, ConvBnRelu)
    return absorb(part.conv, part.bn)


def _side_by_side(convs: list[nn.Conv2d]) -> nn.Conv2d:
    biases = [conv.bias for conv in convs if conv.bias is not None]
    return _conv(torch.cat([conv.weight for conv in convs]), torch.cat(biases))


def _reordered(weight: Tensor) -> Tensor:
    """Columns of branches 0, 1, 2, 3 to the order 0, 2, 1, 3."""
    zero, one, two, three = weight.chunk(4, dim=1)
    return torch.cat([zero, two, one, three], dim=1)


def _conv(weight: Tensor, bias: Tensor) -> nn.Conv2d:
    """A 1 × 1 convolution."""
    conv = nn.Conv2d(weight.shape[1], weight.shape[0], 1, dtype=torch.float64)
    conv.weight = nn.Parameter(weight.detach().contiguous(), requires_grad=False)
    conv.bias = nn.Parameter(bias.detach().contiguous(), requires_grad=False)
    return conv
