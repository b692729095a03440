"""Graphs on disk whose weights lie beside them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from edgead.exporters import _onnx_file


def test_writing_a_large_graph_again_replaces_its_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_onnx_file, "EMBED_LIMIT_BYTES", 1 << 10)
    path, sizes = tmp_path / "graph.onnx", []
    for value in (1.0, 2.0, 3.0):
        weights = numpy_helper.from_array(np.full((64, 64), value, np.float32), "w")
        graph = helper.make_graph(
            [helper.make_node("MatMul", ["x", "w"], ["y"])],
            "edgead",
            [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 64])],
            [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 64])],
            [weights],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
        files = _onnx_file.save(model, path)
        assert [file.name for file in files] == ["graph.onnx", "graph.onnx.data"]
        sizes.append(files[1].stat().st_size)
        (stored,) = onnx.load(path).graph.initializer
        assert (numpy_helper.to_array(stored) == value).all()
    assert sizes == [64 * 64 * 4] * 3
