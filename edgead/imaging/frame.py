"""Frames, and the one decoder that makes them from image files: OpenCV, unchanged pixels."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgead._native.image import frame_layout
from edgead.errors import ImageError, UsageError

if TYPE_CHECKING:
    import numpy.typing as npt

MAX_PIXELS = 2**27
"""Images with more pixels are refused before they are decoded (11,585 × 11,585 would fit)."""

# OpenCV reads its limit once, when it is first imported.
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(MAX_PIXELS))

_WIDE = {10: "MONO10", 12: "MONO12", 16: "MONO16"}


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """Pixels and what they mean.

    Attributes:
        data: (H, W) or (H, W, C), uint8 or uint16 as the format says; rows may lie any distance apart.
        pixel_format: a key of `edgead.types.PIXEL_FORMATS`.

    Raises:
        ImageError: the array is not what the format needs, or has no pixels.
    """

    data: npt.NDArray[np.uint8] | npt.NDArray[np.uint16]
    pixel_format: str

    def __post_init__(self) -> None:
        channels, dtype = frame_layout(self.pixel_format)
        wanted = (channels,) if channels > 1 else ()
        shape = self.data.shape
        if self.data.dtype != dtype or len(shape) < 2 or shape[2:] != wanted or 0 in shape:
            axes = ", ".join(["height", "width", *map(str, wanted)])
            raise ImageError(
                f"a {self.pixel_format} frame is {np.dtype(dtype).name} ({axes}) with at least one pixel, "
                f"not {self.data.dtype} {shape}"
            )

    @property
    def height(self) -> int:
        """Rows."""
        return int(self.data.shape[0])

    @property
    def width(self) -> int:
        """Columns."""
        return int(self.data.shape[1])


def read_image(path: Path | str, *, bit_depth: int | None = None) -> Frame:
    """Decode an image file.

    The pixels are those of the file: EXIF orientation is ignored, a palette is expanded, alpha is dropped.

    Args:
        path: the file, in any format that OpenCV decodes.
        bit_depth: 10, 12 or 16: bits of a value that a 16-bit file really uses (a 12-bit camera saves 0 to
            4095 in such a file). Nothing can be guessed here from the pixels; 8-bit files need none.

    Returns:
        MONO8, BGR8 or BGRA8 for 8-bit files; MONO10/12/16 for 16-bit gray ones; BGR8, already brought to
        8 bit by value >> (bit_depth - 8), for 16-bit colour ones.

    Raises:
        ImageError: not readable, no image, damaged, cut off, larger than `MAX_PIXELS`, or a 16-bit file
            without a `bit_depth` that holds its values.
        UsageError: `bit_depth` is not 10, 12 or 16.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as err:
        raise ImageError(f"{path} cannot be read: {err.strerror}") from err
    return decode(content, name=str(path), bit_depth=bit_depth)


def decode(content: bytes, *, name: str = "the image", bit_depth: int | None = None) -> Frame:
    """Decode the bytes of an image file; `name` stands in messages. See `read_image`."""
    if bit_depth is not None and bit_depth not in _WIDE:
        raise UsageError(f"bit depth {bit_depth} is not one of 10, 12, 16")
    if not content:
        raise ImageError(f"{name} is empty (0 bytes); remove it or copy it again")
    pixels = _decode_pixels(content, name)
    if pixels.shape[0] * pixels.shape[1] > MAX_PIXELS:  # cv2 was imported before this module
        raise ImageError(_too_large(name))
    if pixels.ndim == 3 and pixels.shape[2] not in (3, 4):
        raise ImageError(f"{name} has {pixels.shape[2]} channels; edgead reads gray and colour images")
    if pixels.dtype == np.uint16:
        return _wide_frame(pixels, name, bit_depth)
    if pixels.dtype != np.uint8:
        raise ImageError(f"{name} holds {pixels.dtype} values; save it with 8 or 16 bits per channel")
    if pixels.ndim == 2:
        return Frame(pixels, "MONO8")
    return Frame(pixels, "BGR8" if pixels.shape[2] == 3 else "BGRA8")


def _too_large(name: str) -> str:
    return f"{name} has more than {MAX_PIXELS:,} pixels; crop it or scale it down first"


def _decode_pixels(content: bytes, name: str) -> npt.NDArray[Any]:
    import cv2

    try:
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as err:
        if "MAX_IMAGE" in str(err):
            raise ImageError(_too_large(name)) from err
        raise ImageError(f"{name} cannot be decoded: {err}") from err
    if pixels is None or _is_cut_off_jpeg(content):
        raise ImageError(
            f"{name} is damaged, cut off, or not an image of a format that OpenCV reads; "
            f"open it in a viewer, copy it again or remove it"
        )
    return np.asarray(pixels)


def _is_cut_off_jpeg(content: bytes) -> bool:
    """Whether the end marker is missing: OpenCV 4 would then fill the rest of the picture with gray."""
    if not content.startswith(b"\xff\xd8"):
        return False
    at = 2
    while at + 4 <= len(content) and content[at] == 0xFF:
        if content[at + 1] == 0xDA:  # pixels from here on: 0xFF stands there only in front of markers and 0
            return content.find(b"\xff\xd9", at) < 0
        if content[at + 1] == 0xFF:  # a fill byte
            at += 1
            continue
        at += 2 + int.from_bytes(content[at + 2 : at + 4], "big")
    return True


def _wide_frame(pixels: npt.NDArray[np.uint16], name: str, bit_depth: int | None) -> Frame:
    if bit_depth is None:
        raise ImageError(
            f"{name} has 16 bits per channel; say how many the camera uses: --bit-depth 10, 12 or 16"
        )
    highest = int(pixels.max())
    if highest >= 1 << bit_depth:
        raise ImageError(
            f"{name} holds the value {highest}, which {bit_depth} bits cannot; raise --bit-depth"
        )
    if pixels.ndim == 2:
        return Frame(pixels, _WIDE[bit_depth])
    return Frame((pixels[..., :3] >> (bit_depth - 8)).astype(np.uint8), "BGR8")
