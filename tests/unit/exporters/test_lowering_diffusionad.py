"""The graph against the straightforward form, which is held to the specification beside it."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from edgead.detectors._diffusion_networks import AttentionBlock
from edgead.detectors.diffusionad import DiffusionAd
from edgead.exporters._registry import exporter_for
from edgead.exporters.lowering._denoising import LoweredAttention
from edgead.exporters.lowering.diffusionad import lower
from edgead.exporters.onnx_exporter import ExportedGraph, export_graph
from edgead.runtimes._openvino import openvino
from edgead.runtimes._registry import runtime_for
from edgead.types import Target

SIZE = (32, 64)
EXACT = 1e-12


def make_diffusionad(**changes: Any) -> DiffusionAd:
    torch.manual_seed(0)
    config = {
        "base": 8,
        "blocks": 1,
        "groups": 2,
        "heads": 2,
        "segmentation_width": 4,
        "geometry": {"height": SIZE[0], "width": SIZE[1]},
    } | changes
    detector = DiffusionAd.from_config(config)
    random = torch.Generator().manual_seed(1)
    for module in detector.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(0, 0.2, generator=random)
            module.running_var.uniform_(0.05, 0.2, generator=random)
        if isinstance(module, nn.BatchNorm2d | nn.GroupNorm):
            module.weight.data.uniform_(0.5, 1.5, generator=random)
            module.bias.data.normal_(0, 0.2, generator=random)
    return detector.eval()


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[DiffusionAd, ExportedGraph]:
    """A detector and its graph: tracing takes most of the time here."""
    detector = make_diffusionad()
    path = tmp_path_factory.mktemp("diffusionad") / "graph.onnx"
    return detector, export_graph(lower(detector), SIZE, path)


def pictures() -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(2)
    noisy = torch.randint(0, 256, (1, *SIZE, 3), generator=random, dtype=torch.uint8)
    return {"random": noisy, "black": torch.zeros_like(noisy), "white": torch.full_like(noisy, 255)}


@pytest.mark.parametrize(
    "changes",
    [{}, {"guidance": 2.5, "levels": [0, 999]}, {"multipliers": [1, 2, 2], "attention": [2], "blocks": 2}],
    ids=["bare", "extreme levels", "another shape"],
)
@pytest.mark.parametrize("batched", [True, False], ids=["batch of two", "two passes"])
def test_the_graph_is_the_detector(changes: dict[str, Any], batched: bool) -> None:
    detector = make_diffusionad(**changes).double()
    lowered = lower(detector, batched=batched)
    spread = []
    for name, image in pictures().items():
        with torch.no_grad():
            expected = detector(image).anomaly_map
            found = lowered(image).anomaly_map
        spread.append(float(expected.max() - expected.min()))
        assert float((found - expected).abs().max()) < EXACT, name
    assert max(spread) > 1e-3  # maps that differ from place to place


def test_lowering_leaves_the_detector_alone_and_shares_its_weights() -> None:
    detector = make_diffusionad()
    before = copy.deepcopy(detector.state_dict())
    lowered = lower(detector)
    assert all(value.requires_grad for value in detector.parameters())
    assert all(torch.equal(value, before[key]) for key, value in detector.state_dict().items())
    assert not any(value.requires_grad for value in lowered.parameters())
    own = {value.data_ptr() for value in detector.unet.parameters()}
    held = sum(value.nbytes for value in lowered.unet.parameters() if value.data_ptr() not in own)
    attention = (block for block in detector.unet.modules() if isinstance(block, AttentionBlock))
    assert held == sum(value.nbytes for block in attention for value in block.to_qkv.parameters())


def test_attention_without_its_norm_s_affine_is_the_same() -> None:
    block = make_diffusionad().double().unet.middle[1]
    assert isinstance(block, AttentionBlock)
    x = 5 * torch.randn(2, 32, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(LoweredAttention(block)(x, slice(None)), block(x, x), atol=EXACT, rtol=0)


def test_no_time_and_no_randomness_is_left_in_the_graph(exported: tuple[DiffusionAd, ExportedGraph]) -> None:
    graph = onnx.load(exported[1].path).graph
    kinds = {node.op_type for node in graph.node}
    assert not kinds & {"Sin", "Cos", "Exp", "Gemm", "BatchNormalization"}
    assert not {kind for kind in kinds if kind.startswith("Random")}
    assert [value.name for value in graph.input] == ["image"]
    assert {"InstanceNormalization", "MatMul", "Softmax", "Resize", "Sigmoid"} <= kinds
    batches = {tuple(value.dims)[:1] for value in graph.initializer if tuple(value.dims)[1:] == (3, *SIZE)}
    assert batches == {(2,)}


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_engines_are_torch_and_say_the_same_twice(
    exported: tuple[DiffusionAd, ExportedGraph], tmp_path: Path, engine: str
) -> None:
    (detector, graph), target = exported, Target(engine, "fp32")
    assert graph.max_abs_diff < 1e-4
    compiled = exporter_for(engine).compile(graph.path, target, tmp_path / "targets")
    answers = []
    for _ in range(2):
        with runtime_for(engine).open(compiled.main_file, target) as runtime:
            answers.append([runtime.infer(image.numpy()).anomaly_map.copy() for image in pictures().values()])
    for image, first, second in zip(pictures().values(), *answers, strict=True):
        with torch.no_grad():
            expected = detector(image).anomaly_map.numpy()
        assert np.abs(first - expected).max() <= 1e-3
        assert np.array_equal(first, second)


def test_openvino_normalises_groups_in_one_operator(exported: tuple[DiffusionAd, ExportedGraph]) -> None:
    """One MVN for each group norm of the network."""
    detector, graph = exported
    core = openvino().Core()
    model = core.compile_model(core.read_model(graph.path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    kinds = [node.get_rt_info()["layerType"] for node in model.get_runtime_model().get_ordered_ops()]
    norms = sum(isinstance(module, nn.GroupNorm) for module in detector.unet.modules())
    assert kinds.count("MVN") == norms
    assert not {"Exp", "Sqrt", "ReduceMean"} & set(kinds)
