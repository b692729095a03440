"""ONNX Runtime on a GPU: what is said where there is none."""

from __future__ import annotations

from pathlib import Path

import onnxruntime
import pytest
from onnx import TensorProto, helper, save

from edgead.errors import EngineError
from edgead.runtimes._registry import runtime_for
from edgead.types import Target


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, [1, 4, 4, 3])
    found = helper.make_tensor_value_info("anomaly_map", TensorProto.FLOAT, [1, 4, 4, 3])
    cast = helper.make_node("Cast", ["image"], ["anomaly_map"], to=TensorProto.FLOAT)
    body = helper.make_graph([cast], "g", [image], [found])
    save(
        helper.make_model(body, opset_imports=[helper.make_opsetid("", 18)], ir_version=9),
        tmp_path / "g.onnx",
    )
    return tmp_path / "g.onnx"


def test_without_its_provider_the_gpu_is_refused_by_name(graph: Path) -> None:
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has the CUDA provider")
    with pytest.raises(EngineError, match=r"no CUDA provider.*onnxruntime-gpu"):
        runtime_for("onnxruntime").open(graph, Target("onnxruntime", "fp16", "cuda"))


def test_it_never_falls_back_to_the_cpu(graph: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a GPU a session for one has the CPU's provider alone, and says nothing."""
    known = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: known)
    session = onnxruntime.InferenceSession

    def on_cpu(path: str, options: object, providers: list[tuple[str, dict[str, str]]]) -> object:
        assert providers == [("CUDAExecutionProvider", {"use_tf32": "0"})]
        return session(path, options, providers=["CPUExecutionProvider"])

    monkeypatch.setattr(onnxruntime, "InferenceSession", on_cpu)
    with pytest.raises(EngineError, match="would run on the CPU"):
        runtime_for("onnxruntime").open(graph, Target("onnxruntime", "fp32", "cuda"))


def test_fp16_is_for_the_gpu(graph: Path) -> None:
    with pytest.raises(EngineError, match="fp16 on the GPU only"):
        runtime_for("onnxruntime").open(graph, Target("onnxruntime", "fp16"))
