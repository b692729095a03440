"""A query graph and its CUDA search as one engine, on the CPU, and the search on a GPU wherever one is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgead.errors import EngineError
from edgead.exporters._head_files import BANK_FOLDER, query_path, write_bank_head, write_head
from edgead.imaging.frame import Frame
from edgead.imaging.map_operator import Banded, build
from edgead.imaging.postprocess import Postprocess
from edgead.runtimes._device_engine import DeviceTensor
from edgead.runtimes._pipeline import PythonDriver
from edgead.runtimes._registry import runtime_for
from edgead.runtimes.cuda.driver import CudaDriver
from edgead.runtimes.cuda.host_io import HostIo
from edgead.types import Geometry, PostRecipe, Target, Thresholds

SIZE, CELLS = (8, 12), 96
RECIPE = PostRecipe(grid=SIZE, output=(16, 24), blur_sigma=1.0, score_rule="max")
LIMITS = Thresholds(image=60.0, pixel=40.0, image_median=10.0, pixel_median=5.0)
REFERENCES, NEAREST = 5, 2


def write_query_graph(path: Path, nodes: list[Any], outputs: dict[str, list[int]], images: int) -> None:
    """A network that casts pixels to ``float`` and then does `nodes`."""
    cast = helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT)
    found = [
        helper.make_tensor_value_info(
            name, TensorProto.INT32 if name == "references" else TensorProto.FLOAT, shape
        )
        for name, shape in outputs.items()
    ]
    constants = {
        "flat": np.array([images, CELLS, 3]),
        "start": np.zeros(4, np.int64),
        "end": np.array([images, 1, 1, NEAREST]),
        "pair": np.array([images, NEAREST]),
    }
    body = helper.make_graph(
        [cast, *nodes],
        "query",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [images, *SIZE, 3])],
        found,
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    onnx.save(helper.make_model(body, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)


@pytest.fixture
def bank_graph(tmp_path: Path) -> Callable[..., Path]:
    """The pixels themselves are looked for in a bank of colours."""

    def make(*, images: int = 1, neighbours: int = 2) -> Path:
        bank = np.random.default_rng(4).integers(0, 256, (40, 3)).astype(np.float32)
        near = np.stack([(np.arange(40) + k) % 40 for k in range(neighbours)], axis=1) if neighbours else None
        write_bank_head(tmp_path / "graph.onnx", bank, near, grid=SIZE)
        path = query_path(tmp_path / "graph.onnx", BANK_FOLDER)
        flat = helper.make_node("Reshape", ["float", "flat"], ["query"])
        write_query_graph(path, [flat], {"query": [images, CELLS, 3]}, images)
        return path

    return make


@pytest.fixture
def window_graph(tmp_path: Path) -> Callable[..., Path]:
    """The first pixel's first values say which references the pixels are looked for in."""

    def make(*, images: int = 1) -> Path:
        bank = np.random.default_rng(4).normal(size=(REFERENCES, 3, *SIZE))
        bank /= np.linalg.norm(bank, axis=1, keepdims=True)
        graph = tmp_path / "graph.onnx"
        write_head(graph, [bank.astype(np.float32)], [3], nearest=NEAREST, grid=SIZE, weighted=False)
        nodes = [
            helper.make_node("Transpose", ["float"], ["query_0"], perm=[0, 3, 1, 2]),
            helper.make_node("Slice", ["float", "start", "end"], ["first"]),
            helper.make_node("Reshape", ["first", "pair"], ["chosen"]),
            helper.make_node("Cast", ["chosen"], ["references"], to=TensorProto.INT32),
        ]
        outputs = {"query_0": [images, 3, *SIZE], "references": [images, NEAREST]}
        write_query_graph(query_path(graph), nodes, outputs, images)
        return query_path(graph)

    return make


@pytest.fixture
def searched(host_engine: Any) -> Callable[..., Any]:
    """What ``on_device`` of a runtime makes of a graph, with its network on the CPU."""

    def make(graph: Path, device: Any) -> Any:
        outputs = runtime_for(f"onnxruntime+{graph.parent.name}").outputs_of(graph)  # type: ignore[attr-defined]
        return outputs.on_device(graph, host_engine(graph, device, outputs=outputs), device)

    return make


def drivers(graph: Path, engine: Any, device: Any, recipe: PostRecipe) -> tuple[CudaDriver, PythonDriver]:
    """Both of the same graph."""
    target = Target(f"onnxruntime+{graph.parent.name}", "fp32")
    geometry = Geometry(height=SIZE[0], width=SIZE[1])
    rows, columns = build(recipe)
    operator = Banded.from_dense(rows), Banded.from_dense(columns)
    cuda = CudaDriver(device, engine, geometry, recipe, operator, LIMITS, target)
    runtime = runtime_for(target.engine).open(graph, target, threads=1)
    return cuda, PythonDriver(runtime, geometry, Postprocess(recipe), LIMITS, target)


def pixels_of(seed: int, references: tuple[int, int] = (0, 3)) -> npt.NDArray[np.uint8]:
    pixels = np.random.default_rng(seed).integers(0, 256, (1, *SIZE, 3), np.uint8)
    pixels[0, 0, 0, :NEAREST] = references
    return pixels


@pytest.mark.parametrize("neighbours", [0, 2])
def test_network_and_bank_search_are_recorded_as_one(
    neighbours: int, bank_graph: Callable[..., Path], searched: Any, make_device: Callable[..., Any]
) -> None:
    device, graph = make_device(lazy=True), bank_graph(neighbours=neighbours)
    engine = searched(graph, device)
    assert list(engine.outputs) == (["anomaly_map", "image_score"] if neighbours else ["anomaly_map"])
    recipe = replace(RECIPE, score_rule="graph") if neighbours else RECIPE
    cuda, python = drivers(graph, engine, device, recipe)
    assert cuda.pipeline.why_plain == {}
    taken = device.taken
    for seed in range(3):
        frame = Frame(pixels_of(seed)[0], "RGB8")
        found, expected = cuda.scores(frame), python.scores(frame)
        np.testing.assert_array_equal(found.anomaly_map, expected.anomaly_map)
        assert found.map_max == expected.map_max
        assert found.score_raw == pytest.approx(expected.score_raw, rel=2e-7 if neighbours else 0, abs=0)
    assert device.taken - taken < 5000, "a frame and its preprocess tables"


def test_a_reference_outside_the_bank_is_told_and_the_next_image_judged(
    window_graph: Callable[..., Path], searched: Any, make_device: Callable[..., Any]
) -> None:
    device, graph = make_device(lazy=True), window_graph()
    cuda, python = drivers(graph, searched(graph, device), device, RECIPE)
    io = HostIo(device, searched(graph, device))
    assert cuda.pipeline.why_plain == {}
    outside = pixels_of(1, (2, REFERENCES))
    for _ in range(2):
        for call in (lambda: cuda.scores_of(outside), lambda: io.run(outside)):
            with pytest.raises(EngineError, match=r"reference 1 of image 0 .* 0 \.\. 4; export the MODEL"):
                call()
        with pytest.raises(EngineError, match=r"the bank has 0 \.\. 4; export the MODEL again"):
            python.scores_of(outside)
        good = pixels_of(2, (REFERENCES - 1, 0))
        found, expected = cuda.scores_of(good), python.scores_of(good)
        np.testing.assert_allclose(found.anomaly_map, expected.anomaly_map, rtol=1e-6)
        assert found.score_raw == pytest.approx(expected.score_raw, rel=1e-6)
        io.run(good)


class GivesQueries:
    """A network that answers every image with the same query tensors, on any device."""

    input_shape = (1, *SIZE, 3)

    def __init__(self, device: Any, tensors: dict[str, npt.NDArray[Any]]) -> None:
        self._device = device
        self.pinned = {name: device.pinned(array.shape, array.dtype.name) for name, array in tensors.items()}
        for name, array in tensors.items():
            self.pinned[name][...] = array
        self.outputs = {name: DeviceTensor(array.shape, array.dtype.name) for name, array in tensors.items()}

    def enqueue(self, addresses: Mapping[str, int], stream: int) -> None:
        for name, array in self.pinned.items():
            self._device.copy_in(addresses[name], array)

    def check(self) -> None:
        pass


@pytest.mark.parametrize("search", ["bank_search", "window_search"])
def test_each_search_is_recorded_on_each_device(
    search: str,
    bank_graph: Callable[..., Path],
    window_graph: Callable[..., Path],
    each_device: Any,
) -> None:
    """A GPU as well, wherever one is."""
    graph = bank_graph() if search == "bank_search" else window_graph()
    pixels, engine = pixels_of(3), f"onnxruntime+{search}"
    floats = pixels.astype(np.float32)
    network = GivesQueries(
        each_device,
        {"query": floats.reshape(1, CELLS, 3)}
        if search == "bank_search"
        else {
            "query_0": np.ascontiguousarray(floats.transpose(0, 3, 1, 2)),
            "references": pixels[:, 0, 0, :NEAREST].astype(np.int32),
        },
    )
    made = runtime_for(engine).outputs_of(graph).on_device(graph, network, each_device)  # type: ignore[attr-defined]
    io = HostIo(each_device, made)
    assert io.why_plain == ""
    with runtime_for(engine).open(graph, Target(engine, "fp32"), threads=1) as runtime:
        expected = runtime.infer(pixels)
        for _ in range(2):
            io.run(pixels)
            np.testing.assert_allclose(io.outputs["anomaly_map"], expected.anomaly_map, rtol=1e-6)
            if search == "bank_search":
                np.testing.assert_allclose(io.outputs["image_score"], expected.image_score, rtol=2e-7)
                continue
            network.pinned["references"][...] = REFERENCES
            with pytest.raises(EngineError, match="an index that is not in the bank"):
                io.run(pixels)
            network.pinned["references"][...] = pixels[:, 0, 0, :NEAREST]


def test_a_batch_is_refused(
    bank_graph: Callable[..., Path],
    window_graph: Callable[..., Path],
    searched: Any,
    make_device: Callable[..., Any],
) -> None:
    """A head makes one map of one image."""
    with pytest.raises(EngineError, match=r"output query is \[2, 96, 3\], head.json says \[1, 96, 3\]"):
        searched(bank_graph(images=2), make_device())
    with pytest.raises(
        EngineError, match=r"output query_0 is \[2, 3, 8, 12\], head.json says \[1, 3, 8, 12\]"
    ):
        searched(window_graph(images=2), make_device())


def test_too_little_memory_names_what_it_is_for(
    bank_graph: Callable[..., Path],
    window_graph: Callable[..., Path],
    searched: Any,
    make_device: Callable[..., Any],
) -> None:
    for graph, first, last in (
        (bank_graph(), "the bank search's bank", "the engine's query"),
        (window_graph(), "the window search's bank of level 0", "the engine's references"),
    ):
        whole = make_device()
        searched(graph, whole)
        with pytest.raises(EngineError, match=first):
            searched(graph, make_device(limit=100))
        with pytest.raises(EngineError, match=last):
            searched(graph, make_device(limit=whole.taken - 1))
        searched(graph, make_device(limit=whole.taken))


def test_a_damaged_bank_is_the_models_fault(
    bank_graph: Callable[..., Path], searched: Any, make_device: Callable[..., Any]
) -> None:
    graph = bank_graph()
    bank = graph.with_name("bank.f32")
    content = bank.read_bytes()
    bank.write_bytes(np.array([np.nan], "<f4").tobytes() + content[4:])
    with pytest.raises(EngineError, match=r"vector 0 of the bank holds nan; .*; export the MODEL again"):
        searched(graph, make_device())
    bank.write_bytes(content[:-4])
    with pytest.raises(EngineError, match=r"bank\.f32 has .* bytes, its shape asks for"):
        searched(graph, make_device())
