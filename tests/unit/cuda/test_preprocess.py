"""preprocess.cu on the CPU against libedgead: the same bytes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from edgead._native.image import frame_layout
from edgead._native.preprocessor import Preprocessor
from edgead.errors import ImageError, UsageError
from edgead.imaging.frame import Frame
from edgead.imaging.preprocess import Preprocess
from edgead.runtimes.cuda._device import Device
from edgead.runtimes.cuda._resample_plan import opencv_axis, pillow_axis
from edgead.runtimes.cuda.preprocess import CudaPreprocess
from edgead.types import PIXEL_FORMATS, Geometry, Resampler

MakeDevice = Callable[[bool], Device]
Pixels = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]


def _to(height: int, width: int, **more: Any) -> Geometry:
    return Geometry(height=height, width=width, **more)


RESAMPLERS: tuple[Resampler, ...] = ("pillow_bilinear", "opencv_linear")
# What is done, and the frame's (height, width).
CASES: dict[str, tuple[Geometry, tuple[int, int]]] = {
    "down": (_to(32, 48), (101, 203)),
    "up": (_to(45, 131), (7, 5)),
    "up along x, down along y": (_to(9, 140), (67, 31)),
    "rows dropped most: rows first": (_to(16, 33), (211, 57)),
    "rows first, a window of it": (_to(32, 64, window=(17, 31)), (300, 71)),
    "one row": (_to(32, 32), (1, 150)),
    "one column": (_to(32, 32), (150, 1)),
    "one pixel": (_to(33, 37), (1, 1)),
    "to one pixel": (_to(1, 1), (61, 83)),
    "not resized": (_to(41, 130), (41, 130)),
    "not resized, a window of it": (_to(41, 130, window=(11, 8)), (41, 130)),
    "rows as they are": (_to(41, 60), (41, 130)),
    "columns as they are": (_to(20, 130), (41, 130)),
    "half the size": (_to(20, 65, window=(13, 40)), (40, 130)),
    "half the rows only": (_to(20, 64), (40, 130)),
    "shorter side, high": (_to(40, 40, mode="shorter_side", window=(32, 32)), (203, 89)),
    "shorter side, wide": (_to(40, 40, mode="shorter_side", window=(31, 40)), (53, 149)),
    "roi": (_to(32, 48, window=(32, 32), roi=(5, 3, 61, 47)), (71, 99)),
    "roi of one pixel, the last": (_to(8, 9, roi=(98, 70, 1, 1)), (71, 99)),
    "roi up to the edges": (_to(21, 34, roi=(31, 11, 68, 60)), (71, 99)),
}


def _frame(pixel_format: str, size: tuple[int, int], kind: str) -> Pixels:
    """Rows that lie farther apart than they are long."""
    rng = np.random.default_rng(len(kind) + 31 * PIXEL_FORMATS[pixel_format])
    channels, dtype = frame_layout(pixel_format)
    shape = (size[0], size[1] + 3, *((channels,) if channels > 1 else ()))
    most = int(np.iinfo(dtype).max)
    pixels = {
        "random": lambda: rng.integers(0, most + 1, shape),
        "black and white": lambda: rng.integers(0, 2, shape) * most,
        "white": lambda: np.full(shape, most),
    }[kind]()
    frame: Pixels = pixels.astype(dtype)[:, : size[1]]
    return frame


def _on_device(device: Device, frame: Pixels) -> tuple[int, int]:
    """(address, stride); after the last pixel, the memory ends within 8 bytes."""
    stride = frame.strides[0]
    row = frame[0].nbytes
    lines = np.zeros(stride * (len(frame) - 1) + row, np.uint8)
    for y, line in enumerate(frame):
        lines[y * stride : y * stride + row] = np.ascontiguousarray(line).view(np.uint8).reshape(-1)
    address = device.allocate(lines.nbytes, "frame")
    device.copy_in(address, lines)
    return address, stride


def _ran(device: Device, preprocess: CudaPreprocess, frame: Pixels) -> npt.NDArray[np.uint8]:
    size = int(np.prod(preprocess.shape))
    address = device.allocate(size, "result")
    preprocess.enqueue(*_on_device(device, frame), address)
    found = np.empty(preprocess.shape, np.uint8)
    device.copy_out(found, address)
    return found


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("resampler", RESAMPLERS)
@pytest.mark.parametrize("name", CASES)
def test_the_same_bytes_as_libedgead(
    name: str, resampler: Resampler, backwards: bool, make_device: MakeDevice
) -> None:
    geometry, size = CASES[name]
    geometry, device = replace(geometry, resampler=resampler), make_device(backwards)
    preprocess, expected = CudaPreprocess(device, geometry, "BGR8", size), Preprocess(geometry)
    for kind in ("random", "black and white", "white"):
        frame = _frame("BGR8", size, kind)
        np.testing.assert_array_equal(
            _ran(device, preprocess, frame), expected(Frame(frame, "BGR8")), err_msg=kind
        )


@pytest.mark.parametrize("resampler", RESAMPLERS)
@pytest.mark.parametrize("pixel_format", PIXEL_FORMATS)
def test_every_pixel_format(pixel_format: str, resampler: Resampler, make_device: MakeDevice) -> None:
    device = make_device(False)
    for geometry, size in (
        (_to(19, 24, resampler=resampler), (31, 53)),
        (_to(31, 53, resampler=resampler), (31, 53)),
        (_to(9, 24, resampler=resampler, roi=(1, 2, 21, 41)), (44, 23)),
        (_to(8, 11, resampler=resampler), (3, 3)),
    ):
        preprocess, expected = CudaPreprocess(device, geometry, pixel_format, size), Preprocess(geometry)
        for kind in ("random", "black and white"):
            frame = _frame(pixel_format, size, kind)
            np.testing.assert_array_equal(
                _ran(device, preprocess, frame),
                expected(Frame(frame, pixel_format)),
                err_msg=f"{size}, {kind}",
            )


def test_wide_pixels_at_odd_addresses(make_device: MakeDevice) -> None:
    device, geometry = make_device(False), _to(7, 9)
    frame = _frame("MONO12", (13, 15), "random")
    packed = np.zeros((13, 33), np.uint8)  # rows of 30 bytes, an odd distance apart
    packed[:, 1:31] = np.ascontiguousarray(frame).view(np.uint8)
    address, out = device.allocate(packed.nbytes, "frame"), device.allocate(7 * 9 * 3, "result")
    device.copy_in(address, packed)
    preprocess = CudaPreprocess(device, geometry, "MONO12", (13, 15))
    preprocess.enqueue(address + 1, 33, out)
    found = np.empty(preprocess.shape, np.uint8)
    device.copy_out(found, out)
    np.testing.assert_array_equal(found, Preprocess(geometry)(Frame(frame, "MONO12")))


@pytest.mark.parametrize("axis", ["pillow", "opencv columns", "opencv rows"])
def test_the_weights_of_many_sizes(axis: str) -> None:
    """A line of gray pixels, resized by numpy with the tables, and by libedgead."""
    rng = np.random.default_rng(12)
    for _ in range(400):
        source, resized = (int(side) for side in np.exp(rng.uniform(0, 8, 2)))
        if source == resized:
            continue  # pixels are copied
        first = int(rng.integers(0, resized))
        n = int(rng.integers(1, resized - first + 1))
        line = rng.integers(0, 256, source, dtype=np.uint8)
        found: npt.NDArray[np.generic]
        if axis == "pillow":
            table = pillow_axis(source, resized, first, n)
            samples = np.minimum(table.start + np.arange(len(table.weights))[:, None], source - 1)
            found = np.minimum(((table.weights * line[samples]).sum(axis=0) + (1 << 21)) >> 22, 255)
        else:
            taps = opencv_axis(source, resized, first, n, columns=axis == "opencv columns")
            low, high = line[taps["low"]].astype(np.int64), line[taps["high"]].astype(np.int64)
            if axis == "opencv columns":
                along = (low * taps["weight_low"] + high * taps["weight_high"]) >> 4
                found = ((along * 2048 >> 16) + 2) >> 2
            else:
                upper, lower = 128 * low * taps["weight_low"] >> 16, 128 * high * taps["weight_high"] >> 16
                found = (upper + lower + 2) >> 2
        rows = axis == "opencv rows"
        plan = Preprocessor(
            "MONO8",
            (source, 1) if rows else (1, source),
            (resized, 1) if rows else (1, resized),
            window=(first, 0, n, 1) if rows else (0, first, 1, n),
            resampler="pillow_bilinear" if axis == "pillow" else "opencv_linear",
        )
        expected = plan(line[:, None] if rows else line[None])[..., 0].reshape(-1)
        np.testing.assert_array_equal(found, expected, err_msg=f"{source} to {resized}, {n} from {first}")


def test_several_frames_through_one_plan(make_device: MakeDevice) -> None:
    """Neither address nor stride is kept from the frame before."""
    device, geometry = make_device(False), _to(16, 20)
    preprocess, expected = CudaPreprocess(device, geometry, "RGB8", (23, 29)), Preprocess(geometry)
    for frame in (
        _frame("RGB8", (23, 29), "random"),
        np.ascontiguousarray(_frame("RGB8", (23, 29), "black and white")),
    ):
        np.testing.assert_array_equal(_ran(device, preprocess, frame), expected(Frame(frame, "RGB8")))


def test_what_does_not_fit_is_refused(make_device: MakeDevice) -> None:
    device, geometry = make_device(False), _to(16, 20)
    with pytest.raises(ImageError, match="'YUV8' is unknown"):
        CudaPreprocess(device, geometry, "YUV8", (23, 29))
    with pytest.raises(ImageError, match="Bayer frame of 29x2"):
        CudaPreprocess(device, geometry, "BAYER_RG8", (2, 29))
    with pytest.raises(ImageError, match="the frame is 29x0"):
        CudaPreprocess(device, geometry, "RGB8", (0, 29))
    for roi in ((20, 0, 10, 5), (0, 19, 10, 5), (0, 0, 0, 5), (-1, 0, 5, 5)):
        with pytest.raises(ImageError, match="leaves the frame of 29x23"):
            CudaPreprocess(device, replace(geometry, roi=roi), "RGB8", (23, 29))
    thin = _to(256, 256, mode="shorter_side", window=(256, 256))
    with pytest.raises(UsageError, match="1x8192 becomes 256x2097152"):
        CudaPreprocess(device, thin, "RGB8", (8192, 1))
    with pytest.raises(ImageError, match="the row stride is 86 bytes"):
        CudaPreprocess(device, geometry, "RGB8", (23, 29)).enqueue(256, 86, 512)
