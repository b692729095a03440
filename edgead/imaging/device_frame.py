"""Frames that lie in a GPU's memory already: of a camera SDK, pycuda, CuPy, Numba or torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from edgead._native.image import frame_layout
from edgead.errors import ImageError

_ADVICE = "give a packed copy, or Frame(…) of a copy in host memory"


class DeviceFrame:
    """Pixels in device memory and what they mean, seen through ``__cuda_array_interface__``, version 2 or 3.

    Attributes:
        pixel_format: a key of `edgead.types.PIXEL_FORMATS`.
        height: rows.
        width: columns.
        address: of the first byte, in device memory.
        row_stride: bytes from one row to the next.
        stream: handle of the CUDA stream that makes the pixels; None = they are there.
    """

    def __init__(self, array: object, pixel_format: str) -> None:
        """Look at `array`, which is kept, not copied.

        Args:
            array: (H, W) or (H, W, C), uint8 or uint16 as the format says. Rows may lie any distance apart,
                pixels are packed within one. It must stay as it is until the frame has been judged.
            pixel_format: what the pixels are.

        Raises:
            ImageError: it does not lie on a GPU, or is not what the format needs.
        """
        channels, dtype = frame_layout(pixel_format)
        self._array, self.pixel_format = array, pixel_format
        found = _interface(array)
        shape, kind = tuple(found["shape"]), np.dtype(found["typestr"])
        wanted = (channels,) if channels > 1 else ()
        if kind != dtype or len(shape) < 2 or shape[2:] != wanted or 0 in shape:
            axes = ", ".join(["height", "width", *map(str, wanted)])
            raise ImageError(
                f"a {pixel_format} frame is {np.dtype(dtype).name} ({axes}) with at least one pixel, not "
                f"{kind} {shape}"
            )
        if found.get("mask") is not None:
            raise ImageError(f"the device array has a mask; {_ADVICE}")
        self.height, self.width = int(shape[0]), int(shape[1])
        packed = (kind.itemsize * channels, kind.itemsize)[: len(shape) - 1]
        row = self.width * packed[0]
        strides = found.get("strides") or (row, *packed)
        self.row_stride = int(strides[0]) if self.height > 1 else row
        inner = tuple(strides[1:]) if self.width > 1 else (packed[0], *strides[2:])  # 1 column has no next
        if inner != packed or self.row_stride < row:
            raise ImageError(
                f"the device array's strides are {tuple(strides)} bytes; within a row pixels must be packed, "
                f"{packed}, and rows at least {row} apart; {_ADVICE}"
            )
        self.address, self.stream = int(found["data"][0]), found.get("stream")
        if self.address == 0 or self.stream == 0:
            raise ImageError(
                f"the device array lies at address {self.address:#x}, made in stream {self.stream}: neither "
                "may be 0; update the library that it comes from"
            )


def _interface(array: object) -> Mapping[str, Any]:
    found = getattr(array, "__cuda_array_interface__", None)
    if not isinstance(found, Mapping):
        raise ImageError(
            f"{type(array).__name__} has no __cuda_array_interface__, so it lies on no GPU; pixels in host "
            "memory are a Frame"
        )
    version = found.get("version", 0)
    lacking = [key for key in ("shape", "typestr", "data") if key not in found]
    if version < 2 or lacking:
        raise ImageError(
            f"the __cuda_array_interface__ of {type(array).__name__} is of version {version}"
            f"{', without ' + ', '.join(lacking) if lacking else ''}; edgead reads versions 2 and 3: update "
            "the library that it comes from"
        )
    return found
