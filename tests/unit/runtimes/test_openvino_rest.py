"""The rest of an int8 target in OpenVINO, what is not quantised: bf16 where bundle and CPU have it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgead.runtimes import openvino_runtime
from edgead.runtimes._openvino import openvino
from edgead.runtimes.openvino_runtime import OpenVINORuntime
from edgead.types import Rest, Target

SIDE = 8
IMAGE = np.random.default_rng(3).integers(0, 256, (1, SIDE, SIDE, 3), np.uint8)


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    """Two float convolutions: nothing is quantised, so all of it is the rest."""
    random = np.random.default_rng(4)
    weights = {
        "first": random.normal(size=(16, 3, 3, 3)).astype(np.float32),
        "last": random.normal(size=(1, 16, 3, 3)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Transpose", ["image"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["planes"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Conv", ["float", "first"], ["inner"], pads=[1] * 4),
        helper.make_node("Conv", ["inner", "last"], ["anomaly_map"], pads=[1] * 4),
    ]
    made = helper.make_graph(
        nodes,
        "rest",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [1, SIDE, SIDE, 3])],
        [helper.make_tensor_value_info("anomaly_map", TensorProto.FLOAT, [1, 1, SIDE, SIDE])],
        [numpy_helper.from_array(values, name) for name, values in weights.items()],
    )
    path = tmp_path / "graph.onnx"
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), path)
    return path


def run(graph: Path, precision: Any, rest: Rest = "fp32") -> np.ndarray:
    runtime = OpenVINORuntime()
    with runtime.open(graph, Target("openvino", precision), threads=1, rest=rest) as opened:
        return opened.infer(IMAGE).anomaly_map.copy()


def has_bf16() -> bool:
    default: str = openvino().Core().get_property("CPU", "INFERENCE_PRECISION_HINT").get_type_name()
    return default == "bf16"


def test_rest_is_fp32_by_default(graph: Path) -> None:
    assert np.array_equal(run(graph, "int8"), run(graph, "fp32"))


def test_rest_in_bf16_is_what_bf16_gives_where_the_cpu_has_it(graph: Path) -> None:
    assert np.array_equal(run(graph, "int8", "bf16"), run(graph, "bf16" if has_bf16() else "fp32"))
    assert not has_bf16() or not np.array_equal(run(graph, "int8", "bf16"), run(graph, "fp32"))


def test_other_precisions_have_no_rest(graph: Path) -> None:
    assert np.array_equal(run(graph, "fp32", "bf16"), run(graph, "fp32"))


def test_a_cpu_that_would_only_emulate_bf16_computes_the_rest_in_fp32(
    graph: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With AVX-512 alone OpenVINO takes the hint bf16, though its own default is f32."""
    package = openvino()

    class Core:
        available_devices = ("CPU",)

        def __init__(self) -> None:
            self.read_model, self.compile_model = core.read_model, core.compile_model

        def get_property(self, device: str, name: str) -> Any:
            assert (device, name) == ("CPU", "INFERENCE_PRECISION_HINT")
            return package.Type.f32

    core, exact = package.Core(), run(graph, "fp32")
    monkeypatch.setattr(
        openvino_runtime, "openvino", lambda: SimpleNamespace(Core=Core, Tensor=package.Tensor)
    )
    assert np.array_equal(run(graph, "int8", "bf16"), exact)
