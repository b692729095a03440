"""One suite over every runtime, on the same small graphs; what sets an engine apart is declared as data."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgead.errors import EngineError, InternalError, UsageError
from edgead.exporters._registry import exporter_for
from edgead.runtimes._base import Runtime
from edgead.runtimes._registry import engines, runtime_for
from edgead.types import Precision, Target

SIZE = (12, 17)
WEIGHTS = np.random.default_rng(7).normal(size=(2, 3, 3, 3)).astype(np.float32)


@dataclass(frozen=True)
class Quirks:
    """What may differ between engines.

    Attributes:
        target: engine and precision under test.
        tolerance: largest error, relative to the map's range, against float64 arithmetic.
        reason: why the tolerance is what it is.
        computes: False for an engine that plays back stored output.
        planned: whether the engine opens what its exporter makes of a graph, instead of the graph.
    """

    target: str
    tolerance: float
    reason: str
    computes: bool = True
    planned: bool = False


CASES = [
    Quirks("openvino:fp32", 1e-5, "float32 sums in another order"),
    Quirks("openvino:bf16", 2e-2, "bfloat16 keeps 8 bits of mantissa"),
    Quirks("onnxruntime:fp32", 1e-5, "float32 sums in another order"),
    Quirks("tensorrt:fp32:cuda", 1e-5, "float32 sums in another order", planned=True),
    Quirks("tensorrt_rtx:fp32:cuda", 1e-5, "float32 sums in another order", planned=True),
    Quirks("null:fp32", 0.0, "stored output", computes=False),
]


def expected_map(image: np.ndarray) -> np.ndarray:
    """The graph in float64: a zero-padded 3×3 convolution over pixels scaled to [0, 1]."""
    pixels = np.pad(image.astype(np.float64) / 255, ((0, 0), (1, 1), (1, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(pixels, (3, 3), axis=(1, 2))
    return np.einsum("nyxcij,kcij->nkyx", windows, WEIGHTS.astype(np.float64))


def write_graph(path: Path, *, batch: int = 1, score: bool = False, **changes: object) -> Path:
    """A graph that keeps the contract, unless `changes` breaks it."""
    height, width = SIZE
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["float", "full"], ["scaled"]),
        helper.make_node("Transpose", ["scaled"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node(
            "Conv", ["planes", "weights"], [str(changes.get("output", "anomaly_map"))], pads=[1] * 4
        ),
    ]
    outputs = [
        helper.make_tensor_value_info(
            str(changes.get("output", "anomaly_map")), TensorProto.FLOAT, [batch, 2, height, width]
        )
    ]
    if score:
        nodes.append(helper.make_node("ReduceMax", ["anomaly_map", "axes"], ["image_score"], keepdims=0))
        outputs.append(helper.make_tensor_value_info("image_score", TensorProto.FLOAT, [batch]))
    shape = [changes.get("batch_dim", batch), height, width, 3]
    graph = helper.make_graph(
        nodes,
        "contract",
        [helper.make_tensor_value_info("image", changes.get("dtype", TensorProto.UINT8), shape)],
        outputs,
        [
            numpy_helper.from_array(WEIGHTS, "weights"),
            numpy_helper.from_array(np.float32(255), "full"),
            numpy_helper.from_array(np.array([1, 2, 3]), "axes"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, path)
    return path


def write_stored(path: Path, batch: int, scored: bool, **changes: object) -> Path:
    """A stored output that keeps the contract, unless `changes` breaks it."""
    anomaly_map = expected_map(image_of(batch)).astype("<f4")
    stored = {
        "input": [batch, *SIZE, 3],
        "map": list(anomaly_map.shape),
        "map_file": "map.f32",
        "score": float(anomaly_map.max()) if scored else None,
    }
    anomaly_map.tofile(path.with_name("map.f32"))
    path.write_text(json.dumps(stored | changes))
    return path


def image_of(batch: int = 1, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (batch, *SIZE, 3), dtype=np.uint8)


@pytest.fixture(params=CASES, ids=lambda case: case.target)
def quirks(request: pytest.FixtureRequest) -> Quirks:
    case: Quirks = request.param
    engine = Target.parse(case.target).engine
    if not engines()[engine].available:
        pytest.skip(engines()[engine].why)
    return case


@pytest.fixture
def opened(quirks: Quirks, tmp_path: Path) -> Callable[..., Runtime]:
    """Open the engine under test on the contract graph; skip where this CPU has not the precision."""

    def open_one(batch: int = 1, score: bool = False, threads: int = 1) -> Runtime:
        target = Target.parse(quirks.target)
        if quirks.computes:
            graph = write_graph(tmp_path / "graph.onnx", batch=batch, score=score)
        else:
            graph = write_stored(tmp_path / "graph.json", batch, score)
        if quirks.planned:
            graph = exporter_for(target.engine).compile(graph, target, tmp_path).main_file
        try:
            return runtime_for(target.engine).open(graph, target, threads=threads)
        except EngineError as err:
            if target.precision == "bf16" and "would run f32" in str(err):
                pytest.skip(str(err))
            raise

    return open_one


def assert_close(got: np.ndarray, expected: np.ndarray, quirks: Quirks) -> None:
    assert got.dtype == np.float32
    assert got.shape == expected.shape
    assert np.abs(got - expected).max() <= max(quirks.tolerance, 1e-7) * np.ptp(expected), quirks.reason


def test_every_runtime_has_a_case() -> None:
    # Engines with a head run other graphs: test_window_search_runtime.py.
    assert {Target.parse(case.target).engine for case in CASES} == {
        name for name in engines() if "+" not in name
    }


@pytest.mark.parametrize("batch", [1, 2])
def test_map_agrees_with_float64_arithmetic(
    opened: Callable[..., Runtime], quirks: Quirks, batch: int
) -> None:
    with opened(batch=batch) as runtime:
        assert runtime.input_shape == (batch, *SIZE, 3)
        output = runtime.infer(image_of(batch))
        assert output.image_score is None
        assert_close(output.anomaly_map, expected_map(image_of(batch)), quirks)


@pytest.mark.parametrize("level", [0, 255])
def test_extreme_images(opened: Callable[..., Runtime], quirks: Quirks, level: int) -> None:
    if not quirks.computes:
        return
    image = np.full((1, *SIZE, 3), level, np.uint8)
    with opened() as runtime:
        got = runtime.infer(image).anomaly_map
        if level == 0:
            assert not got.any()
        else:
            assert_close(got, expected_map(image), quirks)


def test_image_score_is_given_where_the_graph_has_one(opened: Callable[..., Runtime], quirks: Quirks) -> None:
    with opened(score=True) as runtime:
        output = runtime.infer(image_of())
        assert output.image_score is not None
        assert output.image_score.shape == (1,)
        assert output.image_score[0] == pytest.approx(
            expected_map(image_of()).max(), rel=max(quirks.tolerance, 1e-6)
        )


def test_read_only_images_are_taken_and_left_alone(opened: Callable[..., Runtime], quirks: Quirks) -> None:
    image = image_of()
    image.flags.writeable = False
    before = image.copy()
    with opened() as runtime:
        assert_close(runtime.infer(image).anomaly_map, expected_map(before), quirks)
    assert (image == before).all()


def test_the_same_image_gives_the_same_bits_again(opened: Callable[..., Runtime]) -> None:
    with opened() as runtime:
        first = runtime.infer(image_of(seed=0)).anomaly_map.copy()
        runtime.infer(image_of(seed=1))
        assert (runtime.infer(image_of(seed=0)).anomaly_map == first).all()


def test_two_instances_run_in_two_threads(opened: Callable[..., Runtime], quirks: Quirks) -> None:
    runtimes = [opened(), opened()]
    maps: list[list[np.ndarray]] = [[], []]

    def work(index: int) -> None:
        for seed in range(20):
            maps[index].append(runtimes[index].infer(image_of(seed=seed)).anomaly_map.copy())

    threads = [threading.Thread(target=work, args=(index,)) for index in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(maps[0]) == 20
    for seed, (left, right) in enumerate(zip(*maps, strict=True)):
        assert (left == right).all()
        if quirks.computes:
            assert_close(left, expected_map(image_of(seed=seed)), quirks)
    for runtime in runtimes:
        runtime.close()


def test_use_before_open_after_close_and_twice(opened: Callable[..., Runtime], tmp_path: Path) -> None:
    runtime = opened()
    with pytest.raises(InternalError, match="open already"):
        runtime.open(tmp_path / "graph.onnx", Target(runtime.engine, runtime.precisions[0]))
    runtime.close()
    runtime.close()
    with pytest.raises(InternalError, match="not open"):
        runtime.infer(image_of())
    with pytest.raises(InternalError, match="not open"):
        _ = runtime_for(runtime.engine).input_shape


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((1, SIZE[1], SIZE[0], 3), np.uint8),
        np.zeros((2, *SIZE, 3), np.uint8),
        np.zeros((1, *SIZE, 3), np.float32),
        np.zeros((1, *SIZE, 6), np.uint8)[..., ::2],
    ],
    ids=["shape", "batch", "dtype", "strided"],
)
def test_wrong_arrays_are_refused(opened: Callable[..., Runtime], image: np.ndarray) -> None:
    with opened() as runtime, pytest.raises(InternalError, match="wants contiguous uint8"):
        runtime.infer(image)


def test_unknown_precision_other_engine_and_device_are_refused(quirks: Quirks, tmp_path: Path) -> None:
    engine = Target.parse(quirks.target).engine
    graph = write_graph(tmp_path / "graph.onnx")
    unknown = next(one for one in get_args(Precision) if one not in runtime_for(engine).precisions)
    for target in (Target(engine, unknown), Target("other", "fp32")):
        with pytest.raises(UsageError, match="runs"):
            runtime_for(engine).open(graph, target)
    if quirks.computes:
        with pytest.raises(EngineError, match="toaster"):
            runtime_for(engine).open(graph, Target(engine, "fp32", "toaster"))


@pytest.mark.parametrize("content", [b"", b"\x08\x0a" * 40, b"<net>"], ids=["empty", "binary", "text"])
def test_corrupt_and_missing_files(
    quirks: Quirks, tmp_path: Path, capfd: pytest.CaptureFixture[str], content: bytes
) -> None:
    target = Target.parse(quirks.target)
    graph = tmp_path / "graph.onnx"
    with pytest.raises(UsageError, match="does not exist"):
        runtime_for(target.engine).open(graph, target)
    graph.write_bytes(content)
    with pytest.raises(EngineError, match=r"graph\.onnx"):
        runtime_for(target.engine).open(graph, target)
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize(
    "changes",
    [{"dtype": TensorProto.FLOAT}, {"batch_dim": "batch"}, {"output": "heat"}],
    ids=["float input", "dynamic batch", "other output"],
)
def test_graphs_outside_the_contract_are_refused(
    quirks: Quirks, tmp_path: Path, changes: dict[str, object]
) -> None:
    if not quirks.computes:
        return
    target = Target.parse(quirks.target)
    with pytest.raises(EngineError, match=r"graph\.onnx"):
        runtime_for(target.engine).open(write_graph(tmp_path / "graph.onnx", **changes), target)


@pytest.mark.parametrize(
    "changes",
    [
        {"input": [1, 12, 17]},
        {"input": [1, "height", 17, 3]},
        {"map": [1, 2, 12, 16]},
        {"map": [2, 12, 17]},
        {"map_file": "../map.f32"},
        {"map_file": "missing.f32"},
        {"map_file": 7},
        {"score": "high"},
    ],
    ids=str,
)
def test_stored_outputs_outside_the_format_are_refused(tmp_path: Path, changes: dict[str, object]) -> None:
    with pytest.raises(EngineError, match=r"graph\.json"):
        runtime_for("null").open(
            write_stored(tmp_path / "graph.json", 1, False, **changes), Target("null", "fp32")
        )


def test_unknown_engine_lists_the_known_ones() -> None:
    with pytest.raises(UsageError, match="openvino"):
        runtime_for("caffe")
