"""What stands in for an engine that cannot run here computes the graph as it is written: by arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgead.exporters._half_rounded import rounded
from edgead.runtimes._typed_graph import TypedGraphRuntime
from edgead.types import Target

SIDE, MADE = 8, 5
IMAGES = {
    "random": np.random.default_rng(4).integers(0, 256, (1, SIDE, SIDE, 3), np.uint8),
    "black": np.zeros((1, SIDE, SIDE, 3), np.uint8),
    "white": np.full((1, SIDE, SIDE, 3), 255, np.uint8),
}


def write(path: Path, nodes: Sequence[Any], **constants: np.ndarray) -> Path:
    """From float planes ``x`` (1, 3, H, W) to ``y`` (1, MADE, H, W), pixels before it and the map behind."""
    before = [
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["pixels"], ["x"], perm=[0, 3, 1, 2]),
    ]
    after = [helper.make_node("Identity", ["y"], ["anomaly_map"])]
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, [1, SIDE, SIDE, 3])
    result = helper.make_tensor_value_info("anomaly_map", TensorProto.FLOAT, [1, MADE, SIDE, SIDE])
    stored = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    body = helper.make_graph([*before, *nodes, *after], "typed", [image], [result], stored)
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def run(path: Path, precision: Any, image: np.ndarray) -> np.ndarray:
    with TypedGraphRuntime().open(path, Target("onnxruntime", precision, "cuda"), threads=1) as opened:
        return opened.infer(image).anomaly_map.copy()


def convolved(planes: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """A 1×1 convolution in float64."""
    return np.einsum("nchw,kc->nkhw", planes.astype(np.float64), weights[:, :, 0, 0].astype(np.float64))


@pytest.mark.parametrize("name", IMAGES)
def test_half_precision_is_rounded_after_every_node(name: str, tmp_path: Path) -> None:
    """Two products in a row: the result of the first has 11 bits before the second reads it."""
    random = np.random.default_rng(5)
    first = random.normal(0, 0.05, (4, 3, 1, 1)).astype(np.float16)
    second = random.normal(0, 1, (MADE, 4, 1, 1)).astype(np.float16)
    nodes = [
        helper.make_node("Cast", ["x"], ["half"], to=TensorProto.FLOAT16),
        helper.make_node("Conv", ["half", "first"], ["between"]),
        helper.make_node("Conv", ["between", "second"], ["last"]),
        helper.make_node("Cast", ["last"], ["y"], to=TensorProto.FLOAT),
    ]
    path = rounded(write(tmp_path / "half.onnx", nodes, first=first, second=second))
    planes = IMAGES[name].transpose(0, 3, 1, 2)
    wanted = convolved(convolved(planes, first).astype(np.float16), second)
    found = run(path, "fp16", IMAGES[name])
    assert (found == found.astype(np.float16)).all()
    # A sum in float32 may fall on the other side of a step of half precision; hardly any does.
    assert (found == wanted.astype(np.float16)).mean() > 0.99
    if name == "random":
        assert (found == convolved(convolved(planes, first), second).astype(np.float16)).mean() < 0.9


def test_what_half_precision_cannot_hold_is_no_number(tmp_path: Path) -> None:
    factors = np.array([200.0, 256.87, 256.88, 257.0, 300.0], np.float32).reshape(1, MADE, 1, 1)
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["grey"], axes=[1]),
        helper.make_node("Mul", ["grey", "factors"], ["large"]),
        helper.make_node("Cast", ["large"], ["half"], to=TensorProto.FLOAT16),
        helper.make_node("Neg", ["half"], ["less"]),
        helper.make_node("Cast", ["less"], ["y"], to=TensorProto.FLOAT),
    ]
    path = rounded(write(tmp_path / "half.onnx", nodes, factors=factors))
    for name in ("white", "random"):
        with np.errstate(over="ignore"):
            wanted = -(IMAGES[name].transpose(0, 3, 1, 2).max(1, keepdims=True) * factors).astype(np.float16)
        found = run(path, "fp16", IMAGES[name])
        assert (np.isnan(found) == np.isinf(wanted)).all()
        assert np.isinf(wanted).any()
        kept = ~np.isnan(found)
        one_step = 2.0**-10 * np.abs(wanted[kept].astype(np.float64))
        assert (np.abs(found[kept] - wanted[kept].astype(np.float64)) <= one_step).all()
        assert (found[kept] == wanted[kept]).mean() > 0.9


@pytest.mark.parametrize("name", IMAGES)
def test_8_bit_sums_do_not_saturate(name: str, tmp_path: Path) -> None:
    """Largest activations times largest weights: sums of pairs in 16 bits would be cut."""
    weights = np.full((MADE, 3, 3, 3), 127, np.int8)
    weights[1::2] = -127
    scale, step = np.float32(255 / 127), np.float32(0.01)
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["stored"]),
        helper.make_node("DequantizeLinear", ["stored", "scale", "zero"], ["read"]),
        helper.make_node("DequantizeLinear", ["weights", "steps", "zeros"], ["kernel"], axis=0),
        helper.make_node("Conv", ["read", "kernel"], ["sums"], pads=[1, 1, 1, 1]),
        helper.make_node("QuantizeLinear", ["sums", "coarse", "zero"], ["rounded"]),
        helper.make_node("DequantizeLinear", ["rounded", "coarse", "zero"], ["y"]),
    ]
    coarse = np.float32(80.0)
    path = write(
        tmp_path / "eight.onnx",
        nodes,
        scale=np.asarray(scale),
        zero=np.asarray(0, np.int8),
        weights=weights,
        steps=np.full(MADE, step),
        zeros=np.zeros(MADE, np.int8),
        coarse=np.asarray(coarse),
    )
    planes = IMAGES[name].astype(np.float32).transpose(0, 3, 1, 2)
    stored = np.clip(np.rint(planes / scale), -128, 127).astype(np.float64)
    windows = np.lib.stride_tricks.sliding_window_view(
        np.pad(stored, ((0, 0), (0, 0), (1, 1), (1, 1))), (3, 3), axis=(2, 3)
    )
    sums = np.einsum("nchwij,kcij->nkhw", windows, weights.astype(np.float64)) * float(scale) * float(step)
    unrounded = sums / float(coarse)
    found = run(path, "int8", IMAGES[name]) / coarse
    # Within half a step of the exact sum, or at the end of 8 bits where the sum is beyond.
    assert (np.abs(found - np.clip(unrounded, -128, 127)) <= 0.5 + 1e-3).all()
    assert (found == np.rint(found)).all()


def test_it_runs_wherever_the_package_is() -> None:
    assert TypedGraphRuntime.availability_for(Target("onnxruntime", "fp16", "cuda")).available
