"""The preprocessor of libedgead: frame pixels to the network's uint8 RGB."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

import numpy as np

from edgead._native._library import ALL_CPU_FEATURES, check, error_buffer, library
from edgead._native.image import address, frame_layout, image_view
from edgead.errors import UsageError
from edgead.types import PIXEL_FORMATS, Resampler

if TYPE_CHECKING:
    import numpy.typing as npt

    from edgead._native.image import Pixels

_RESAMPLERS: dict[Resampler, int] = {"pillow_bilinear": 1, "opencv_linear": 2}


class _Options(ctypes.Structure):
    _fields_ = (
        ("struct_size", ctypes.c_uint32),
        ("resampler", ctypes.c_uint32),
        ("pixel_format", ctypes.c_uint32),
        ("source_width", ctypes.c_uint32),
        ("source_height", ctypes.c_uint32),
        ("resize_width", ctypes.c_uint32),
        ("resize_height", ctypes.c_uint32),
        ("window_x", ctypes.c_uint32),
        ("window_y", ctypes.c_uint32),
        ("window_width", ctypes.c_uint32),
        ("window_height", ctypes.c_uint32),
        ("cpu_mask", ctypes.c_uint64),
    )


class Preprocessor:
    """One planned resize: ROI → resample → output window, to uint8 RGB. One thread at a time.

    Args:
        pixel_format: a key of `PIXEL_FORMATS`, of the frames to come.
        source: (height, width) of the ROI, or of the frame where there is none, in pixels.
        resize: (height, width) to resample to.
        window: (y, x, h, w) of the resized image that is computed; None = all of it.
        resampler: which library's bilinear resampling is reproduced, bit for bit.
        cpu_mask: instruction sets that may be used, bits `CPU_*` of `edgead._native._library`.

    Raises:
        UsageError: a size is zero or too large, or the window leaves the resized image.
        ImageError: the pixel format is unknown.
    """

    def __init__(
        self,
        pixel_format: str,
        source: tuple[int, int],
        resize: tuple[int, int],
        *,
        window: tuple[int, int, int, int] | None = None,
        resampler: Resampler = "pillow_bilinear",
        cpu_mask: int = ALL_CPU_FEATURES,
    ) -> None:
        self._handle = ctypes.c_void_p()
        frame_layout(pixel_format)
        self._format = pixel_format
        top, left, height, width = window if window is not None else (0, 0, *resize)
        numbers = (*source, *resize, top, left, height, width)
        if min(numbers) < 0 or max(numbers) >= 2**32:
            raise UsageError(f"source {source}, resize {resize} or window {window} is out of range")
        self._shape = (height, width, 3)
        self._library = library()
        options = _Options(
            ctypes.sizeof(_Options),
            _RESAMPLERS[resampler],
            PIXEL_FORMATS[pixel_format],
            source[1],
            source[0],
            resize[1],
            resize[0],
            left,
            top,
            width,
            height,
            cpu_mask,
        )
        create = self._library.edgead_preprocessor_create
        create.restype = ctypes.c_int32
        create.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t]
        self._run = self._library.edgead_preprocessor_run
        self._run.restype = ctypes.c_int32
        self._run.argtypes = [
            ctypes.c_void_p,
            ctypes.c_void_p,
            ctypes.c_void_p,
            ctypes.c_size_t,
            ctypes.c_size_t,
            ctypes.c_char_p,
            ctypes.c_size_t,
        ]
        self._destroy = self._library.edgead_preprocessor_destroy
        self._destroy.restype = None
        self._destroy.argtypes = [ctypes.c_void_p]
        message = error_buffer()
        check(create(ctypes.byref(options), ctypes.byref(self._handle), message, len(message)), message)

    def __call__(
        self,
        frame: Pixels,
        *,
        roi: tuple[int, int, int, int] | None = None,
        out: npt.NDArray[np.uint8] | None = None,
    ) -> npt.NDArray[np.uint8]:
        """Preprocess one frame; the interpreter lock is released meanwhile.

        Args:
            frame: (H, W) or (H, W, C), uint8 or uint16 as the pixel format says. Rows may lie any distance
                apart; a frame whose pixels are not packed within a row is copied first.
            roi: (x, y, w, h) in frame pixels, of the size that the preprocessor was made for.
            out: (h, w, 3) uint8 to write to, rows packed or apart; None = a new array.

        Returns:
            `out`: (h, w, 3) uint8 RGB.

        Raises:
            ImageError: the frame or ROI does not fit what the preprocessor was made for.
            UsageError: `out` has another shape or type.
        """
        image, pixels = image_view(frame, self._format, roi)
        if out is None:
            out = np.empty(self._shape, np.uint8)
        elif out.shape != self._shape or out.dtype != np.uint8 or not out.flags.writeable:
            raise UsageError(f"out must be writeable uint8 {self._shape}, not {out.dtype} {out.shape}")
        elif out.strides[1:] != (3, 1) or out.strides[0] < 0:
            raise UsageError(f"out must have packed rows that run downwards, not strides {out.strides}")
        height, width, _ = self._shape
        # A single row's stride is meaningless in numpy.
        stride = out.strides[0] if height > 1 else 3 * width
        capacity = (height - 1) * stride + 3 * width
        message = error_buffer()
        status = self._run(
            self._handle, ctypes.byref(image), address(out), stride, capacity, message, len(message)
        )
        check(status, message)
        del pixels  # lives until here: `image` points into it
        return out

    def __del__(self) -> None:
        if getattr(self, "_handle", None) and hasattr(self, "_destroy"):
            self._destroy(self._handle)
            self._handle = ctypes.c_void_p()
