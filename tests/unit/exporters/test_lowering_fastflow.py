"""Each fold of a flow alone and all together, with offsets that a wrong border would show."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgead.detectors._flow import Flow, FlowStep
from edgead.detectors.fastflow import FastFlow
from edgead.exporters._registry import exporter_for
from edgead.exporters.lowering._upsampled_sum import UpsampledSum
from edgead.exporters.lowering.fastflow import LoweredFlow, lower
from edgead.exporters.onnx_exporter import export_graph
from edgead.imaging.map_operator import upsample_matrix
from edgead.runtimes._registry import runtime_for
from edgead.types import Target

SIZE = (32, 48)
TAPS = {"efficientnet_lite0": ["stage2", "stage3", "stage5"], "resnet18": ["layer1", "layer2", "layer3"]}
# What is unlike its start: global scales (through the softplus), offsets, order of channels.
FOLDS = {
    "nothing": (0.0, 0.0, False),
    "scales": (2.0, 0.0, False),
    "offsets": (0.0, 1.0, False),
    "order": (0.0, 0.0, True),
    "all": (2.0, 1.0, True),
    "far offsets and scales near 0 and 10": (30.0, 100.0, True),
}


def scatter(network: nn.Module, scale: float, offset: float, order: bool) -> None:
    for module in network.modules():
        if isinstance(module, FlowStep):
            module.global_scale.data.add_(scale * (2 * torch.rand_like(module.global_scale) - 1))
            module.global_offset.data.copy_(offset * torch.randn_like(module.global_offset))
            if order:
                module.order.copy_(torch.randperm(len(module.order)))


@pytest.mark.parametrize("fold", FOLDS)
@pytest.mark.parametrize(
    ("channels", "steps", "only_3x3", "ratio"), [(8, 4, False, 1.0), (7, 3, True, 0.5), (6, 1, False, 2.0)]
)
def test_a_flow_is_the_same_function(
    channels: int, steps: int, only_3x3: bool, ratio: float, fold: str
) -> None:
    torch.manual_seed(0)
    flow = Flow(channels, steps=steps, only_3x3=only_3x3, hidden_ratio=ratio, clamp=2.0).double()
    scatter(flow, *FOLDS[fold])
    lowered = LoweredFlow([step for step in flow.steps if isinstance(step, FlowStep)], (5, 4))
    x = torch.randn(2, channels, 5, 4, dtype=torch.float64)
    with torch.no_grad():
        for value in (x, torch.zeros_like(x), 50 * x):
            expected = -torch.log(torch.exp(-0.5 * flow(value)[0].square().mean(1, keepdim=True)))
            z = lowered.steps(value) * lowered.gain + lowered.offset
            # Exponents, not likelihoods: far values would hide behind the 0 that both give.
            straight = 0.5 * flow(value)[0].square().mean(1, keepdim=True)
            torch.testing.assert_close(z.square().sum(1, keepdim=True), straight, rtol=1e-9, atol=1e-12)
            finite = expected.isfinite()
            torch.testing.assert_close(-lowered(value).log()[finite], expected[finite], rtol=1e-6, atol=1e-9)


def test_a_step_needs_no_picture_without_offsets() -> None:
    flow = Flow(6, steps=3, only_3x3=True, hidden_ratio=1.0, clamp=2.0).double()
    lowered = LoweredFlow([step for step in flow.steps if isinstance(step, FlowStep)], (4, 4))
    assert all(step.picture is None for step in lowered.steps)
    assert lowered.steps[-1].order is None


def test_upsampled_sum_is_torch_s_interpolation() -> None:
    torch.manual_seed(0)
    maps = [torch.randn(2, 1, *size, dtype=torch.float64) for size in ((8, 12), (4, 6), (3, 5))]
    axes = [
        [torch.from_numpy(upsample_matrix(one.shape[2 + axis], SIZE[axis], "bilinear")) for one in maps]
        for axis in (0, 1)
    ]
    expected = sum(F.interpolate(one, size=SIZE, mode="bilinear", align_corners=False) for one in maps)
    torch.testing.assert_close(UpsampledSum(*axes)(maps), expected, rtol=1e-12, atol=1e-12)


def random_detector(backbone: str, **changes: Any) -> FastFlow:
    torch.manual_seed(0)
    config: dict[str, Any] = {"backbone": backbone, "taps": TAPS[backbone], "flow_steps": 4}
    detector = FastFlow.from_config({**config, "geometry": {"height": SIZE[0], "width": SIZE[1]}, **changes})
    scatter(detector, 0.3, 0.3, order=True)
    for module in detector.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 2)
        elif isinstance(module, nn.LayerNorm):
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.normal_(0, 0.2)
    return detector.eval()


def images() -> list[Tensor]:
    random = torch.randint(
        0, 256, (1, *SIZE, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )
    return [random, torch.zeros_like(random), torch.full_like(random, 255)]


@pytest.mark.parametrize("backbone", TAPS)
@pytest.mark.parametrize("changes", [{}, {"only_3x3": True, "hidden_ratio": 0.5, "flow_steps": 2}], ids=str)
def test_lowered_is_the_same_function_in_float64(backbone: str, changes: dict[str, Any]) -> None:
    detector = random_detector(backbone, **changes).double()
    before = {key: value.clone() for key, value in detector.state_dict().items()}
    lowered = lower(detector)
    for image in images():
        with torch.no_grad():
            expected, found = (one(image).anomaly_map for one in (detector, lowered))
        assert found.shape == expected.shape
        assert float((found - expected).abs().max()) <= 1e-9 * float(expected.max() - expected.min())
    assert all(torch.equal(value, before[key]) for key, value in detector.state_dict().items())


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("backbone", TAPS)
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
