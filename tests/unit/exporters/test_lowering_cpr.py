"""The graph against a plain reading of the specification, written with NumPy loops."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from edgead.backbones._weights import load_weights
from edgead.detectors._cpr_networks import RetrievalHead
from edgead.detectors.cpr import Cpr
from edgead.exporters.lowering._fold import fold_backbone
from edgead.exporters.lowering.cpr import LoweredCpr, LoweredHead, lower
from edgead.exporters.onnx_exporter import export_graph
from edgead.imaging.frame import read_image
from edgead.imaging.preprocess import Preprocess
from edgead.runtimes.ort_runtime import OnnxRuntime
from edgead.types import Geometry, Target

SIDES = (80, 100)
EXACT = 1e-12


@pytest.fixture
def make_cpr() -> Callable[..., Cpr]:
    def make(seed: int = 0, references: int | Tensor = 9, **changes: Any) -> Cpr:
        torch.manual_seed(seed)
        config = {
            "backbone": "efficientnet_lite0",
            "taps": ["stage2", "stage3"],
            "dim": 6,
            "nearest": 3,
            "geometry": {"height": SIDES[0], "width": SIDES[1]},
            "bank_type": "fp32",
        } | changes
        detector = Cpr.from_config(config)
        # Real features: those of random weights hardly differ, and rounding would decide between clusters.
        load_weights(detector.backbone, "efficientnet_lite0")
        random = torch.Generator().manual_seed(seed)
        for module in detector.heads.modules():
            if isinstance(module, nn.BatchNorm2d):
                assert module.running_mean is not None
                assert module.running_var is not None
                module.running_mean.normal_(0, 0.2, generator=random)
                module.running_var.uniform_(0.5, 2.0, generator=random)
                module.weight.data.uniform_(0.5, 1.5, generator=random)
                module.bias.data.normal_(0, 0.2, generator=random)
        for module in detector.heads.modules():
            if isinstance(module, nn.Conv2d):
                module.weight.data.normal_(0, (2 / module.weight[0].numel()) ** 0.5, generator=random)
        detector.train()
        with torch.no_grad():
            some = references[:4] if isinstance(references, Tensor) else images(seed + 1, 4)
            taps = detector.features(some)
            for (
                norm
            ) in detector.heads.modules():  # the statistics of these taps, else all descriptors are alike
                if isinstance(norm, nn.BatchNorm2d):
                    norm.momentum = 1.0
            detector.describe(taps)
        detector.eval()
        fine = taps[0]
        cells = fine.movedim(1, -1).reshape(-1, fine.shape[1])
        detector.centres.copy_(cells[torch.randperm(len(cells), generator=random)[: len(detector.centres)]])
        if detector.config.foreground:
            direction = torch.randn(fine.shape[1], generator=random)
            values = cells @ direction
            detector.foreground_weight.copy_(direction / (values.max() - values.min()))
            detector.foreground_bias.copy_(-values.min() / (values.max() - values.min()))
        bank = references if isinstance(references, Tensor) else images(seed + 2, references)
        detector.set_references(bank)
        return detector

    return make


def images(seed: int, count: int = 1) -> Tensor:
    """Coarse random pictures: blocks of 4 × 4 pixels, so that references differ in their histograms."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (count, SIDES[0] // 4, SIDES[1] // 4, 3), np.uint8)
    return torch.from_numpy(coarse.repeat(4, axis=1).repeat(4, axis=2))


def plain(detector: Cpr, image: Tensor) -> tuple[list[int], np.ndarray]:
    """Spec §4 to §6 cell by cell in float64: (retrieved references, (H, W) weighted distances)."""
    config = detector.config
    with torch.no_grad():
        taps = detector.features(image)
        heads = [head(tap)[0].double().numpy() for head, tap in zip(detector.heads, taps, strict=True)]
    fine = taps[0][0].double().numpy()
    centres = detector.centres.double().numpy()
    rows, cols = fine.shape[1:]
    side = (rows // config.blocks, cols // config.blocks)
    counts = np.zeros((config.blocks, config.blocks, len(centres)))
    for y in range(rows):
        for x in range(cols):
            nearest = ((centres - fine[:, y, x]) ** 2).sum(1).argmin()
            counts[y // side[0], x // side[1], nearest] += 1 / (side[0] * side[1])
    histogram = counts.reshape(-1, len(centres))
    ranking = []
    for reference in detector.histograms.double().numpy():
        blocks = [
            sum((p + 1e-8) * math.log((p + 1e-8) / (r + 1e-8)) for p, r in zip(one, other, strict=True))
            for one, other in zip(histogram, reference, strict=True)
        ]
        ranking.append(sum(sorted(blocks)[: config.kept_blocks]))
    chosen = sorted(range(len(ranking)), key=lambda index: ranking[index])[: config.nearest]

    distances = []
    for level, query in enumerate(heads):
        reach = config.windows[level] // 2
        bank = detector.bank(level, torch.tensor(chosen)).double().numpy()
        height, width = query.shape[1:]
        found = np.empty((height, width))
        for y in range(height):
            for x in range(width):
                top, left = max(0, y - reach), max(0, x - reach)
                window = bank[:, :, top : y + reach + 1, left : x + reach + 1]
                length = np.linalg.norm(query[:, y, x]) + 1e-8
                found[y, x] = 1 - np.einsum("d,kdyx->kyx", query[:, y, x] / length, window).max()
        distances.append(found)
    size = detector.geometry.input_size
    total = distances[0] + bilinear(distances[1], (rows, cols))
    full = bilinear(total, size)
    if config.foreground:
        weight, bias = detector.foreground_weight.double().numpy(), float(detector.foreground_bias)
        shown = np.clip(np.einsum("c,cyx->yx", weight, fine) + bias, 0, 1)
        others = detector.reference_foreground[chosen].double().numpy()
        full = full * bilinear(np.maximum(shown, others.max(0)), size)
    return chosen, full


def bilinear(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Half-pixel centres, clamped at the border."""

    def axis(length: int, wanted: int) -> np.ndarray:
        place = np.clip((np.arange(wanted) + 0.5) * length / wanted - 0.5, 0, length - 1)
        low = np.minimum(place.astype(int), length - 1)
        matrix = np.zeros((wanted, length))
        matrix[np.arange(wanted), low] += 1 - (place - low)
        matrix[np.arange(wanted), np.minimum(low + 1, length - 1)] += place - low
        return matrix

    return axis(values.shape[0], size[0]) @ values @ axis(values.shape[1], size[1]).T


@pytest.mark.parametrize(
    "changes",
    [{}, {"foreground": False}, {"bank_type": "fp16"}, {"bank_type": "int8"}, {"windows": [5, 3]}],
    ids=["foreground", "texture", "fp16", "int8", "windows"],
)
def test_detector_and_graph_are_the_specification(
    make_cpr: Callable[..., Cpr], changes: dict[str, Any]
) -> None:
    detector = make_cpr(**changes).double()
    for seed in (10, 11):
        image = images(seed)
        chosen, expected = plain(detector, image)
        with torch.no_grad():
            straight = detector(image).anomaly_map[0, 0].numpy()
            lowered = lower(detector)
            found = lowered.query.retrieve(
                lowered.query.backbone(image.movedim(3, 1).double() - lowered.query.offset)[0]
            )
            graph = lowered(image).anomaly_map[0, 0].numpy()
        limit = 1e-9 * np.ptp(expected)
        assert found.tolist() == chosen
        np.testing.assert_allclose(straight, expected, rtol=0, atol=limit)
        np.testing.assert_allclose(graph, expected, rtol=0, atol=limit)


@pytest.mark.realdata
def test_the_graph_is_the_specification_on_real_images(
    make_cpr: Callable[..., Cpr], bottle: Path, tmp_path: Path
) -> None:
    """At the size of the presets, in ONNX Runtime and fp32: the same references, ≤ 1e-4 of the range."""
    geometry = {"height": 320, "width": 320, "resampler": "opencv_linear"}
    preprocess = Preprocess(Geometry.from_values(geometry))

    def pixels(paths: list[Path]) -> Tensor:
        return torch.from_numpy(np.stack([preprocess(read_image(path)).copy() for path in paths]))

    good = pixels(sorted((bottle / "train" / "good").glob("*.png"))[:12])
    detector = make_cpr(references=good, geometry=geometry, nearest=4, dim=16, bank_type="fp16")
    lowered = lower(detector)
    exported = export_graph(lowered, (320, 320), tmp_path / "graph.onnx")
    with OnnxRuntime().open(exported.path, Target("onnxruntime", "fp32")) as runtime:
        for kind in ("good", "broken_large", "contamination"):
            image = pixels(sorted((bottle / "test" / kind).glob("*.png"))[:1])
            chosen, expected = plain(detector, image)
            with torch.no_grad():
                fine = lowered.query.backbone(image.movedim(3, 1).float() - lowered.query.offset)[0]
                assert lowered.query.retrieve(fine).tolist() == chosen
            got = runtime.infer(image.numpy()).anomaly_map[0, 0]
            np.testing.assert_allclose(got, expected, rtol=0, atol=1e-4 * np.ptp(expected))


def test_a_reference_image_is_found_and_lies_at_distance_zero(make_cpr: Callable[..., Cpr]) -> None:
    detector = make_cpr(foreground=False)
    image = images(2, 9)[4:5]
    with torch.no_grad():
        assert int(detector.retrieve(detector.histogram(detector.features(image)[0])[0])[0]) == 4
        assert float(lower(detector)(image).anomaly_map.abs().max()) < 1e-5


def test_the_head_folds_exactly(make_cpr: Callable[..., Cpr]) -> None:
    head = make_cpr().heads[0].double()
    assert isinstance(head, RetrievalHead)
    features = torch.randn(2, 24, 7, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = head(features)
        got = LoweredHead(copy.deepcopy(head))(features)
    assert float((got - expected).abs().max() / expected.abs().max()) < EXACT


def test_the_head_s_first_layer_is_two_convolutions_of_its_input(make_cpr: Callable[..., Cpr]) -> None:
    head = LoweredHead(make_cpr().heads[0].double())
    assert head.direct.weight.shape[:2] == (64 + 64 + 48, 192)
    assert head.pooled.weight.shape[:2] == (64, 192)


def test_a_norm_before_its_convolution_stays() -> None:
    """The first norm of a DenseNet's layer reads a concatenation."""

    class Layer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv0, self.norm1 = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(8)
            self.conv1, self.norm2 = nn.Conv2d(8, 4, 1), nn.BatchNorm2d(4)

        def forward(self, x: Tensor) -> tuple[Tensor, ...]:
            first = self.conv0(x)
            return (self.norm2(self.conv1(torch.relu(self.norm1(torch.cat([first, first], 1))))),)

    layer = Layer().double().eval()
    for norm in (layer.norm1, layer.norm2):
        assert norm.running_mean is not None
        norm.running_mean.normal_(generator=torch.Generator().manual_seed(1))
    image = torch.randn(1, 3, 8, 8, dtype=torch.float64)
    folded = fold_backbone(layer, image)
    torch.testing.assert_close(folded(image)[0], layer(image)[0], rtol=1e-12, atol=1e-12)
    kinds = [type(module).__name__ for module in folded.modules()]
    assert kinds.count("BatchNorm2d") == 1


def test_query_graph_gives_what_the_search_needs(make_cpr: Callable[..., Cpr]) -> None:
    detector = make_cpr()
    image = images(20)
    with torch.no_grad():
        *queries, references, weight = lower(detector).query(image)
        taps = detector.features(image)
        chosen, _ = plain(detector, image)
        expected = [head(tap) for head, tap in zip(detector.heads, taps, strict=True)]
    for query, wanted in zip(queries, expected, strict=True):
        torch.testing.assert_close(query, wanted, rtol=1e-4, atol=1e-4 * float(wanted.abs().max()))
    assert references.dtype == torch.int32
    assert references.tolist() == [chosen]
    assert weight.shape == (1, 1, *detector.grids[0])


def test_a_descriptor_of_length_zero_is_as_far_as_a_perpendicular_one(
    make_cpr: Callable[..., Cpr], tmp_path: Path
) -> None:
    """Spec §6: q/(|q| + 1e-8) is 0 there, so the distance is 1 in each of the two taps."""
    detector = make_cpr(foreground=False)
    for head in detector.heads:
        head[-1].weight.data.zero_()
        head[-1].bias.data.zero_()
    exported = export_graph(lower(detector), SIDES, tmp_path / "graph.onnx")
    with OnnxRuntime().open(exported.path, Target("onnxruntime", "fp32")) as runtime:
        got = runtime.infer(images(30).numpy()).anomaly_map
    np.testing.assert_allclose(got, 2.0)


@pytest.mark.parametrize("bank_type", ["fp32", "fp16", "int8"])
def test_onnx_runtime_gives_the_detector_s_map(
    make_cpr: Callable[..., Cpr], tmp_path: Path, bank_type: str
) -> None:
    detector = make_cpr(bank_type=bank_type)
    exported = export_graph(lower(detector), SIDES, tmp_path / "graph.onnx")
    image = images(30)
    with OnnxRuntime().open(exported.path, Target("onnxruntime", "fp32")) as runtime:
        got = runtime.infer(image.numpy()).anomaly_map
    with torch.no_grad():
        expected = detector(image).anomaly_map.numpy()
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-4 * np.ptp(expected))


def test_the_bank_is_stored_as_the_model_has_it(make_cpr: Callable[..., Cpr], tmp_path: Path) -> None:
    sizes = {}
    for bank_type in ("fp32", "fp16", "int8"):
        lowered = lower(make_cpr(bank_type=bank_type, references=40))
        assert isinstance(lowered, LoweredCpr)
        exported = export_graph(lowered, SIDES, tmp_path / f"{bank_type}.onnx")
        model = onnx.load(exported.path)
        types = {tuple(entry.dims): entry.data_type for entry in model.graph.initializer}
        kinds = {"fp32": 1, "fp16": 10, "int8": 3}
        assert types[40, 6, 22, 27] == kinds[bank_type]
        assert types[40, 6, 10, 13] == kinds[bank_type]
        sizes[bank_type] = exported.path.stat().st_size
    values = 40 * 6 * (22 * 27 + 10 * 13)
    assert sizes["fp32"] - sizes["fp16"] == pytest.approx(2 * values, abs=4096)
    assert sizes["fp16"] - sizes["int8"] == pytest.approx(values, abs=4096)
