from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from edgead.detectors import model_file
from edgead.detectors._base import DetectorOutput
from edgead.detectors.model_file import ModelInfo
from edgead.detectors.simplenet import SimpleNet
from edgead.errors import EngineError, InternalError, OutputError, UsageError
from edgead.exporters import _onnx_file
from edgead.exporters._registry import exporter_for
from edgead.exporters.lowering import lower
from edgead.exporters.onnx_exporter import OPSET, export_graph
from edgead.exporters.reference import TorchReference
from edgead.runtimes._registry import runtime_for
from edgead.types import Target

SIZE = (48, 64)


class Tiny(nn.Module):
    """A map and a score by arithmetic: the red plane halved, and its largest value."""

    def __init__(self, scored: bool = True) -> None:
        super().__init__()
        self.scored = scored

    def forward(self, image: Tensor) -> DetectorOutput:
        anomaly_map = image.permute(0, 3, 1, 2)[:, :1].float() * 0.5
        return DetectorOutput(anomaly_map, anomaly_map.amax(dim=(1, 2, 3)) if self.scored else None)


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (1, *SIZE, 3), dtype=np.uint8)


def test_a_simplenet_agrees_in_every_engine(
    make_simplenet: Callable[..., SimpleNet],
    tmp_path: Path,
    image: np.ndarray,
    capfd: pytest.CaptureFixture[str],
) -> None:
    detector = make_simplenet(taps=("stage3", "stage5"), size=SIZE)
    exported = export_graph(
        lower(detector), SIZE, tmp_path / "graph.onnx", metadata={"edgead.detector": "simplenet"}
    )
    assert exported.files == (tmp_path / "graph.onnx",)
    assert exported.max_abs_diff <= 1e-5 * exported.map_range
    model = onnx.load(exported.path)
    assert {entry.key for entry in model.metadata_props} == {"edgead.version", "edgead.detector"}
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", OPSET)]
    assert {node.domain for node in model.graph.node} <= {"", "ai.onnx"}
    assert not {"BatchNormalization", "Pad", "Div"} & {node.op_type for node in model.graph.node}
    assert str(Path(__file__).parents[3]).encode() not in exported.path.read_bytes()
    info = ModelInfo(
        detector="simplenet",
        preset="simplenet",
        config=detector.config_dict(),
        provenance={"kind": "trained"},
        created="2026-11-23T00:00:00Z",
        created_by="0.1.0",
    )
    model_file.save(tmp_path / "MODEL", detector, info)
    with TorchReference().open(tmp_path / "MODEL", Target("torch", "fp32")) as reference:
        assert reference.input_shape == (1, *SIZE, 3)
        expected = reference.infer(image).anomaly_map
    for text, tolerance in (("openvino:fp32", 1e-5), ("onnxruntime:fp32", 1e-5)):
        target = Target.parse(text)
        compiled = exporter_for(target.engine).compile(exported.path, target, tmp_path / "targets")
        with runtime_for(target.engine).open(compiled.main_file, target) as runtime:
            got = runtime.infer(image).anomaly_map
        assert np.abs(got - expected).max() <= tolerance * np.ptp(expected)
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""


def test_map_score_names_and_shapes(tmp_path: Path, image: np.ndarray) -> None:
    exported = export_graph(Tiny(), SIZE, tmp_path / "graph.onnx", batch=2)
    model = onnx.load(exported.path)
    shapes = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }
    assert shapes == {"image": [2, *SIZE, 3], "anomaly_map": [2, 1, *SIZE], "image_score": [2]}
    assert exported.max_abs_diff == 0
    with runtime_for("onnxruntime").open(exported.path, Target("onnxruntime", "fp32")) as runtime:
        output = runtime.infer(np.concatenate([image, 255 - image]))
    assert output.image_score is not None
    assert (output.image_score == [image[..., 0].max() / 2, (255 - image[..., 0]).max() / 2]).all()
    assert (output.anomaly_map[1, 0] == (255 - image[0, ..., 0]) / 2).all()


def test_a_module_without_a_score_has_one_output(tmp_path: Path) -> None:
    exported = export_graph(Tiny(scored=False), SIZE, tmp_path / "graph.onnx")
    assert [value.name for value in onnx.load(exported.path).graph.output] == ["anomaly_map"]


def test_the_same_module_gives_the_same_bytes(
    make_simplenet: Callable[..., SimpleNet], tmp_path: Path
) -> None:
    detector = make_simplenet(taps=("stage1",), size=SIZE)
    first = export_graph(lower(detector), SIZE, tmp_path / "first.onnx").path.read_bytes()
    second = export_graph(lower(detector), SIZE, tmp_path / "second.onnx").path.read_bytes()
    assert first == second


def test_large_weights_lie_beside_the_graph(
    make_simplenet: Callable[..., SimpleNet],
    tmp_path: Path,
    image: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_onnx_file, "EMBED_LIMIT_BYTES", 10_000)
    detector = make_simplenet(taps=("stage1",), size=SIZE)
    exported = export_graph(lower(detector), SIZE, tmp_path / "graph.onnx")
    assert exported.files == (tmp_path / "graph.onnx", tmp_path / "graph.onnx.data")
    assert exported.max_abs_diff <= 1e-5 * exported.map_range
    target = Target("onnxruntime", "fp32")
    assert exporter_for("onnxruntime").compile(exported.path, target, tmp_path).files == exported.files
    target = Target("openvino", "fp32")
    compiled = exporter_for("openvino").compile(exported.path, target, tmp_path)
    with runtime_for("openvino").open(compiled.main_file, target) as runtime:
        got = runtime.infer(image).anomaly_map
    expected = detector(torch.tensor(image)).anomaly_map.detach().numpy()
    assert np.abs(got - expected).max() <= 1e-5 * np.ptp(expected)


def test_an_unwritable_place_is_an_output_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot write"):
        export_graph(Tiny(), SIZE, tmp_path / "missing" / "graph.onnx")


def test_what_torch_cannot_export_is_named(tmp_path: Path) -> None:
    class DataDependent(nn.Module):
        def forward(self, image: Tensor) -> DetectorOutput:
            scale = 2.0 if image.float().mean() > 3 else 1.0
            return DetectorOutput(image.permute(0, 3, 1, 2).float() * scale)

    with pytest.raises(InternalError, match="DataDependent"):
        export_graph(DataDependent(), SIZE, tmp_path / "graph.onnx")


def test_both_openvino_precisions_share_one_uncompressed_ir(
    make_simplenet: Callable[..., SimpleNet], tmp_path: Path
) -> None:
    graph = export_graph(lower(make_simplenet(taps=("stage1",), size=SIZE)), SIZE, tmp_path / "g.onnx").path
    exporter = exporter_for("openvino")
    first = exporter.compile(graph, Target("openvino", "fp32"), tmp_path)
    before = [file.read_bytes() for file in first.files]
    second = exporter.compile(graph, Target("openvino", "bf16"), tmp_path)
    assert first.files == second.files
    assert [file.read_bytes() for file in second.files] == before
    assert b'element_type="f16"' not in before[0]
    assert str(tmp_path).encode() not in before[0]
    assert set(second.tools) == {"openvino"}


def test_the_reference_is_the_detector_itself(
    make_simplenet: Callable[..., SimpleNet], image: np.ndarray
) -> None:
    detector = make_simplenet(taps=("stage1",), size=SIZE)
    with TorchReference(detector).open(Path("unread"), Target("torch", "fp32")) as reference:
        got = reference.infer(image)
    assert got.image_score is None
    assert (got.anomaly_map == detector(torch.tensor(image)).anomaly_map.detach().numpy()).all()
    with pytest.raises(EngineError, match="cpu"):
        TorchReference(detector).open(Path("unread"), Target("torch", "fp32", "gpu"))


def test_exporters_refuse_what_they_cannot_make(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no exporter"):
        exporter_for("caffe")
    with pytest.raises(UsageError, match="onnxruntime:bf16: onnxruntime targets come in"):
        exporter_for("onnxruntime").compile(tmp_path / "g.onnx", Target("onnxruntime", "bf16"), tmp_path)
    graph = export_graph(Tiny(), SIZE, tmp_path / "graph.onnx").path
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot write"):
        exporter_for("openvino").compile(graph, Target("openvino", "fp32"), tmp_path / "file")
    graph.write_bytes(b"no graph")
    with pytest.raises(EngineError, match=r"graph\.onnx"):
        exporter_for("openvino").compile(graph, Target("openvino", "fp32"), tmp_path)
    with pytest.raises(UsageError, match="does not exist"):
        exporter_for("openvino").compile(tmp_path / "g.onnx", Target("openvino", "fp32"), tmp_path)
