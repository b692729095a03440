"""The same on a GPU, wherever one is: kernels, copies and CUDA graphs through pycuda."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edgead.errors import EngineError, ImageError, UsageError
from edgead.imaging.device_frame import DeviceFrame
from edgead.imaging.frame import Frame
from edgead.imaging.map_operator import Banded, build
from edgead.imaging.postprocess import Postprocess
from edgead.imaging.preprocess import Preprocess
from edgead.runtimes._device_engine import DeviceTensor
from edgead.runtimes.cuda.pipeline import CudaPipeline
from edgead.runtimes.cuda.pycuda_device import PycudaDevice, pipeline_missing
from edgead.types import PIXEL_FORMATS, Geometry, PostRecipe, Resampler, Thresholds

WHY = pipeline_missing()
pytestmark = pytest.mark.skipif(bool(WHY), reason=WHY)

RECIPE = PostRecipe(grid=(36, 36), output=(288, 288), blur_sigma=4.0, score_rule="max")
LIMITS = Thresholds(image=1.0, pixel=0.9, image_median=0.2, pixel_median=0.1)


class GivesOneMap:
    """A `DeviceEngine` that answers every image with the same map.

    Attributes:
        raw: the map, in pinned memory.
        pixels: address of the last image.
    """

    input_shape = (1, 256, 256, 3)
    outputs: Mapping[str, DeviceTensor] = {"anomaly_map": DeviceTensor((1, 1, *RECIPE.grid), "float32")}

    def __init__(self, device: PycudaDevice) -> None:
        self._device = device
        self.raw = device.pinned((1, 1, *RECIPE.grid), "float32")
        self.raw[...] = np.random.default_rng(1).gamma(20.0, 0.03, self.raw.shape)
        self.pixels = 0

    def enqueue(self, addresses: Mapping[str, int], stream: int) -> None:
        assert stream == self._device.stream
        self.pixels = addresses["image"]
        self._device.copy_in(addresses["anomaly_map"], self.raw)

    def check(self) -> None:
        pass


@pytest.fixture
def device() -> Iterator[PycudaDevice]:
    made = PycudaDevice(0, "a test")
    yield made
    made.close()


@pytest.mark.parametrize("resampler", ["pillow_bilinear", "opencv_linear"])
def test_frames_become_the_same_pixels_and_maps_the_same_masks(
    resampler: Resampler, device: PycudaDevice
) -> None:
    geometry = Geometry(height=256, width=256, resampler=resampler, roi=(3, 5, 600, 470))
    rows, columns = (Banded.from_dense(matrix) for matrix in build(RECIPE))
    with device:
        engine = GivesOneMap(device)
        pixels = device.pinned((256, 256, 3), "uint8")
    pipeline = CudaPipeline(device, engine, geometry, RECIPE, (rows, columns))
    assert pipeline.why_plain == {}
    expected = Postprocess(RECIPE, (rows, columns))(engine.raw[0], LIMITS)
    preprocess = Preprocess(geometry)
    for seed, pixel_format in enumerate(sorted(PIXEL_FORMATS)):
        frame = _frame(pixel_format, seed)
        with device:
            address = device.allocate(frame.data.nbytes, "a frame")
            device.copy_in(address, np.ascontiguousarray(frame.data))
            device.synchronize()
        for given in (frame, DeviceFrame(_array(frame, address), pixel_format)):
            (found,) = pipeline.run([given], LIMITS)
            with device:
                device.copy_out(pixels, engine.pixels)
                device.synchronize()
            np.testing.assert_array_equal(pixels, preprocess(frame), err_msg=pixel_format)
            np.testing.assert_array_equal(found.anomaly_map, expected.anomaly_map)
            np.testing.assert_array_equal(found.mask, expected.mask)
            np.testing.assert_array_equal(found.heatmap, expected.heatmap)
            assert (found.score_raw, found.map_max) == (expected.score_raw, expected.map_max)
    with pytest.raises(ImageError, match="in no GPU's memory"):
        pipeline.run([DeviceFrame(_array(frame, frame.data.ctypes.data), pixel_format)], LIMITS)
    pipeline.close()


def test_what_goes_wrong_is_an_error_of_edgead(device: PycudaDevice) -> None:
    told: list[str] = []

    def enter() -> None:
        try:
            with device:
                pass
        except UsageError as err:
            told.append(str(err))

    with device:
        thread = threading.Thread(target=enter)
        thread.start()
        thread.join()
        with pytest.raises(EngineError, match=r"a test needs 10,485,760\.0 MiB of device memory for a table"):
            device.allocate(10 << 40, "a table")
        with pytest.raises(EngineError, match="cannot be recorded"):
            device.record(device.synchronize)
        device.synchronize()
    assert "open one session per thread" in told[0]


def _frame(pixel_format: str, seed: int) -> Frame:
    channels = {"RGB8": 3, "BGR8": 3, "RGBA8": 4, "BGRA8": 4}.get(pixel_format)
    wide = pixel_format in ("MONO10", "MONO12", "MONO16")
    shape = (480, 640) if channels is None else (480, 640, channels)
    kind = np.uint16 if wide else np.uint8
    most = int(np.iinfo(kind).max)
    return Frame(np.random.default_rng(seed).integers(0, most + 1, shape, kind), pixel_format)


def _array(frame: Frame, address: int) -> Any:
    shape, kind = frame.data.shape, frame.data.dtype.str
    interface = {"version": 3, "shape": shape, "typestr": kind, "data": (address, True), "stream": 1}
    return SimpleNamespace(__cuda_array_interface__=interface)
