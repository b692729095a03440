"""The lowered graph is the same function: whitening, nested cells and centring against the plain form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgead.detectors.padim import Padim
from edgead.exporters._registry import exporter_for
from edgead.exporters.lowering.padim import lower, whitening
from edgead.exporters.onnx_exporter import export_graph
from edgead.runtimes._registry import runtime_for
from edgead.types import Target

EXACT = 1e-9
LITE0 = ("stage2", "stage3", "stage5")
CASES: dict[str, tuple[str, tuple[str, ...], int, tuple[int, int]]] = {
    "three nested strides": ("efficientnet_lite0", LITE0, 90, (32, 64)),
    "two of one stride": ("efficientnet_lite0", ("stage3", "stage4", "stage5"), 70, (32, 48)),
    "a jump over a stride": ("efficientnet_lite0", ("stage2", "stage5"), 80, (48, 32)),
    "one tap": ("efficientnet_lite0", ("stage3",), 7, (32, 32)),
    "one feature": ("efficientnet_lite0", LITE0, 1, (32, 32)),
    "grids that do not nest": ("efficientnet_lite0", LITE0, 40, (36, 52)),
    "residual blocks": ("resnet18", ("layer1", "layer2", "layer3"), 100, (32, 32)),
    "wide bottlenecks": ("wide_resnet50_2", ("layer2", "layer3"), 50, (32, 32)),
}


def random_detector(case: str, *, constant: bool = True) -> Padim:
    """Gaussians without structure; `constant`: means as they come from repeated features."""
    backbone, taps, dim, (height, width) = CASES[case]
    torch.manual_seed(0)
    config: dict[str, Any] = {"backbone": backbone, "taps": taps, "dim": dim}
    detector = Padim.from_config({**config, "geometry": {"height": height, "width": width}}).double()
    for module in detector.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_var is not None
            module.running_var.uniform_(0.5, 2)
    detector.index.copy_(torch.randperm(detector.features)[:dim])
    if constant:
        detector.mean.copy_(detector.embed(noise(detector, 5))[0])
    else:
        detector.mean.normal_()
    root = torch.randn_like(detector.inv_covariance)
    detector.inv_covariance.copy_(root @ root.transpose(1, 2) / dim + 0.1 * torch.eye(dim))
    return detector.eval()


def noise(detector: Padim, seed: int) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (1, *detector.geometry.input_size, 3), dtype=torch.uint8, generator=random)


def images(detector: Padim) -> list[Tensor]:
    return [
        noise(detector, 1),
        torch.zeros_like(noise(detector, 1)),
        torch.full_like(noise(detector, 1), 255),
    ]


@pytest.mark.parametrize("constant", [True, False])
@pytest.mark.parametrize("case", CASES)
def test_lowered_is_the_same_function_in_float64(case: str, constant: bool) -> None:
    detector = random_detector(case, constant=constant)
    before = {key: value.clone() for key, value in detector.state_dict().items()}
    lowered = lower(detector)
    for image in images(detector):
        with torch.no_grad():
            expected, found = (one(image).anomaly_map for one in (detector, lowered))
        assert found.shape == expected.shape
        assert float((found - expected).abs().max()) <= EXACT * float(expected.max())
    assert all(torch.equal(value, before[key]) for key, value in detector.state_dict().items())
    repeats = case not in ("one tap", "grids that do not nest")
    assert (lowered.bias is not None) == (repeats and not constant)


def test_a_resnet_s_last_block_computes_what_is_kept() -> None:
    detector = random_detector("residual blocks")
    lowered = lower(detector)
    last = lowered.backbone.get_submodule("layer3.1")
    kept = int((detector.index >= 64 + 128).sum())
    assert last.conv2.weight.shape[0] == kept < 256  # type: ignore[union-attr, index]
    whole = detector.backbone.get_submodule("layer3.1")
    assert whole.conv2.weight.shape[0] == 256  # type: ignore[union-attr, index]


def test_the_training_image_itself_is_at_distance_zero() -> None:
    detector = random_detector("three nested strides")
    with torch.no_grad():
        found = lower(detector)(noise(detector, 5)).anomaly_map
    assert float(found.abs().max()) < 1e-9


@pytest.mark.parametrize("spread", [0.0, 1e6])
def test_whitening_of_extreme_spreads(spread: float) -> None:
    """Eigenvalues from 1 to 1 + spread."""
    torch.manual_seed(0)
    basis = torch.linalg.qr(torch.randn(5, 12, 12, dtype=torch.float64)).Q
    matrix = basis @ torch.diag(1 + spread * torch.rand(12, dtype=torch.float64)) @ basis.transpose(1, 2)
    upper = whitening(matrix)
    assert torch.equal(upper, upper.triu())
    torch.testing.assert_close(upper.transpose(1, 2) @ upper, matrix, rtol=1e-12, atol=1e-9)


def test_an_inverse_that_rounding_left_indefinite_is_taken_without_its_negative_part() -> None:
    torch.manual_seed(0)
    basis = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64)).Q
    values = torch.tensor([-1e-9, 0.5, 1, 2, 3, 100], dtype=torch.float64)
    matrix = basis @ torch.diag(values) @ basis.T
    upper = whitening(torch.stack([matrix, torch.eye(6, dtype=torch.float64)]))
    np.testing.assert_allclose(upper[0], upper[0].triu(), atol=1e-12)
    torch.testing.assert_close(upper[0].T @ upper[0], matrix, rtol=0, atol=2e-9)
    assert torch.equal(upper[1], torch.eye(6, dtype=torch.float64))


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("case", ["three nested strides", "grids that do not nest"])
def test_engines_are_torch(tmp_path: Path, engine: str, case: str) -> None:
    detector = random_detector(case).float()
    size = detector.geometry.input_size
    graph = export_graph(lower(detector), size, tmp_path / "graph.onnx")
    target = Target(engine, "fp32")
    compiled = exporter_for(engine).compile(graph.path, target, tmp_path / "targets")
    with runtime_for(engine).open(compiled.main_file, target) as runtime:
        for image in images(detector):
            with torch.no_grad():
                expected = detector.double()(image).anomaly_map.numpy()
                detector.float()
            found = runtime.infer(image.numpy()).anomaly_map
            assert np.abs(found - expected).max() <= 1e-4 * expected.max()
