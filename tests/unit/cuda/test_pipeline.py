"""The whole of the GPU pipeline on the CPU, with a real engine in it: the bits of `PythonDriver`."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from edgead._native.image import frame_layout
from edgead.errors import EngineError, ImageError, InternalError, UsageError
from edgead.imaging.device_frame import DeviceFrame
from edgead.imaging.frame import Frame
from edgead.imaging.map_operator import Banded, build
from edgead.imaging.postprocess import Postprocess
from edgead.runtimes._pipeline import PythonDriver
from edgead.runtimes._registry import runtime_for
from edgead.runtimes.cuda.driver import CudaDriver
from edgead.runtimes.cuda.host_io import HostIo
from edgead.runtimes.cuda.pipeline import CudaPipeline, Wanted
from edgead.types import PIXEL_FORMATS, Geometry, PostRecipe, Prediction, Target, Thresholds

TARGET = Target("onnxruntime", "fp32")
SIZE = (32, 48)
WHOLE = Geometry(height=32, width=48)
RECIPE = PostRecipe(grid=(8, 12), output=(64, 96), blur_sigma=1.5, pad=(0, 1, 1, 0), score_rule="max")
LIMITS = Thresholds(image=0.8, pixel=0.6, image_median=0.1, pixel_median=0.05)
GEOMETRIES = {
    "whole": WHOLE,
    "opencv": replace(WHOLE, resampler="opencv_linear"),
    "roi": replace(WHOLE, roi=(5, 3, 61, 47)),
    "roi at the top, opencv": replace(WHOLE, roi=(7, 0, 40, 1), resampler="opencv_linear"),
    "window": Geometry(height=40, width=60, window=SIZE),
    "shorter side, roi": Geometry(
        height=50, width=50, mode="shorter_side", window=SIZE, roi=(1, 2, 90, 66), resampler="opencv_linear"
    ),
}
MakeDevice = Callable[..., Any]
MakeGraph = Callable[..., Path]


def frame_of(pixel_format: str, height: int, width: int, seed: int, padding: int = 0) -> Frame:
    """Random pixels and a flat block; rows lie `padding` pixels further apart than they must."""
    random = np.random.default_rng(seed)
    channels, dtype = frame_layout(pixel_format)
    shape = (height, width + padding, *((channels,) if channels > 1 else ()))
    most = int(np.iinfo(dtype).max)
    pixels = random.integers(0, most + 1, shape, dtype)
    pixels[height // 3 : height // 2, : width // 2] = most
    return Frame(pixels[:, :width], pixel_format)


def operator_of(recipe: PostRecipe) -> tuple[Banded, Banded]:
    rows, columns = build(recipe)
    return Banded.from_dense(rows), Banded.from_dense(columns)


@pytest.fixture
def pair(
    make_device: MakeDevice, make_graph: MakeGraph, host_engine: Any
) -> Callable[..., tuple[CudaDriver, PythonDriver]]:
    """Both drivers of the same network."""

    def make(
        geometry: Geometry = WHOLE,
        recipe: PostRecipe = RECIPE,
        device: Any = None,
        waits: bool = False,
        **network: Any,
    ) -> tuple[CudaDriver, PythonDriver]:
        graph = make_graph(channels=recipe.channels, **network)
        device = device or make_device(lazy=True)
        engine = host_engine(graph, device, waits=waits)
        cuda = CudaDriver(device, engine, geometry, recipe, operator_of(recipe), LIMITS, TARGET)
        runtime = runtime_for("onnxruntime").open(graph, TARGET, threads=1)
        python = PythonDriver(runtime, geometry, Postprocess(recipe), LIMITS, TARGET)
        return cuda, python

    return make


def assert_same(cuda: Prediction, python: Prediction, *, top_k: bool = False) -> None:
    for name in ("anomaly_map", "heatmap", "mask"):
        left, right = getattr(cuda, name), getattr(python, name)
        assert (left.dtype, left.shape) == (right.dtype, right.shape)
        np.testing.assert_array_equal(left, right, err_msg=name)
    if top_k:  # in double on both sides, in another order
        assert cuda.score_raw == pytest.approx(python.score_raw, rel=2e-7)
    else:
        np.testing.assert_array_equal(cuda.score_raw, python.score_raw)
        np.testing.assert_array_equal(cuda.score, python.score)
    assert (cuda.decision, cuda.regions, cuda.target) == (python.decision, python.regions, python.target)
    assert set(cuda.timings_ms) == set(python.timings_ms)
    assert min(cuda.timings_ms.values()) >= 0


@pytest.mark.parametrize("name", GEOMETRIES)
def test_every_pixel_format_gives_the_same_prediction(name: str, pair: Any) -> None:
    cuda, python = pair(GEOMETRIES[name])
    seen = set()
    for seed, pixel_format in enumerate(sorted(PIXEL_FORMATS)):
        for height, width in ((71, 99), (83, 131)):
            frame = frame_of(pixel_format, height, width, seed, padding=seed % 3)
            found = cuda.predict(frame)
            assert_same(found, python.predict(frame))
            seen.add(bool(found.regions))
    assert True in seen
    scores, expected = cuda.scores(frame), python.scores(frame)
    assert (scores.score_raw, scores.map_max) == (expected.score_raw, expected.map_max)
    np.testing.assert_array_equal(scores.anomaly_map, expected.anomaly_map)


RULES = {
    "max_grid": replace(RECIPE, score_rule="max_grid"),
    "two channels": replace(RECIPE, channels=2, alpha=(0.7, -1.3), gamma=0.2, gamma_stage="after"),
    "top 40": replace(RECIPE, score_rule="top_k_mean", top_k=40),
    "the graph's": replace(RECIPE, score_rule="graph"),
}


@pytest.mark.parametrize("name", RULES)
def test_every_score_rule(name: str, pair: Any) -> None:
    cuda, python = pair(recipe=RULES[name], score=name == "the graph's")
    for seed in range(3):
        frame = frame_of("BGR8", 60 + seed, 70, seed)
        assert_same(cuda.predict(frame), python.predict(frame), top_k="top" in name)


def test_values_that_are_no_numbers_are_an_error(pair: Any) -> None:
    cuda, python = pair(scale=float("inf"))
    frame = frame_of("RGB8", 50, 50, 1)
    found = cuda.predict(frame)
    assert found.decision == "ERROR"
    assert math.isnan(found.score)
    assert_same(found, python.predict(frame))


def test_thresholds_may_change_between_frames(pair: Any) -> None:
    cuda, python = pair()
    frame = frame_of("BGR8", 64, 90, 7)
    score = python.predict(frame).score_raw
    seen = set()
    for factor in (0.2, 0.5, 0.9, 0.99, 1.01):
        limits = Thresholds(image=score * factor, pixel=score * factor, image_median=-1.0, pixel_median=-1.0)
        cuda.thresholds = python.thresholds = limits
        found = cuda.predict(frame)
        assert_same(found, python.predict(frame))
        seen.add((found.decision, bool(found.mask.any())))
    assert seen == {("NG", True), ("OK", False)}
    empty = replace(limits, pixel=limits.pixel_median)  # a display range of no length
    cuda.thresholds = python.thresholds = empty
    np.testing.assert_array_equal(cuda.predict(frame).heatmap, python.predict(frame).heatmap)


def test_what_was_found_stays_when_the_next_frame_comes(pair: Any) -> None:
    cuda, python = pair()
    frames = [frame_of("MONO8", 64, 90, seed) for seed in (1, 2)]
    first = cuda.predict(frames[0])
    cuda.predict(frames[1])
    assert_same(first, python.predict(frames[0]))


def test_network_pixels(pair: Any) -> None:
    cuda, python = pair()
    pixels = np.random.default_rng(2).integers(0, 256, (1, *SIZE, 3), np.uint8)
    left, right = cuda.scores_of(pixels), python.scores_of(pixels)
    assert (left.score_raw, left.map_max) == (right.score_raw, right.map_max)
    np.testing.assert_array_equal(left.anomaly_map, right.anomaly_map)
    for wrong in (pixels[:, 1:], pixels.astype(np.int8)):
        with pytest.raises(InternalError, match="the network's input is uint8"):
            cuda.scores_of(wrong)


def test_engine_and_post_are_recorded_once(
    make_device: MakeDevice, make_graph: MakeGraph, host_engine: Any
) -> None:
    device = make_device(lazy=True)
    engine = host_engine(make_graph(), device)
    pipeline = CudaPipeline(device, engine, WHOLE, RECIPE, operator_of(RECIPE))
    before = engine.calls
    frames = [frame_of("BGR8", 40 + seed, 60, seed) for seed in range(3)]
    found = [pipeline.run([frame], LIMITS)[0] for frame in frames]
    assert engine.calls == before
    assert pipeline.why_plain == {}
    waiting = host_engine(make_graph(), device, waits=True)
    plain = CudaPipeline(device, waiting, WHOLE, RECIPE, operator_of(RECIPE))
    assert list(plain.why_plain) == ["engine"]
    assert "cannot be waited for" in plain.why_plain["engine"]
    for frame, expected in zip(frames, found, strict=True):
        (one,) = plain.run([frame], LIMITS)
        assert one.score_raw == expected.score_raw
        np.testing.assert_array_equal(one.mask, expected.mask)


def test_only_what_is_asked_for_comes_to_the_host(
    make_device: MakeDevice, make_graph: MakeGraph, host_engine: Any
) -> None:
    device = make_device(lazy=True)
    pipeline = CudaPipeline(device, host_engine(make_graph(), device), WHOLE, RECIPE, operator_of(RECIPE))
    frame = frame_of("BGR8", 64, 90, 7)
    (everything,) = pipeline.run([frame], LIMITS)
    pixels = math.prod(RECIPE.output)
    for wanted, size in (
        (Wanted(anomaly_map=False, mask=False, heatmap=False), 0),
        (Wanted(anomaly_map=False, heatmap=False), pixels),
        (Wanted(anomaly_map=False, mask=False), pixels),
        (Wanted(mask=False, heatmap=False), 4 * pixels),
        (Wanted(), 6 * pixels),
    ):
        pipeline.prepare(wanted)
        before = device.bytes_out
        (found,) = pipeline.run([frame], LIMITS, wanted)
        assert device.bytes_out - before == 8 + size
        assert (found.score_raw, found.map_max) == (everything.score_raw, everything.map_max)
        for name in ("anomaly_map", "mask", "heatmap"):
            array = getattr(found, name)
            assert (array is not None) == getattr(wanted, name)
            if array is not None:
                np.testing.assert_array_equal(array, getattr(everything, name))


def test_a_batch_of_frames_of_any_size(
    make_device: MakeDevice, make_graph: MakeGraph, host_engine: Any
) -> None:
    device = make_device(lazy=True)
    one, three = (
        CudaPipeline(
            device, host_engine(make_graph(images=images), device), WHOLE, RECIPE, operator_of(RECIPE)
        )
        for images in (1, 3)
    )
    frames = [frame_of("BGR8", 64, 90, 1), frame_of("MONO8", 33, 40, 2), frame_of("BGR8", 64, 90, 3)]
    for frame, found in zip(frames, three.run(frames, LIMITS), strict=True):
        (expected,) = one.run([frame], LIMITS)
        assert found.score_raw == expected.score_raw
        np.testing.assert_array_equal(found.anomaly_map, expected.anomaly_map)
        np.testing.assert_array_equal(found.mask, expected.mask)
    with pytest.raises(InternalError, match="2 frames for an engine of 3 images"):
        three.run(frames[:2], LIMITS)


def test_many_frame_sizes_do_not_fill_the_device(pair: Any, make_device: MakeDevice) -> None:
    device = make_device(lazy=True)
    cuda, python = pair(device=device)
    largest = frame_of("BGR8", 90, 120, 0)
    taken = []
    for _ in range(3):
        for height in range(40, 60):
            frame = frame_of("BGR8", height, 80, height)
            found = cuda.predict(frame)
        assert_same(found, python.predict(frame))
        cuda.predict(largest)
        taken.append(device.taken)
    assert taken[1] == taken[2]
    cuda.close()
    cuda.close()
    assert device.taken == 0


class Array:
    """A frame in the device's memory, rows `padding` bytes further apart than they must be."""

    def __init__(self, device: Any, frame: Frame, padding: int = 0, **changes: Any) -> None:
        row = frame.data[0].nbytes
        stride = row + padding
        lines = np.zeros(stride * (frame.height - 1) + row, np.uint8)
        for y, line in enumerate(frame.data):
            lines[y * stride : y * stride + row] = np.ascontiguousarray(line).view(np.uint8).reshape(-1)
        self.address = device.allocate(lines.nbytes, "frame")
        device.copy_in(self.address, lines)
        device.synchronize()
        inner = frame.data[0].copy().strides
        self.interface = {
            "version": 3,
            "shape": frame.data.shape,
            "typestr": frame.data.dtype.str,
            "data": (self.address, False),
            "strides": (stride, *inner) if padding else None,
            "stream": None,
        } | changes

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return self.interface


@pytest.mark.parametrize("name", ["whole", "roi", "opencv"])
def test_frames_in_device_memory_are_read_in_place(name: str, pair: Any, make_device: MakeDevice) -> None:
    device = make_device(lazy=True)
    cuda, python = pair(GEOMETRIES[name], device=device)
    for seed, pixel_format in enumerate(sorted(PIXEL_FORMATS)):
        frame = frame_of(pixel_format, 71, 99, seed)
        for padding in (0, 6, 64):
            array = Array(device, frame, padding)
            taken = device.taken
            assert_same(cuda.predict(DeviceFrame(array, pixel_format)), python.predict(frame))
            scores = cuda.scores(DeviceFrame(array, pixel_format))
            np.testing.assert_array_equal(scores.anomaly_map, python.scores(frame).anomaly_map)
    assert device.taken == pytest.approx(taken, abs=1)  # no frame buffer was taken for them


@pytest.mark.parametrize("stream", [1, 2, 0x7F00])
def test_the_stream_that_makes_a_frame_is_waited_for(stream: int, pair: Any, make_device: MakeDevice) -> None:
    device = make_device(lazy=True)
    cuda, python = pair(device=device)
    before, frame = frame_of("BGR8", 64, 90, 1), frame_of("BGR8", 64, 90, 2)
    array = Array(device, before, stream=stream)
    device.producers[stream] = _writes(array.address, np.ascontiguousarray(frame.data))
    found = cuda.predict(DeviceFrame(array, "BGR8"))
    assert_same(found, python.predict(frame))
    assert device.producers == {}


def _writes(address: int, pixels: npt.NDArray[Any]) -> Callable[[], None]:
    import ctypes

    def work() -> None:
        ctypes.memmove(address, pixels.ctypes.data, pixels.nbytes)

    return work


@pytest.mark.parametrize(
    ("changes", "pixel_format", "told"),
    [
        ({"typestr": "<f4"}, "BGR8", r"a BGR8 frame is uint8 .* not float32"),
        ({"typestr": "<u2"}, "MONO8", "a MONO8 frame is uint8"),
        ({"typestr": ">u2"}, "MONO12", "a MONO12 frame is uint16"),
        ({}, "RGBA8", r"uint8 \(height, width, 4\)"),
        ({"shape": (64,)}, "MONO8", "with at least one pixel"),
        ({"shape": (0, 90, 3)}, "BGR8", "with at least one pixel"),
        ({"strides": (270, 6, 1)}, "BGR8", "must be packed"),
        ({"strides": (270, 3, 2)}, "BGR8", "must be packed"),
        ({"strides": (269, 3, 1)}, "BGR8", "at least 270 apart"),
        ({"strides": (-270, 3, 1)}, "BGR8", "at least 270 apart"),
        ({"mask": object()}, "BGR8", "has a mask"),
        ({"data": (0, False)}, "BGR8", "at address 0x0"),
        ({"stream": 0}, "BGR8", "stream 0"),
        ({"version": 1}, "BGR8", "version 1; edgead reads versions 2 and 3"),
        ({}, "YUV8", "pixel format 'YUV8' is unknown"),
    ],
    ids=str,
)
def test_device_arrays_that_are_no_frame(
    changes: dict[str, Any], pixel_format: str, told: str, make_device: MakeDevice
) -> None:
    array = Array(make_device(), frame_of("BGR8", 64, 90, 1), **changes)
    with pytest.raises(ImageError, match=told):
        DeviceFrame(array, pixel_format)


def test_what_has_no_device_array_is_told_apart() -> None:
    with pytest.raises(ImageError, match="ndarray has no __cuda_array_interface__"):
        DeviceFrame(np.zeros((4, 4), np.uint8), "MONO8")
    with pytest.raises(ImageError, match="without typestr, data"):
        DeviceFrame(SimpleNamespace(__cuda_array_interface__={"version": 3, "shape": (4, 4)}), "MONO8")


def test_one_row_and_one_column_have_any_stride(pair: Any, make_device: MakeDevice) -> None:
    device = make_device(lazy=True)
    cuda, python = pair(device=device)
    for height, width, strides in ((1, 50, (3, 3, 1)), (50, 1, (3, 99, 1))):
        frame = frame_of("BGR8", height, width, 4)
        array = Array(device, frame, strides=strides)
        assert_same(cuda.predict(DeviceFrame(array, "BGR8")), python.predict(frame))


def test_frames_elsewhere_are_refused_and_the_next_one_is_judged(pair: Any, make_device: MakeDevice) -> None:
    device, other = make_device(lazy=True), make_device(index=1)
    cuda, python = pair(replace(WHOLE, roi=(5, 3, 61, 47)), device=device)
    frame = frame_of("BGR8", 64, 90, 1)
    elsewhere = Array(other, frame)
    device.owner = lambda address: 1 if address == elsewhere.address else None
    with pytest.raises(ImageError, match=r"on the GPU cuda1, this session runs on cuda0; .*Frame\(…\)"):
        cuda.predict(DeviceFrame(elsewhere, "BGR8"))
    on_host = np.ascontiguousarray(frame.data)
    pinned = SimpleNamespace(
        __cuda_array_interface__={
            "version": 3,
            "shape": on_host.shape,
            "typestr": "|u1",
            "data": (on_host.ctypes.data, False),
        }
    )
    with pytest.raises(ImageError, match="in no GPU's memory"):
        cuda.predict(DeviceFrame(pinned, "BGR8"))
    with pytest.raises(ImageError, match="leaves the frame"):
        cuda.predict(frame_of("BGR8", 40, 40, 1))
    assert_same(cuda.predict(frame), python.predict(frame))


def test_networks_that_do_not_fit_are_refused(
    make_device: MakeDevice, make_graph: MakeGraph, host_engine: Any
) -> None:
    device = make_device()

    def made(geometry: Geometry, recipe: PostRecipe, **network: Any) -> None:
        engine = host_engine(make_graph(**network), device)
        CudaDriver(device, engine, geometry, recipe, operator_of(recipe), LIMITS, TARGET)

    with pytest.raises(EngineError, match="input is 32x48, the geometry gives"):
        made(Geometry(height=48, width=32), RECIPE)
    with pytest.raises(EngineError, match=r"anomaly_map is \(1, 2, 8, 12\)"):
        made(WHOLE, RECIPE, channels=2)
    with pytest.raises(EngineError, match="takes 2 images, a bundle's takes one"):
        made(WHOLE, RECIPE, images=2)
    with pytest.raises(UsageError, match="gave no image_score"):
        made(WHOLE, replace(RECIPE, score_rule="graph"))


def test_too_little_memory_names_what_it_is_for(pair: Any, make_device: MakeDevice) -> None:
    cuda, _ = pair(device=(whole := make_device()))
    opened = whole.taken
    cuda.predict(frame_of("BGR8", 64, 90, 1))
    with pytest.raises(EngineError, match="the engine's image: 1000 of 1000 are free"):
        pair(device=make_device(limit=1000))
    with pytest.raises(EngineError, match="the post kernel's"):
        pair(device=make_device(limit=opened - 1))
    for room, told in ((100, "the preprocess kernel's"), (whole.taken - opened - 1, "a frame of 90x64")):
        device = make_device(limit=opened + room, lazy=True)
        cuda, python = pair(device=device)
        for _ in range(2):
            with pytest.raises(EngineError, match=told):
                cuda.predict(frame_of("BGR8", 64, 90, 1))
        kept = device.taken  # nothing of a plan that did not come about
        assert kept == opened if "preprocess" in told else kept > opened
    small = frame_of("MONO8", 20, 20, 1)
    assert_same(cuda.predict(small), python.predict(small))  # a smaller frame still fits
    cuda.close()
    assert device.taken == 0


def test_an_engine_between_host_arrays(
    make_device: MakeDevice, make_graph: MakeGraph, host_engine: Any
) -> None:
    device, graph = make_device(lazy=True), make_graph(score=True)
    io = HostIo(device, host_engine(graph, device))
    runtime = runtime_for("onnxruntime").open(graph, TARGET, threads=1)
    for seed in range(2):
        image = np.random.default_rng(seed).integers(0, 256, (1, *SIZE, 3), np.uint8)
        io.run(image)
        expected = runtime.infer(image)
        np.testing.assert_array_equal(io.outputs["anomaly_map"], expected.anomaly_map)
        np.testing.assert_array_equal(io.outputs["image_score"], expected.image_score)
    assert io.why_plain == ""
