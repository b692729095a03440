"""The preprocessor against Pillow and OpenCV themselves, bit for bit, on every kernel level of this CPU."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from edgead._native import _library
from edgead._native.preprocessor import Preprocessor, frame_layout
from edgead.types import Resampler

Pixels = npt.NDArray[np.uint8]

CASES = 400
LEVELS = [
    mask
    for mask in (
        0,
        _library.CPU_AVX2,
        _library.CPU_AVX2 | _library.CPU_AVX512,
        _library.CPU_NEON,
    )
    if _library.cpu_features() & mask == mask
]
RESAMPLERS: tuple[Resampler, ...] = ("pillow_bilinear", "opencv_linear")
# To RGB, as OpenCV does it. GenICam names a Bayer pattern by its first pixels, as these newer names do.
CONVERSIONS = {
    "MONO8": cv2.COLOR_GRAY2RGB,
    "BGR8": cv2.COLOR_BGR2RGB,
    "RGBA8": cv2.COLOR_RGBA2RGB,
    "BGRA8": cv2.COLOR_BGRA2RGB,
    "BAYER_RG8": cv2.COLOR_BayerRGGB2RGB,
    "BAYER_GR8": cv2.COLOR_BayerGRBG2RGB,
    "BAYER_GB8": cv2.COLOR_BayerGBRG2RGB,
    "BAYER_BG8": cv2.COLOR_BayerBGGR2RGB,
}
levels = pytest.mark.parametrize("mask", LEVELS, ids=_library.kernel_name)
resamplers = pytest.mark.parametrize("resampler", RESAMPLERS)


def expected(rgb: Pixels, size: tuple[int, int], resampler: Resampler) -> Pixels:
    height, width = size
    if resampler == "pillow_bilinear":
        return np.asarray(Image.fromarray(rgb).resize((width, height), Image.Resampling.BILINEAR))
    return np.asarray(cv2.resize(rgb, (width, height), interpolation=cv2.INTER_LINEAR))


def to_rgb(frame: npt.NDArray[np.generic], pixel_format: str) -> Pixels:
    if pixel_format == "RGB8":
        return np.asarray(frame, np.uint8)
    if pixel_format in ("MONO10", "MONO12", "MONO16"):
        gray = np.minimum(frame.astype(np.int64) >> (int(pixel_format[4:]) - 8), 255).astype(np.uint8)
        return np.repeat(gray[..., None], 3, axis=2)
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(frame), CONVERSIONS[pixel_format]), np.uint8)


@dataclass
class Case:
    frame: npt.NDArray[np.generic]
    roi: tuple[int, int, int, int] | None
    resize: tuple[int, int]
    window: tuple[int, int, int, int] | None

    def check(self, pixel_format: str, resampler: Resampler, mask: int) -> None:
        rgb = to_rgb(self.frame, pixel_format)
        if self.roi is not None:
            x, y, w, h = self.roi
            rgb = np.ascontiguousarray(rgb[y : y + h, x : x + w])
        wanted = expected(rgb, self.resize, resampler)
        if self.window is not None:
            y, x, h, w = self.window
            wanted = wanted[y : y + h, x : x + w]
        plan = Preprocessor(
            pixel_format,
            (rgb.shape[0], rgb.shape[1]),
            self.resize,
            window=self.window,
            resampler=resampler,
            cpu_mask=mask,
        )
        got = plan(self.frame, roi=self.roi)  # type: ignore[arg-type]
        wrong = np.count_nonzero(got != wanted)
        assert wrong == 0, (
            f"{pixel_format} {self.frame.shape} strides {self.frame.strides} roi {self.roi} -> {self.resize} "
            f"window {self.window}: {wrong} of {wanted.size} bytes differ"
        )


def size(rng: np.random.Generator, smallest: int = 1) -> int:
    """Often tiny, sometimes hundreds of pixels."""
    return int(rng.integers(smallest, rng.choice([smallest + 3, 20, 80, 330])))


def random_case(rng: np.random.Generator, pixel_format: str, highest: int = 255) -> Case:
    channels, dtype = frame_layout(pixel_format)
    bayer = pixel_format.startswith("BAYER")
    height, width = size(rng, 3 if bayer else 1), size(rng, 3 if bayer else 1)
    padded = (height, width + int(rng.integers(0, 9)), channels)[: 2 if channels == 1 else 3]
    frame = rng.integers(0, highest + 1, padded).astype(dtype)
    if rng.random() < 0.25:
        frame = np.where(frame > highest // 2, dtype(highest), dtype(0))  # overflow would show here
    frame = frame[:, :width]  # rows lie further apart than their pixels reach
    roi = None
    rows, columns = height, width
    if rng.random() < 0.5:
        x, y = int(rng.integers(0, width)), int(rng.integers(0, height))
        columns, rows = int(rng.integers(1, width - x + 1)), int(rng.integers(1, height - y + 1))
        roi = (x, y, columns, rows)
    resize = (size(rng), size(rng))
    kind = rng.random()
    if kind < 0.1:
        resize = (rows, columns)
    elif kind < 0.2:
        resize = (rows, size(rng))
    elif kind < 0.3:
        resize = (size(rng), columns)
    elif kind < 0.4 and rows % 2 == 0 and columns % 2 == 0:
        resize = (rows // 2, columns // 2)  # OpenCV takes another way there
    window = None
    if rng.random() < 0.5:
        y, x = int(rng.integers(0, resize[0])), int(rng.integers(0, resize[1]))
        window = (y, x, int(rng.integers(1, resize[0] - y + 1)), int(rng.integers(1, resize[1] - x + 1)))
    return Case(frame, roi, resize, window)


@levels
@resamplers
def test_eight_bit_formats(resampler: Resampler, mask: int) -> None:
    rng = np.random.default_rng(11)
    for _ in range(CASES):
        pixel_format = str(rng.choice(["MONO8", "RGB8", "BGR8", "RGBA8", "BGRA8"]))
        random_case(rng, pixel_format).check(pixel_format, resampler, mask)


@levels
@resamplers
def test_bayer_is_demosaiced_as_a_whole_frame(resampler: Resampler, mask: int) -> None:
    rng = np.random.default_rng(12)
    for _ in range(40):
        pixel_format = str(rng.choice(["BAYER_RG8", "BAYER_GR8", "BAYER_GB8", "BAYER_BG8"]))
        random_case(rng, pixel_format).check(pixel_format, resampler, mask)


@levels
@pytest.mark.parametrize(("pixel_format", "bits"), [("MONO10", 10), ("MONO12", 12), ("MONO16", 16)])
def test_wide_gray_is_shifted_first(pixel_format: str, bits: int, mask: int) -> None:
    rng = np.random.default_rng(13)
    for case in range(30):
        # The last ones hold more bits than the format has: white, not wrapped around.
        highest = 2**bits - 1 if case < 25 else 65535
        random_case(rng, pixel_format, highest).check(pixel_format, RESAMPLERS[case % 2], mask)


@levels
@resamplers
@pytest.mark.parametrize(
    ("source", "resize"),
    [
        ((900, 900), (256, 256)),
        ((1024, 1280), (256, 256)),
        ((1280, 1024), (256, 256)),
        ((2048, 2448), (320, 320)),
        ((480, 640), (1024, 1024)),
    ],
)
def test_camera_sizes(
    source: tuple[int, int], resize: tuple[int, int], resampler: Resampler, mask: int
) -> None:
    frame = np.random.default_rng(14).integers(0, 256, (*source, 3), dtype=np.uint8)
    Case(frame, None, resize, None).check("RGB8", resampler, mask)


def test_pillow_turns_its_passes_round_where_rows_shrink_most() -> None:
    """(rows dropped) > 2 (columns dropped) is the rule; these straddle it."""
    rng = np.random.default_rng(15)
    for width, height, to_width, to_height in (
        (100, 300, 50, 200),
        (100, 300, 50, 199),
        (100, 300, 50, 201),
        (60, 300, 60, 299),
        (60, 300, 90, 299),
        (60, 300, 59, 298),
        (60, 300, 59, 297),
    ):
        frame = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        Case(frame, None, (to_height, to_width), None).check("RGB8", "pillow_bilinear", LEVELS[-1])
