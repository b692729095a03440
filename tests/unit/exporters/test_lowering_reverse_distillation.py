"""Each fold alone on random and extreme values, and the whole graph against the straightforward form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgead.detectors.reverse_distillation import ReverseDistillation
from edgead.exporters._registry import exporter_for
from edgead.exporters.lowering._fold import fold_backbone
from edgead.exporters.lowering.reverse_distillation import Spread, corners, distance, lower
from edgead.exporters.onnx_exporter import export_graph
from edgead.runtimes._registry import runtime_for
from edgead.types import Target

SIZE = (32, 64)
TAPS = {
    "efficientnet_lite0": ["stage2", "stage3", "stage5"],
    "resnet18": ["layer1", "layer2", "layer3"],
    "wide_resnet50_2": ["layer1", "layer2", "layer3"],
}


def random_detector(backbone: str, size: tuple[int, int] = SIZE) -> ReverseDistillation:
    torch.manual_seed(0)
    config: dict[str, Any] = {"backbone": backbone, "taps": TAPS[backbone]}
    detector = ReverseDistillation.from_config({**config, "geometry": {"height": size[0], "width": size[1]}})
    for module in detector.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 2)
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.normal_(0, 0.2)
    return detector.eval()


def images() -> list[Tensor]:
    random = torch.randint(
        0, 256, (1, *SIZE, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )
    return [random, torch.zeros_like(random), torch.full_like(random, 255)]


@pytest.mark.parametrize("backbone", TAPS)
def test_lowered_is_the_same_function_in_float64(backbone: str) -> None:
    detector = random_detector(backbone).double()
    before = {key: value.clone() for key, value in detector.state_dict().items()}
    lowered = lower(detector)
    gone = (nn.BatchNorm2d, nn.ConvTranspose2d)
    assert not any(isinstance(module, gone) for module in lowered.modules())
    for image in images():
        with torch.no_grad():
            expected, found = (one(image).anomaly_map for one in (detector, lowered))
        assert found.shape == expected.shape
        assert float((found - expected).abs().max()) <= 1e-9 * float(expected.max())
    assert all(torch.equal(value, before[key]) for key, value in detector.state_dict().items())


def test_a_batch_norm_behind_a_transposed_convolution_folds() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.ConvTranspose2d(3, 5, 2, 2)
            self.norm = nn.BatchNorm2d(5)

        def forward(self, x: Tensor) -> tuple[Tensor, ...]:
            return (self.norm(self.conv(x)),)

    torch.manual_seed(0)
    network = Net().double().eval()
    network.norm.running_mean = torch.tensor([1e3, -1e3, 0.0, 1e-3, 5.0], dtype=torch.float64)
    network.norm.running_var = torch.tensor([1e-8, 1e8, 1.0, 0.0, 2.0], dtype=torch.float64)
    image = torch.randn(2, 3, 4, 6, dtype=torch.float64)
    folded = fold_backbone(network, image)
    with torch.no_grad():
        torch.testing.assert_close(folded(image)[0], network(image)[0], rtol=1e-12, atol=1e-9)
    assert isinstance(folded.norm, nn.Identity)


def test_spread_is_the_transposed_convolution() -> None:
    """On random and extreme values, a grid that is no square, and a batch of two."""
    torch.manual_seed(0)
    transposed = nn.ConvTranspose2d(3, 5, 2, 2, dtype=torch.float64).requires_grad_(False)
    spread = Spread(transposed)
    random = torch.randn(2, 3, 4, 6, dtype=torch.float64)
    for image in (random, 1e9 * random, torch.zeros_like(random)):
        torch.testing.assert_close(spread(image), transposed(image), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("cells", "pixels"), [(16, 256), (8, 32), (2, 7), (1, 5)])
def test_corners_is_torch_s_interpolation(cells: int, pixels: int) -> None:
    values = torch.randn(1, 1, cells, dtype=torch.float64)
    expected = F.interpolate(values, size=pixels, mode="linear", align_corners=True)[0, 0]
    torch.testing.assert_close(corners(cells, pixels) @ values[0, 0], expected, rtol=1e-12, atol=1e-12)


def test_distance_is_one_minus_torch_s_cosine() -> None:
    """Random, equal, opposite, orthogonal, huge, tiny, shorter than ε, and zero vectors."""
    random = torch.randn(1, 7, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    other = random.flip(3)
    zeros = torch.zeros_like(random)
    near = random + 1e-7 * other
    for scale in (1.0, 1e120, 1e-6, 1e-9, 1e-12):
        for one, two in (
            (random, other),
            (random, random),
            (random, -random),
            (random, near),
            (zeros, random),
        ):
            expected = 1 - F.cosine_similarity(one * scale, two * scale, dim=1)[:, None]
            found = distance(one * scale, two * scale)
            torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("backbone", ["efficientnet_lite0", "resnet18"])
def test_engines_are_torch(tmp_path: Path, engine: str, backbone: str) -> None:
    detector = random_detector(backbone)
    graph = export_graph(lower(detector), SIZE, tmp_path / "graph.onnx")
    target = Target(engine, "fp32")
    compiled = exporter_for(engine).compile(graph.path, target, tmp_path / "targets")
    with runtime_for(engine).open(compiled.main_file, target) as runtime:
        for image in images():
            with torch.no_grad():
                expected = detector(image).anomaly_map.numpy()
            found = runtime.infer(image.numpy()).anomaly_map
            assert np.abs(found - expected).max() <= 1e-4 * np.ptp(expected)
