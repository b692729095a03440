from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from edgead.errors import ImageError, UsageError
from edgead.imaging.frame import Frame, decode, read_image

RGB = np.random.default_rng(9).integers(0, 256, (120, 160, 3), dtype=np.uint8)


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png16(pixels: np.ndarray) -> bytes:
    return bytes(cv2.imencode(".png", pixels)[1])


def test_colour_and_gray() -> None:
    frame = decode(saved(Image.fromarray(RGB), "PNG"))
    assert frame.pixel_format == "BGR8"
    assert np.array_equal(frame.data, RGB[..., ::-1])
    assert (frame.height, frame.width) == (120, 160)
    gray = decode(saved(Image.fromarray(RGB[..., 0]), "PNG"))
    assert gray.pixel_format == "MONO8"
    assert np.array_equal(gray.data, RGB[..., 0])


def test_palette_is_expanded() -> None:
    image = Image.fromarray(RGB).quantize(16)
    frame = decode(saved(image, "PNG"))
    assert frame.pixel_format == "BGR8"
    assert np.array_equal(frame.data[..., ::-1], np.asarray(image.convert("RGB")))


def test_one_bit_is_black_and_white() -> None:
    bits = RGB[..., 0] > 127
    frame = decode(saved(Image.fromarray(bits), "PNG"))
    assert frame.pixel_format == "MONO8"
    assert np.array_equal(frame.data, np.where(bits, 255, 0))


def test_alpha_is_carried_as_a_format_that_drops_it() -> None:
    frame = decode(saved(Image.fromarray(np.dstack([RGB, RGB[..., 0]])), "PNG"))
    assert frame.pixel_format == "BGRA8"
    assert np.array_equal(frame.data[..., :3], RGB[..., ::-1])
    gray_alpha = Image.merge("LA", [Image.fromarray(RGB[..., 0]), Image.fromarray(RGB[..., 1])])
    frame = decode(saved(gray_alpha, "PNG"))
    assert frame.pixel_format == "BGRA8"
    assert (frame.data[..., :3] == RGB[..., :1]).all()


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_exif_orientation_is_ignored(kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    frame = decode(saved(Image.fromarray(RGB), kind, exif=exif))
    assert (frame.height, frame.width) == (120, 160)


@pytest.mark.parametrize("bits", [10, 12, 16])
def test_sixteen_bit_files_need_a_bit_depth(bits: int) -> None:
    values = np.random.default_rng(1).integers(0, 2**bits, (20, 30)).astype(np.uint16)
    frame = decode(png16(values), bit_depth=bits)
    assert frame.pixel_format == f"MONO{bits}"
    assert np.array_equal(frame.data, values)
    with pytest.raises(ImageError, match="--bit-depth"):
        decode(png16(values))


def test_sixteen_bit_colour_is_shifted() -> None:
    values = np.random.default_rng(1).integers(0, 4096, (20, 30, 3)).astype(np.uint16)
    frame = decode(png16(values), bit_depth=12)
    assert frame.pixel_format == "BGR8"
    assert np.array_equal(frame.data, values >> 4)
    opaque = np.dstack([values, np.full((20, 30), 65535, np.uint16)])
    assert np.array_equal(decode(png16(opaque), bit_depth=16).data, values >> 8)


def test_values_beyond_the_bit_depth_are_refused() -> None:
    values = np.full((4, 4), 4096, np.uint16)
    with pytest.raises(ImageError, match=r"4096.*12 bits"):
        decode(png16(values), bit_depth=12)


def test_the_scale_never_comes_from_the_data() -> None:
    dark = np.full((4, 4), 3, np.uint16)
    assert decode(png16(dark), bit_depth=16).data.max() == 3


def test_bit_depth_means_nothing_to_eight_bit_files() -> None:
    assert decode(saved(Image.fromarray(RGB), "PNG"), bit_depth=12).pixel_format == "BGR8"
    with pytest.raises(UsageError, match="9"):
        decode(saved(Image.fromarray(RGB), "PNG"), bit_depth=9)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "0 bytes"),
        (b"no image at all, only text\n" * 20, "not an image"),
        (saved(Image.fromarray(RGB[..., 0].astype(np.float32)), "TIFF"), "float32"),
    ],
    ids=["empty", "text", "float"],
)
def test_what_is_no_image(content: bytes, says: str, tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=says) as caught:
        read_image(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("share", [0.01, 0.3, 0.9, 0.999])
@pytest.mark.parametrize(
    "content",
    [
        saved(Image.fromarray(RGB), "PNG"),
        saved(Image.fromarray(RGB), "JPEG"),
        saved(Image.fromarray(RGB), "JPEG", progressive=True),
        saved(Image.fromarray(RGB), "BMP"),
        saved(Image.fromarray(RGB), "WEBP"),
    ],
    ids=["png", "jpeg", "progressive jpeg", "bmp", "webp"],
)
def test_cut_off_files_are_refused(content: bytes, share: float) -> None:
    assert decode(content).height == 120
    with pytest.raises(ImageError, match="cut off"):
        decode(content[: int(len(content) * share)])


def test_a_jpeg_with_a_thumbnail_is_cut_off_where_its_own_end_is_missing() -> None:
    exif = Image.Exif()
    exif[0x927C] = saved(Image.fromarray(RGB[:16, :16]), "JPEG")  # has an end marker of its own
    content = saved(Image.fromarray(RGB), "JPEG", exif=exif)
    assert content.count(b"\xff\xd9") == 2
    assert decode(content).height == 120
    assert decode(content + b"trailing bytes").height == 120
    assert decode(content[:2] + b"\xff\xff" + content[2:]).height == 120  # fill bytes before a marker
    with pytest.raises(ImageError, match="cut off"):
        decode(content[:-2])


def test_a_flipped_byte_in_a_png_is_seen() -> None:
    content = bytearray(saved(Image.fromarray(RGB), "PNG"))
    content[len(content) // 2] ^= 0xFF
    with pytest.raises(ImageError, match="damaged"):
        decode(bytes(content))


def test_huge_images_are_refused_before_they_are_decoded(tmp_path: Path) -> None:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(99)))
    path = tmp_path / "bomb.png"
    path.write_bytes(bomb + chunk(b"IEND", b""))
    # A fresh process: OpenCV takes its limit when it is imported, which other tests have done long ago.
    code = "import sys; from edgead.imaging.frame import read_image; read_image(sys.argv[1])"
    environment = {key: value for key, value in os.environ.items() if not key.startswith("OPENCV_IO")}
    run = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, env=environment, check=False
    )
    assert "ImageError" in run.stderr
    assert "bomb.png has more than 134,217,728 pixels" in run.stderr


def test_large_images_are_refused_even_where_opencv_would_take_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgead.imaging.frame.MAX_PIXELS", 120 * 160 - 1)
    with pytest.raises(ImageError, match="more than 19,199 pixels"):
        decode(saved(Image.fromarray(RGB), "PNG"))


def test_missing_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="No such file"):
        read_image(tmp_path / "none.png")
    with pytest.raises(ImageError, match="directory"):
        read_image(tmp_path)


def test_one_pixel(tmp_path: Path) -> None:
    Image.new("RGB", (1, 1), (1, 2, 3)).save(tmp_path / "one.png")
    assert read_image(tmp_path / "one.png").data.tolist() == [[[3, 2, 1]]]


@pytest.mark.parametrize(
    ("data", "pixel_format"),
    [
        (np.zeros((2, 2), np.uint8), "RGB8"),
        (np.zeros((2, 2, 3), np.uint8), "MONO8"),
        (np.zeros((2, 2), np.uint8), "MONO12"),
        (np.zeros((2, 2, 3), np.float32), "RGB8"),
        (np.zeros((0, 2), np.uint8), "MONO8"),
        (np.zeros((2, 2), np.uint8), "GRAY"),
    ],
)
def test_frames_are_what_their_format_says(data: np.ndarray, pixel_format: str) -> None:
    with pytest.raises(ImageError):
        Frame(data, pixel_format)
