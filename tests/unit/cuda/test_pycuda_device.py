"""`PycudaDevice` with stand-ins for pycuda and cuda-bindings, and the session that it carries."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edgead.bundle.reader import open_bundle
from edgead.errors import EngineError, RuntimeMissingError, UsageError
from edgead.imaging.device_frame import DeviceFrame
from edgead.imaging.frame import Frame
from edgead.runtimes.cuda import pycuda_device
from edgead.runtimes.cuda.driver import CudaDriver
from edgead.runtimes.cuda.pycuda_device import PycudaDevice, pipeline_missing
from edgead.runtimes.ort_runtime import OnnxRuntime
from edgead.runtimes.session import Session
from edgead.types import Target

TARGET = "onnxruntime:fp32:cuda"


def test_memory_is_cleared_copied_and_freed(stand_in: Any) -> None:
    device = PycudaDevice(0, "cpr")
    with device:
        address = device.allocate(40, "a table")
        found = device.pinned((5,), "float64")
        device.copy_out(found, address)
        device.synchronize()
        assert not found.any()
        device.copy_in(address, np.arange(5.0))
        device.copy_out(found, address)
        device.synchronize()
        assert list(found) == [0, 1, 2, 3, 4]
        assert device.owner(address) == 0
        assert device.owner(found.ctypes.data) is None
        device.free(address)
    device.close()
    device.close()


def test_out_of_memory_says_how_much_for_what_and_whom(stand_in: Any) -> None:
    stand_in.host._limit = 1 << 20
    device = PycudaDevice(0, "efficientad")
    with device, pytest.raises(EngineError) as told:
        device.allocate(3 << 20, "the engine's image")
    for words in (
        "efficientad needs 3.0 MiB of device memory",
        "the engine's image",
        "Stand-in GPU has 5 of",
    ):
        assert words in str(told.value)
    device.close()


def test_a_failure_in_the_stream_is_an_engine_error(stand_in: Any) -> None:
    device = PycudaDevice(0, "cpr")
    with device:
        stand_in.fail = stand_in.pycuda.Error("cuStreamSynchronize failed: an illegal memory access")
        with pytest.raises(
            EngineError, match=r"cpr: its work failed on Stand-in GPU: .*illegal memory access"
        ):
            device.synchronize()
    device.close()


def test_another_thread_is_told_to_open_a_session_of_its_own(stand_in: Any) -> None:
    device = PycudaDevice(0, "cpr")
    told: list[str] = []

    def enter() -> None:
        try:
            with device:
                told.append("inside")
        except UsageError as err:
            told.append(str(err))

    def elsewhere() -> None:
        thread = threading.Thread(target=enter)
        thread.start()
        thread.join()

    with device, device:
        elsewhere()
    elsewhere()  # one after the other is no harm
    assert "open one session per thread" in told[0]
    assert told[1] == "inside"
    device.close()


def test_what_cannot_be_recorded_leaves_the_stream_as_it_was(stand_in: Any) -> None:
    device = PycudaDevice(0, "cpr")
    with device:
        with pytest.raises(EngineError, match="cannot be recorded: cpr: its work failed"):
            device.record(device.synchronize)
        address, out = device.allocate(8, "a number"), device.pinned((1,), "float64")
        graph = device.record(lambda: device.copy_out(out, address))
        device.copy_in(address, np.array([3.0]))
        device.synchronize()
        assert out[0] == 0.0
        graph.replay()
        device.synchronize()
        assert out[0] == 3.0
        with pytest.raises(EngineError, match=r"the stream 0x4d that makes .* says INVALID_VALUE"):
            device.wait_for(77)
    device.close()


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pycuda_device, "cuda_missing", lambda: "no driver")
    assert pipeline_missing() == "no driver"
    monkeypatch.setattr(pycuda_device, "cuda_missing", lambda: "")
    assert pipeline_missing() == ""
    monkeypatch.setattr("edgead.runtimes.cuda._compile._nvrtc", _no_nvrtc)
    assert "pip install 'edgead[cuda]'" in pipeline_missing()


def _no_nvrtc() -> None:
    raise RuntimeMissingError("no NVRTC: pip install 'edgead[cuda]'")


def _add_gpu_target(manifest: dict[str, Any]) -> None:
    """The ONNX Runtime target once more, for a GPU."""
    (entry,) = (one for one in manifest["targets"] if one["target"] == "onnxruntime:fp32")
    manifest["targets"].append(entry | {"target": TARGET, "device": "cuda"})
    for image in manifest["golden"]:
        (expected,) = (one for one in image["expected"] if one["target"] == "onnxruntime:fp32")
        image["expected"].append(expected | {"target": TARGET})


@pytest.fixture
def on_gpu(altered: Callable[..., Path]) -> Path:
    """The spine's bundle with a target for a GPU."""
    return altered(lambda root, manifest: _add_gpu_target(manifest))


def test_a_session_on_the_gpu_says_what_one_on_the_cpu_says(
    on_gpu: Path, stand_in: Any, host_engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def engine(self: OnnxRuntime, graph: Path, target: Target, device: Any) -> Any:
        assert str(target) == TARGET
        assert device.stream == stand_in.host.stream
        return host_engine(graph, stand_in.host)

    monkeypatch.setattr(OnnxRuntime, "on_device", engine)
    frame = Frame(np.random.default_rng(1).integers(0, 256, (96, 130, 3), np.uint8), "BGR8")
    array = _Array(stand_in.host)
    with (
        open_bundle(on_gpu) as bundle,
        Session.open(bundle, TARGET) as cuda,
        Session.open(bundle, "onnxruntime:fp32", runtime="python", threads=1) as python,
    ):
        assert cuda.runtime == "cuda"
        assert isinstance(cuda._driver, CudaDriver)
        assert cuda._driver.pipeline.why_plain == {}
        python.thresholds = cuda.thresholds
        found, expected = cuda.predict(frame), python.predict(frame)
        assert (found.decision, found.regions) == (expected.decision, expected.regions)
        assert found.score_raw == pytest.approx(expected.score_raw, rel=2e-7)
        for name in ("anomaly_map", "mask", "heatmap"):
            np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
        with pytest.raises(UsageError, match="driven by python, which reads host memory"):
            python.predict(DeviceFrame(array, "MONO8"))
        again = cuda.predict(DeviceFrame(array, "MONO8"))
        other = python.predict(Frame(np.zeros((9, 9), np.uint8), "MONO8"))
        np.testing.assert_array_equal(again.anomaly_map, other.anomaly_map)
    stand_in.host.free(array.address)


class _Array:
    def __init__(self, host: Any) -> None:
        self.address = host.allocate(81, "frame")
        self.__cuda_array_interface__ = {
            "version": 3,
            "shape": (9, 9),
            "typestr": "|u1",
            "data": (self.address, True),
        }


def test_without_a_gpu_each_runtime_says_what_is_missing(on_gpu: Path) -> None:
    with open_bundle(on_gpu) as bundle:
        with pytest.raises(
            RuntimeMissingError, match=f"{TARGET} cannot be driven on the GPU: no NVIDIA driver"
        ):
            Session.open(bundle, TARGET, runtime="cuda")
        with pytest.raises(EngineError, match="no CUDA provider"):
            Session.open(bundle, TARGET)  # python, where the GPU pipeline is missing
        with pytest.raises(UsageError, match=r"fp32 runs on no NVIDIA GPU, .* native or python"):
            Session.open(bundle, "onnxruntime:fp32", runtime="cuda")
    golden = Path(__file__).resolve().parents[2] / "golden" / "bundle_v1.edgead"
    with open_bundle(golden) as bundle, pytest.raises(RuntimeMissingError, match="it runs on no GPU"):
        Session.open(bundle, runtime="cuda")


def test_engines_with_tensors_in_host_memory_are_not_driven_on_a_gpu(tmp_path: Path) -> None:
    from edgead.runtimes._registry import runtime_for

    for engine in ("openvino+window_search", "openvino", "null"):
        with pytest.raises(RuntimeMissingError, match="not driven on a GPU as a whole"):
            runtime_for(engine).on_device(tmp_path, Target(engine, "fp32", "cuda"), SimpleNamespace())


def test_a_target_on_a_gpu_is_passed_over_where_there_is_none(altered: Callable[..., Path]) -> None:
    def change(root: Path, manifest: dict[str, Any]) -> None:
        _add_gpu_target(manifest)
        manifest["targets"].reverse()

    with open_bundle(altered(change)) as bundle:
        assert bundle.targets[0] == TARGET
        assert str(Session.open(bundle, threads=1).target) != TARGET


def test_a_plan_runs_between_host_arrays(
    stand_in: Any, make_graph: Any, host_engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TensorRT's runtime with another engine in the plan's place."""
    from edgead.runtimes import tensorrt_runtime
    from edgead.runtimes._registry import runtime_for

    graph, target = make_graph(score=True), Target("tensorrt", "fp32", "cuda")
    monkeypatch.setattr(tensorrt_runtime.TensorRTRuntime.package.__class__, "load", lambda self: None)
    monkeypatch.setattr(tensorrt_runtime, "cuda_driver", lambda: stand_in.pycuda)
    monkeypatch.setattr(tensorrt_runtime, "TensorRTEngine", lambda plan, *_: host_engine(plan, stand_in.host))
    image = np.random.default_rng(5).integers(0, 256, (1, 32, 48, 3), np.uint8)
    expected = runtime_for("onnxruntime").open(graph, Target("onnxruntime", "fp32"), threads=1).infer(image)
    with runtime_for("tensorrt").open(graph, target) as runtime:
        assert stand_in.graphs == 1, "copies and engine are one CUDA graph"
        found = runtime.infer(image)
        np.testing.assert_array_equal(found.anomaly_map, expected.anomaly_map)
        np.testing.assert_array_equal(found.image_score, expected.image_score)
        stand_in.fail = stand_in.pycuda.Error("an illegal memory access")
        with pytest.raises(EngineError, match="tensorrt:fp32:cuda: its work failed"):
            runtime.infer(image)
    stand_in.host._limit = 2000
    with pytest.raises(EngineError, match="the engine's image"):
        runtime_for("tensorrt").open(graph, target)
