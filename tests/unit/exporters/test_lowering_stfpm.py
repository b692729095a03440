"""The lowered graph is the same function, on random weights, flat images, and features that are all zero."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgead.detectors.stfpm import Stfpm
from edgead.exporters._registry import exporter_for
from edgead.exporters.lowering.stfpm import lower
from edgead.exporters.onnx_exporter import export_graph
from edgead.runtimes._registry import runtime_for
from edgead.types import Target

ORDERS = ("product_then_upsample", "upsample_then_product")
TAPS = {"efficientnet_lite0": ["stage2", "stage3", "stage5"], "resnet18": ["layer1", "layer2", "layer3"]}


def random_detector(backbone: str = "resnet18", size: tuple[int, int] = (32, 48), **changes: Any) -> Stfpm:
    torch.manual_seed(0)
    geometry = {"height": size[0], "width": size[1]}
    detector = Stfpm.from_config(
        {"backbone": backbone, "taps": TAPS[backbone], "geometry": geometry, **changes}
    )
    for module in detector.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 2)
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.normal_(0, 0.2)
    return detector.eval()


def images(size: tuple[int, int]) -> list[Tensor]:
    random = torch.randint(
        0, 256, (1, *size, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )
    return [random, torch.zeros_like(random), torch.full_like(random, 255)]


@pytest.mark.parametrize("size", [(32, 48), (35, 50)])
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("backbone", TAPS)
def test_lowered_is_the_same_function_in_float64(backbone: str, order: str, size: tuple[int, int]) -> None:
    detector = random_detector(backbone, size, map_order=order).double()
    before = {key: value.clone() for key, value in detector.state_dict().items()}
    lowered = lower(detector)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in lowered.modules())
    for image in images(size):
        with torch.no_grad():
            expected, found = (one(image).anomaly_map for one in (detector, lowered))
        assert found.shape == expected.shape
        assert float((found - expected).abs().max()) <= 1e-9 * float(expected.max())
    assert all(torch.equal(value, before[key]) for key, value in detector.state_dict().items())


def test_a_position_without_features_counts_as_torch_counts_it() -> None:
    """ReLU may leave nothing: a vector of zeros has no direction, and stays zeros."""
    detector = random_detector().double()
    for block in (detector.student.layer2[1], detector.student.layer2[0]):  # type: ignore[index, union-attr]
        block.bn2.bias.data.fill_(-1e6)
    lowered = lower(detector)
    image = images((32, 48))[0]
    with torch.no_grad():
        assert float(detector.student(detector.teacher.normalise(image))[1].abs().max()) == 0
        expected, found = (one(image).anomaly_map for one in (detector, lowered))
    assert bool(found.isfinite().all())
    assert float((found - expected).abs().max()) <= 1e-9 * float(expected.max())


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("order", ORDERS)
def test_engines_are_torch(tmp_path: Path, engine: str, order: str) -> None:
    detector = random_detector("efficientnet_lite0", (64, 96), map_order=order)
    graph = export_graph(lower(detector), (64, 96), tmp_path / "graph.onnx")
    target = Target(engine, "fp32")
    compiled = exporter_for(engine).compile(graph.path, target, tmp_path / "targets")
    with runtime_for(engine).open(compiled.main_file, target) as runtime:
        for image in images((64, 96)):
            with torch.no_grad():
                expected = detector(image).anomaly_map.numpy()
            found = runtime.infer(image.numpy()).anomaly_map
            assert np.abs(found - expected).max() <= 1e-4 * np.ptp(expected)
