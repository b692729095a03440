"""A numpy frame as the `edgead_image` that libedgead reads, without a copy where its rows are packed."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

import numpy as np

from edgead.errors import ImageError
from edgead.types import PIXEL_FORMATS

if TYPE_CHECKING:
    import numpy.typing as npt

    Pixels = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]

# Channels and dtype of a frame's array.
_LAYOUTS: dict[str, tuple[int, type[np.generic]]] = {
    name: (
        3 if name in ("RGB8", "BGR8") else 4 if name in ("RGBA8", "BGRA8") else 1,
        np.uint16 if name in ("MONO10", "MONO12", "MONO16") else np.uint8,
    )
    for name in PIXEL_FORMATS
}


class Image(ctypes.Structure):
    """`edgead_image`."""

    _fields_ = (
        ("struct_size", ctypes.c_uint32),
        ("pixel_format", ctypes.c_uint32),
        ("data", ctypes.c_void_p),
        ("width", ctypes.c_uint32),
        ("height", ctypes.c_uint32),
        ("row_stride_bytes", ctypes.c_size_t),
        ("roi_x", ctypes.c_uint32),
        ("roi_y", ctypes.c_uint32),
        ("roi_width", ctypes.c_uint32),
        ("roi_height", ctypes.c_uint32),
        ("trigger_timestamp_ns", ctypes.c_uint64),
        ("part_id", ctypes.c_uint64),
    )


def frame_layout(pixel_format: str) -> tuple[int, type[np.generic]]:
    """(channels, dtype) of the array that holds a frame of `pixel_format`.

    Raises:
        ImageError: the format is none of `PIXEL_FORMATS`.
    """
    try:
        return _LAYOUTS[pixel_format]
    except KeyError:
        raise ImageError(
            f"pixel format {pixel_format!r} is unknown; choose one of {', '.join(PIXEL_FORMATS)}"
        ) from None


def image_view(
    frame: Pixels, pixel_format: str, roi: tuple[int, int, int, int] | None = None
) -> tuple[Image, Pixels]:
    """The C view of `frame`, and the array that it points into: keep that as long as the view.

    Args:
        frame: (H, W) or (H, W, C), uint8 or uint16 as the format says. Rows may lie any distance apart; a
            frame whose pixels are not packed within a row, or whose rows run upwards, is copied.
        pixel_format: a key of `PIXEL_FORMATS`.
        roi: (x, y, w, h) in frame pixels; None = the whole frame.

    Raises:
        ImageError: the array is not what the format needs, or the ROI is no rectangle.
    """
    channels, dtype = frame_layout(pixel_format)
    wanted = (channels,) if channels > 1 else ()
    if frame.dtype != dtype or frame.shape[2:] != wanted or frame.ndim < 2:
        raise ImageError(
            f"the frame is {frame.dtype} {frame.shape}; this pixel format needs "
            f"{np.dtype(dtype).name} (height, width{''.join(f', {c}' for c in wanted)})"
        )
    if roi is not None and (min(roi) < 0 or max(roi) >= 2**32 or min(roi[2:]) < 1):
        raise ImageError(f"ROI {roi} is not (x, y, width, height) in pixels")
    item = frame.itemsize
    packed = (item * channels, item)[: frame.ndim - 1]
    height, width = frame.shape[:2]
    if frame.strides[1:] != packed or (height > 1 and frame.strides[0] < width * packed[0]):
        frame = frame.copy(order="C")
    # A single row's stride is meaningless in numpy.
    stride = frame.strides[0] if height > 1 else width * packed[0]
    image = Image(ctypes.sizeof(Image), PIXEL_FORMATS[pixel_format], address(frame), width, height, stride)
    if roi is not None:
        image.roi_x, image.roi_y, image.roi_width, image.roi_height = roi
    return image, frame


def address(array: npt.NDArray[np.generic]) -> int:
    """Where the array's first element lies."""
    place: int = array.__array_interface__["data"][0]  # array.ctypes.data takes three times as long
    return place
