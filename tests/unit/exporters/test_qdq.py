"""8-bit encodings: the graph with Q/DQ pairs against the same arithmetic in NumPy, for each engine's form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from edgead.calibration.int8 import Range
from edgead.errors import InternalError
from edgead.exporters._qdq import (
    ONNXRUNTIME,
    OPENVINO,
    TENSORRT,
    Encoding,
    Int8Recipe,
    encode,
    layers,
    leaves_products,
    observed,
    parameters,
    pixel_tensors,
    products,
    weights,
)

RANGES = {
    "floats": Range(0.0, 255.0),
    "a": Range(0.0, 1500.0),
    "b": Range(-2000.0, 2500.0),
    "sum": Range(-2000.0, 3000.0),
    "c": Range(-5000.0, 6000.0),
}


def model(rng: np.random.Generator, *, extreme: bool = False) -> Any:
    """Pixels → first, Relu → second → sum with the first → third, which is the output.

    1 × 1 convolutions, so that NumPy computes them as matrix products.
    """
    sizes = {"first": (4, 3), "second": (4, 4), "third": (2, 4)}
    tensors = []
    for name, (rows, columns) in sizes.items():
        weight = rng.normal(0, 1, (rows, columns, 1, 1)).astype(np.float32)
        bias = rng.normal(0, 50, rows).astype(np.float32)
        if extreme:
            weight[0], weight[1] = 0, 1e-12  # nothing, and nearly nothing beside a bias of hundreds
        tensors += [numpy_helper.from_array(weight, f"{name}.w"), numpy_helper.from_array(bias, f"{name}.b")]
    nodes = [
        helper.make_node("Transpose", ["image"], ["turned"], perm=[0, 3, 1, 2], name="Transpose_0"),
        helper.make_node("Cast", ["turned"], ["floats"], to=onnx.TensorProto.FLOAT, name="Cast_1"),
        helper.make_node("Conv", ["floats", "first.w", "first.b"], ["first"], name="body.first/Conv_2"),
        helper.make_node("Relu", ["first"], ["a"], name="body.first/Relu_3"),
        helper.make_node("Conv", ["a", "second.w", "second.b"], ["b"], name="body.second/Conv_4"),
        helper.make_node("Add", ["a", "b"], ["sum"], name="body/Add_5"),
        helper.make_node("Conv", ["sum", "second.w", "third.b2"], ["c"], name="body.third/Conv_6"),
        helper.make_node("Conv", ["c", "third.w", "third.b"], ["anomaly_map"], name="tail/Conv_7"),
    ]
    tensors.append(numpy_helper.from_array(rng.normal(0, 50, 4).astype(np.float32), "third.b2"))
    graph = helper.make_graph(
        nodes,
        "edgead",
        [helper.make_tensor_value_info("image", onnx.TensorProto.UINT8, [1, 5, 6, 3])],
        [helper.make_tensor_value_info("anomaly_map", onnx.TensorProto.FLOAT, [1, 2, 5, 6])],
        tensors,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def run(path: Path, image: np.ndarray, *, optimised: bool) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    level = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimised else level.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"image": image})[0])


def encoded(graph: Path, encoding: Encoding, recipe: Int8Recipe | None = None) -> Path:
    return encode(graph, RANGES, layers(graph, recipe or Int8Recipe()), encoding)


def rounded(values: np.ndarray, found: Range, *, symmetric: bool) -> np.ndarray:
    """The nearest of 256 (255) steps over the range."""
    low, high = min(found.low, 0), max(found.high, 0)
    step = np.float32(max(-low, high) / 127 if symmetric else (high - low) / 255)
    zero = 0.0 if symmetric else np.rint(-low / step)
    bottom, top = (-128, 127) if symmetric else (0, 255)
    return (np.clip(np.rint(values / step) + zero, bottom, top) - zero) * step


def simulated(graph: Any, image: np.ndarray, encoding: Encoding) -> np.ndarray:
    values = {entry.name: numpy_helper.to_array(entry).astype(np.float64) for entry in graph.initializer}

    def product(x: np.ndarray, weight: str, bias: str, *, exact: bool = False) -> np.ndarray:
        w = values[weight][:, :, 0, 0]
        if not exact:
            step = np.abs(w).max(1, keepdims=True) / 127
            w = np.rint(w / np.where(step > 0, step, 1)) * step
        return np.einsum("oc,nchw->nohw", w, x) + values[bias][:, None, None]

    def stored(x: np.ndarray, name: str) -> np.ndarray:
        return rounded(x, RANGES[name], symmetric=encoding.symmetric)

    pixels = stored(image.transpose(0, 3, 1, 2).astype(np.float64), "floats")
    a = stored(np.maximum(product(pixels, "first.w", "first.b"), 0), "a")
    b = product(a, "second.w", "second.b")
    both = stored(a + (stored(b, "b") if encoding.outputs else b), "sum")
    c = product(both, "second.w", "third.b2")
    return product(stored(c, "c") if encoding.outputs else c, "third.w", "third.b", exact=True)


@pytest.mark.parametrize("encoding", [OPENVINO, ONNXRUNTIME, TENSORRT], ids=lambda one: one.name)
@pytest.mark.parametrize("seed", range(3))
def test_the_encoded_graph_computes_what_8_bits_allow(encoding: Encoding, seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    built = model(rng)
    onnx.save(built, tmp_path / "graph.onnx")
    image = rng.integers(0, 256, (1, 5, 6, 3), np.uint8)
    path = encoded(tmp_path / "graph.onnx", encoding)
    assert path.name == f"graph.qdq-{encoding.name}.onnx"
    expected = simulated(built.graph, image, encoding)
    exact = run(tmp_path / "graph.onnx", image, optimised=False)
    found = run(path, image, optimised=False)
    # Sums in float32 turn a value that lies between two steps now and then; a tail of weights sees one step.
    off = np.abs(found - expected) > 1e-4 * np.ptp(exact)
    assert off.mean() < 0.4
    assert np.abs(found - expected).max() < 0.2 * np.ptp(exact)
    assert 1e-4 * np.ptp(exact) < np.abs(found - exact).max() < 0.2 * np.ptp(exact)
    fused = np.abs(run(path, image, optimised=True) - expected) > 1e-4 * np.ptp(exact)
    assert fused.mean() < 0.4


@pytest.mark.parametrize("encoding", [OPENVINO, ONNXRUNTIME, TENSORRT], ids=lambda one: one.name)
def test_a_bias_beside_vanishing_weights_survives(encoding: Encoding, tmp_path: Path) -> None:
    """Counted in steps of such weights it would need more than 32 bits."""
    rng = np.random.default_rng(5)
    onnx.save(model(rng, extreme=True), tmp_path / "graph.onnx")
    image = rng.integers(0, 256, (1, 5, 6, 3), np.uint8)
    path = encoded(tmp_path / "graph.onnx", encoding)
    exact = run(tmp_path / "graph.onnx", image, optimised=False)
    for optimised in (False, True):
        assert np.abs(run(path, image, optimised=optimised) - exact).max() < 0.2 * np.ptp(exact)


def test_kept_layers_and_what_gives_the_map_stay_in_float() -> None:
    graph = model(np.random.default_rng(0)).graph

    def names(recipe: Int8Recipe | None) -> list[str]:
        return [node.name.split("/")[0] for node in products(graph, recipe)]

    assert names(None) == names(Int8Recipe()) == ["body.first", "body.second", "body.third"]
    assert names(Int8Recipe(keep_float=("*.first/*",))) == ["body.second", "body.third"]


def test_a_backbone_begins_in_float() -> None:
    kept = Int8Recipe()
    for name in (
        "backbone._conv_stem/Conv_3",
        "teacher._blocks.0._project_conv/Conv_7",
        "b._blocks.1.x/Conv_8",
    ):
        assert kept.keeps(name)
    for name in ("backbone._blocks.10._expand_conv/Conv_58", "backbone._blocks.2._expand_conv/Conv_13"):
        assert not kept.keeps(name)


def test_a_kept_layer_computes_in_float(tmp_path: Path) -> None:
    """Only the pixels and one layer's weights are stored in 8 bits."""
    rng = np.random.default_rng(2)
    built = model(rng)
    onnx.save(built, tmp_path / "graph.onnx")
    recipe = Int8Recipe(keep_float=("body.second/*", "body.third/*"))
    path = encoded(tmp_path / "graph.onnx", OPENVINO, recipe)
    kinds = [node.op_type for node in onnx.load(path).graph.node]
    assert (kinds.count("QuantizeLinear"), kinds.count("DequantizeLinear")) == (1, 2)
    with pytest.raises(InternalError, match="left to quantise"):
        layers(tmp_path / "graph.onnx", Int8Recipe(keep_float=("*",)))
    with pytest.raises(InternalError, match="no layer is left"):
        encode(tmp_path / "graph.onnx", RANGES, (), OPENVINO)


def test_products_that_are_left_in_float(tmp_path: Path) -> None:
    built = model(np.random.default_rng(0))
    path = tmp_path / "graph.onnx"
    onnx.save(built, path)
    convolutions = {node.name for node in built.graph.node if node.op_type == "Conv"}
    assert not leaves_products(path, convolutions)
    assert leaves_products(path, convolutions - {"tail/Conv_7"})
    # Of two activations, which are never quantised.
    built.graph.node.append(helper.make_node("MatMul", ["a", "b"], ["scores"], name="body/MatMul_8"))
    onnx.save(built, path)
    assert leaves_products(path, convolutions)


def test_tensors_to_observe_and_exact_pixels() -> None:
    graph = model(np.random.default_rng(0)).graph
    assert set(observed(graph)) == {"floats", "a", "b", "sum", "c"}
    assert pixel_tensors(graph) == dict.fromkeys(("image", "turned", "floats"), Range(0.0, 255.0))
    assert parameters(Range(0.0, 255.0), symmetric=False) == (1.0, 0)


def test_a_range_that_is_missing_is_named(tmp_path: Path) -> None:
    onnx.save(model(np.random.default_rng(0)), tmp_path / "graph.onnx")
    without = {name: found for name, found in RANGES.items() if name != "sum"}
    with pytest.raises(InternalError, match="no range for 'sum'"):
        encode(tmp_path / "graph.onnx", without, layers(tmp_path / "graph.onnx", Int8Recipe()), OPENVINO)


@pytest.mark.parametrize(
    ("found", "symmetric", "expected"),
    [
        (Range(-1.0, 1.55), False, (0.01, 100)),
        (Range(2.55, 5.1), False, (0.02, 0)),  # 0 is always one of the values
        (Range(-5.1, -1.0), False, (0.02, 255)),
        (Range(-1.0, 1.27), True, (0.01, 0)),
        (Range(0.0, 0.0), False, (1.0, 0)),
        (Range(0.0, 0.0), True, (1.0, 0)),
    ],
)
def test_parameters(found: Range, symmetric: bool, expected: tuple[float, int]) -> None:
    scale, zero = parameters(found, symmetric=symmetric)
    assert (pytest.approx(scale), zero) == expected


def test_weights_per_channel() -> None:
    stored, scale = weights(np.array([[0.0, 0.0], [1.27, -0.635], [-254.0, 2.0]]), 0)
    np.testing.assert_array_equal(stored, [[0, 0], [127, -64], [-127, 1]])
    np.testing.assert_allclose(scale, [1.0, 0.01, 2.0], rtol=1e-6)
    stored, scale = weights(np.array([[127.0, 1.0], [-1.0, -2.0]]), 1)
    np.testing.assert_array_equal(stored, [[127, 64], [-1, -127]])


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("found", [Range(0.0, 700.0), Range(-300.0, 200.0)], ids=["all", "clipped"])
def test_rounding_before_a_max_pool_is_rounding_behind_it(found: Range, shared: bool, tmp_path: Path) -> None:
    """What the pool gives is the rounded pool of the floats; where others read its input, nothing moves."""
    rng = np.random.default_rng(2)
    sizes = {"first": (4, 3), "second": (4, 4), "third": (1, 4)}
    tensors = [
        numpy_helper.from_array(rng.normal(0, 1, (*size, 1, 1)).astype(np.float32), f"{name}.w")
        for name, size in sizes.items()
    ]
    pool = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}
    nodes = [
        helper.make_node("Transpose", ["image"], ["turned"], perm=[0, 3, 1, 2], name="Transpose_0"),
        helper.make_node("Cast", ["turned"], ["floats"], to=onnx.TensorProto.FLOAT, name="Cast_1"),
        helper.make_node("Conv", ["floats", "first.w"], ["a"], name="first/Conv_2"),
        helper.make_node("MaxPool", ["a"], ["pooled"], name="pool/MaxPool_3", **pool),
        helper.make_node("Conv", ["pooled", "second.w"], ["b"], name="second/Conv_4"),
        helper.make_node("Add", ["pooled", "b"], ["sum"], name="Add_5"),
        helper.make_node("Conv", ["sum", "third.w"], ["anomaly_map"], name="third/Conv_6"),
    ]
    if shared:  # as where a detector's map reads what a pool reads
        nodes.append(helper.make_node("Abs", ["a"], ["other"], name="Abs_7"))
    graph = helper.make_graph(
        nodes,
        "edgead",
        [helper.make_tensor_value_info("image", onnx.TensorProto.UINT8, [1, 8, 10, 3])],
        [helper.make_tensor_value_info("anomaly_map", onnx.TensorProto.FLOAT, [1, 1, 4, 5])],
        tensors,
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(made, tmp_path / "graph.onnx")
    ranges = {"floats": Range(0.0, 255.0), "pooled": found, "sum": Range(-900.0, 900.0)}
    chosen = ("second/Conv_4",)
    encoded_graph = onnx.load(encode(tmp_path / "graph.onnx", ranges, chosen, OPENVINO))
    stands = [node.input[0] for node in encoded_graph.graph.node if node.op_type == "QuantizeLinear"]
    assert stands == (["pooled"] if shared else ["a"])
    given = "pooled.quantised" if shared else "pooled"
    assert next(node for node in encoded_graph.graph.node if node.name == chosen[0]).input[0] == given

    image = rng.integers(0, 256, (1, 8, 10, 3)).astype(np.uint8)
    values = {}
    for name, one, tensor in (("float", made, "pooled"), ("encoded", encoded_graph, given)):
        one.graph.output.append(helper.make_tensor_value_info(tensor, onnx.TensorProto.FLOAT, None))
        onnx.save(one, tmp_path / f"{name}.onnx")
        session = onnxruntime.InferenceSession(str(tmp_path / f"{name}.onnx"))
        values[name] = session.run([tensor], {"image": image})[0]
    expected = rounded(values["float"].astype(np.float64), found, symmetric=False)
    assert len(np.unique(expected)) > 5
    np.testing.assert_allclose(values["encoded"], expected, rtol=1e-6, atol=1e-6)
