"""The kernels on the CPU, and an engine between them."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edgead.runtimes._device_engine import DeviceTensor
from edgead.runtimes._graph import GraphOutputs, MapOutputs
from edgead.runtimes._ort_engine import OrtEngine
from edgead.runtimes.cuda import _bindings, pycuda_device
from edgead.runtimes.cuda._compile import FOLDER
from edgead.runtimes.cuda.pycuda_device import PycudaDevice, pipeline_missing


def _loaded(stem: str) -> ModuleType:
    """tests/cuda_host is no package: pytest imports by file."""
    name = f"edgead_tests_{stem}"
    if name not in sys.modules:
        path = Path(__file__).resolve().parents[2] / "cuda_host" / f"{stem}.py"
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


@pytest.fixture(scope="session")
def host() -> ModuleType:
    """The module tests/cuda_host/host_device.py."""
    return _loaded("host_device")


@pytest.fixture(scope="session")
def stand_in_module() -> ModuleType:
    """The module tests/cuda_host/stand_in.py."""
    return _loaded("stand_in")


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the kernels' host libraries lie, each made once."""
    return tmp_path_factory.mktemp("cuda_host")


@pytest.fixture
def make_device(host: ModuleType, built: Path) -> Iterator[Callable[..., Any]]:
    """Devices on the CPU; True = threads and blocks in the reverse order; options of `HostDevice`."""
    made = []

    def make(backwards: bool = False, **options: Any) -> Any:
        made.append(host.HostDevice(built, backwards=backwards, **options))
        return made[-1]

    yield make
    for device in made:
        device.close()


@pytest.fixture(params=["host", "host, backwards", "gpu"])
def each_device(request: pytest.FixtureRequest, make_device: Callable[..., Any]) -> Iterator[Any]:
    """A device on the CPU, the same with threads and blocks in the reverse order, a GPU wherever one is."""
    if request.param != "gpu":
        yield make_device(request.param == "host, backwards")
        return
    if why := pipeline_missing():
        pytest.skip(why)
    device = PycudaDevice(0, "a test")
    with device:
        yield device
    device.close()


@pytest.fixture
def stand_in(
    stand_in_module: ModuleType, host: ModuleType, built: Path, monkeypatch: pytest.MonkeyPatch
) -> Any:
    """In place of both packages."""
    made = stand_in_module.StandIn(
        host.HostDevice(built, lazy=True),
        host.run,
        lambda source: host.build(FOLDER / f"{source}.cu", built),
    )
    monkeypatch.setattr(pycuda_device, "cuda_driver", lambda: made.pycuda)
    monkeypatch.setattr(pycuda_device, "cuda_missing", lambda: "")
    monkeypatch.setitem(sys.modules, "pycuda", SimpleNamespace(driver=made.pycuda))
    monkeypatch.setitem(sys.modules, "pycuda.driver", made.pycuda)
    monkeypatch.setattr("edgead.runtimes._cuda.cuda_driver", lambda: made.pycuda)
    monkeypatch.setattr(_bindings, "bindings", lambda: made.bindings)
    pycuda_device._primary_context.cache_clear()
    yield made
    pycuda_device._primary_context.cache_clear()
    assert made.depth() == 0
    assert made.host.taken == made.graphs == 0, "everything was freed"


class HostEngine:
    """ONNX Runtime on the CPU, its tensors at the addresses of a `HostDevice`, its runs in that one's stream.

    Attributes:
        calls: how often it was put into the stream.
        waits: whether it also waits for the stream, as an engine does that cannot be recorded.
    """

    def __init__(
        self, graph: Path, device: Any, *, waits: bool = False, outputs: GraphOutputs | None = None
    ) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
        self._inner = OrtEngine(session, graph, outputs or MapOutputs(), "cpu", 0, device.stream)
        self._device = device
        self.calls, self.waits = 0, waits

    @property
    def input_shape(self) -> tuple[int, int, int, int]:
        return self._inner.input_shape

    @property
    def outputs(self) -> Mapping[str, DeviceTensor]:
        return self._inner.outputs

    def enqueue(self, addresses: Mapping[str, int], stream: int) -> None:
        kept = dict(addresses)
        self.calls += 1
        self._device.call(lambda: self._inner.enqueue(kept, stream))
        if self.waits:
            self._device.synchronize()

    def check(self) -> None:
        self._inner.check()


@pytest.fixture
def host_engine() -> type[HostEngine]:
    """The class."""
    return HostEngine


@pytest.fixture(scope="session")
def make_graph(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Networks of one random convolution: (H, W) uint8 RGB to `channels` maps of a quarter of the sides."""

    def make(
        size: tuple[int, int] = (32, 48),
        *,
        channels: int = 1,
        images: int = 1,
        score: bool = False,
        scale: float = 1.0,
    ) -> Path:
        from onnx import TensorProto, helper, numpy_helper, save

        weights = np.random.default_rng(3).normal(size=(channels, 3, 5, 5)) / 500
        weights -= weights.mean(axis=(1, 2, 3), keepdims=True)  # values around 0
        weights = (scale * weights).astype(np.float32)
        nodes = [
            helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
            helper.make_node("Transpose", ["float"], ["planes"], perm=[0, 3, 1, 2]),
            helper.make_node(
                "Conv", ["planes", "weights"], ["anomaly_map"], strides=[4, 4], pads=[2, 2, 1, 1]
            ),
        ]
        sides = [size[0] // 4, size[1] // 4]
        found = [helper.make_tensor_value_info("anomaly_map", TensorProto.FLOAT, [images, channels, *sides])]
        if score:
            nodes.append(helper.make_node("ReduceMean", ["anomaly_map"], ["all"], axes=[1, 2, 3], keepdims=0))
            nodes.append(helper.make_node("Identity", ["all"], ["image_score"]))
            found.append(helper.make_tensor_value_info("image_score", TensorProto.FLOAT, [images]))
        image = helper.make_tensor_value_info("image", TensorProto.UINT8, [images, *size, 3])
        body = helper.make_graph(nodes, "g", [image], found, [numpy_helper.from_array(weights, "weights")])
        path = tmp_path_factory.mktemp("graph") / "graph.onnx"
        save(helper.make_model(body, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
        return path

    return make
