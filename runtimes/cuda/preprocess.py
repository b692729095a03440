"""Launches of preprocess.cu: from a frame in device memory to the network's uint8 RGB."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Literal

import numpy as np

from edgead._native.image import frame_layout
from edgead.errors import ImageError, UsageError
from edgead.runtimes.cuda._device import Device, constant
from edgead.runtimes.cuda._resample_plan import FilterAxis, opencv_axis, pillow_axis
from edgead.types import Geometry

if TYPE_CHECKING:
    import numpy.typing as npt

Kernel = Literal["resize_columns", "resize_rows", "resize_linear"]

_THREADS = 128  # as preprocess.cu has it
_MOST_SIDE = 1 << 20  # as libedgead has it
_DIRECT, _WIDE, _BAYER = range(3)
# Bytes of a pixel that hold red, green and blue.
_PLACES = {
    "MONO8": (0, 0, 0),
    "RGB8": (0, 1, 2),
    "BGR8": (2, 1, 0),
    "RGBA8": (0, 1, 2),
    "BGRA8": (2, 1, 0),
}
_SHIFTS = {"MONO10": 2, "MONO12": 4, "MONO16": 8}
# Column and row parity of the red pixels.
_RED = {"BAYER_RG8": (0, 0), "BAYER_GR8": (1, 0), "BAYER_GB8": (0, 1), "BAYER_BG8": (1, 1)}


class PixelView(ctypes.Structure):
    """`PixelView` of preprocess.cu."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("stride", ctypes.c_uint64),
        *((name, ctypes.c_uint32) for name in ("width", "height", "left", "top", "kind", "bytes")),
        *((name, ctypes.c_uint32) for name in ("red", "green", "blue", "shift", "red_x", "red_y")),
    )


class FilterParams(ctypes.Structure):
    """`FilterParams` of preprocess.cu."""

    _fields_ = (
        ("source", PixelView),
        *((name, ctypes.c_void_p) for name in ("start", "count", "weights", "out")),
        *((name, ctypes.c_uint32) for name in ("height", "width")),
    )


class LinearParams(ctypes.Structure):
    """`LinearParams` of preprocess.cu."""

    _fields_ = (
        ("source", PixelView),
        *((name, ctypes.c_void_p) for name in ("columns", "rows", "out")),
        *((name, ctypes.c_uint32) for name in ("height", "width")),
    )


class CudaPreprocess:
    """ROI → resize → centre window on a device, bit for bit what `Preprocess` gives.

    Made for frames of one size and pixel format: its tables go to the device once. Frames of another size
    need another one.

    Attributes:
        shape: (H, W, 3) of the result, uint8 RGB.
        rows: (first, end) rows of the frame that it may read.
    """

    def __init__(self, device: Device, geometry: Geometry, pixel_format: str, size: tuple[int, int]) -> None:
        """Put the tables on the device and take the memory that runs need.

        Args:
            device: where to run.
            geometry: what to do.
            pixel_format: a key of `PIXEL_FORMATS`, of the frames to come.
            size: (height, width) of the frames in pixels.

        Raises:
            ImageError: the pixel format is unknown, the frame has no size or is too large, the ROI leaves it,
                or a Bayer frame is smaller than 3×3.
            UsageError: the resized image would be too large.
            EngineError: not enough device memory.
        """
        height, width = size
        view = self._view = _pixel_view(pixel_format, height, width)
        x, y, roi_width, roi_height = geometry.roi or (0, 0, width, height)
        if (
            min(x, y) < 0
            or min(roi_width, roi_height) < 1
            or x + roi_width > width
            or y + roi_height > height
        ):
            raise ImageError(
                f"the ROI {roi_width}x{roi_height} at ({x}, {y}) is empty or leaves the frame of "
                f"{width}x{height}"
            )
        view.left, view.top = x, y
        resolved = geometry.resolve(roi_height, roi_width)
        if not all(1 <= side <= _MOST_SIDE for side in (resolved.height, resolved.width)):
            raise UsageError(
                f"a frame of {width}x{height} becomes {resolved.width}x{resolved.height}; a side must be "
                f"1 to {_MOST_SIDE}"
            )
        window_y, window_x, window_height, window_width = resolved.window
        self.shape = (window_height, window_width, 3)
        # Bayer pixels at a border take neighbours up to two rows away.
        self.rows = (max(0, y - 2), min(height, y + roi_height + 2))
        self._device = device
        self._taken: list[int] = []
        self._steps: list[tuple[Kernel, FilterParams | LinearParams]] = []
        columns = (roi_width, resolved.width, window_x, window_width)
        rows = (roi_height, resolved.height, window_y, window_height)
        unchanged = (roi_height, roi_width) == (resolved.height, resolved.width)
        try:
            if geometry.resampler == "opencv_linear" or unchanged:
                self._plan_linear(columns, rows)
            else:
                # Pillow filters the rows first where that drops many more of them (resampler_pillow.cpp).
                dropped, columns_dropped = roi_height - resolved.height, roi_width - resolved.width
                self._plan_pillow(
                    pillow_axis(*columns),
                    pillow_axis(*rows),
                    rows_first=dropped > 0 and dropped > 2 * columns_dropped,
                )
        except BaseException:
            self.close()
            raise

    def enqueue(self, frame: int, stride: int, out: int) -> None:
        """Put the kernels into the stream.

        Args:
            frame: address of the frame's first byte in device memory. No byte outside of its rows is read.
            stride: bytes from one row to the next.
            out: address of (H, W, 3) uint8 in device memory, packed.

        Raises:
            ImageError: the stride is less than a row.
        """
        view = self._view
        needed = view.width * view.bytes
        if view.height > 1 and stride < needed:
            raise ImageError(f"the row stride is {stride} bytes; a row of {view.width} pixels needs {needed}")
        first, last = self._steps[0][1], self._steps[-1][1]
        first.source.data, first.source.stride = frame, stride
        last.out = out
        for kernel, p in self._steps:
            grid = (p.height, -(-p.width // _THREADS), 1)
            self._device.launch("preprocess", kernel, grid, _THREADS, p)

    def close(self) -> None:
        """Free its device memory."""
        self._steps.clear()
        while self._taken:
            self._device.free(self._taken.pop())

    def _kept(self, values: npt.NDArray[np.generic]) -> int:
        self._taken.append(constant(self._device, values, "the preprocess kernel's weights"))
        return self._taken[-1]

    def _plan_linear(self, columns: tuple[int, int, int, int], rows: tuple[int, int, int, int]) -> None:
        p = LinearParams(self._view)
        p.columns = self._kept(opencv_axis(*columns, columns=True))
        p.rows = self._kept(opencv_axis(*rows, columns=False))
        p.height, p.width, _ = self.shape
        self._steps.append(("resize_linear", p))

    def _plan_pillow(self, columns: FilterAxis, rows: FilterAxis, *, rows_first: bool) -> None:
        """Two passes; the first one makes only what the second reads."""
        height, width, _ = self.shape
        source = PixelView.from_buffer_copy(self._view)
        if rows_first:
            source.left += columns.first
            middle = (height, columns.end - columns.first)
            passes: tuple[tuple[Kernel, FilterAxis, int], ...] = (
                ("resize_rows", rows, 0),
                ("resize_columns", columns, columns.first),
            )
        else:
            source.top += rows.first
            middle = (rows.end - rows.first, width)
            passes = (("resize_columns", columns, 0), ("resize_rows", rows, rows.first))
        between = _pixel_view("RGB8", *middle)
        size = 3 * middle[0] * middle[1]
        between.data = self._device.allocate(size, "the preprocess kernel's first pass")
        self._taken.append(between.data)
        between.stride = 3 * middle[1]
        views, sizes, outs = (source, between), (middle, (height, width)), (between.data, None)
        for (kernel, axis, origin), view, sides, out in zip(passes, views, sizes, outs, strict=True):
            p = FilterParams(view)
            p.start, p.count = self._kept(axis.start - np.uint32(origin)), self._kept(axis.count)
            p.weights, p.out, (p.height, p.width) = self._kept(axis.weights), out, sides
            self._steps.append((kernel, p))


def _pixel_view(pixel_format: str, height: int, width: int) -> PixelView:
    """A whole frame, its address and stride still to come."""
    channels, dtype = frame_layout(pixel_format)
    if not all(1 <= side <= _MOST_SIDE for side in (height, width)):
        raise ImageError(f"the frame is {width}x{height}; a side must be 1 to {_MOST_SIDE}")
    view = PixelView(width=width, height=height, bytes=channels * np.dtype(dtype).itemsize)
    if pixel_format in _PLACES:
        view.kind, (view.red, view.green, view.blue) = _DIRECT, _PLACES[pixel_format]
    elif pixel_format in _SHIFTS:
        view.kind, view.shift = _WIDE, _SHIFTS[pixel_format]
    else:
        view.kind, (view.red_x, view.red_y) = _BAYER, _RED[pixel_format]
        if min(height, width) < 3:
            raise ImageError(f"a Bayer frame of {width}x{height} has no colours; it must be 3x3 at least")
    return view
