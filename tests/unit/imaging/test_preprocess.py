from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from edgead.errors import ImageError
from edgead.imaging.frame import Frame, read_image
from edgead.imaging.preprocess import Preprocess
from edgead.types import Geometry


@pytest.fixture
def frame() -> Frame:
    return Frame(np.random.default_rng(5).integers(0, 256, (211, 333, 3), dtype=np.uint8), "RGB8")


def torchvision_resize_and_centre_crop(rgb: np.ndarray, short_side: int, crop: int) -> np.ndarray:
    """Resize(short_side) then CenterCrop(crop) on a PIL image, by torchvision's documented rules."""
    height, width = rgb.shape[:2]
    if height <= width:
        size = (int(short_side * width / height), short_side)
    else:
        size = (short_side, int(short_side * height / width))
    resized = np.asarray(Image.fromarray(rgb).resize(size, Image.Resampling.BILINEAR))
    top, left = round((size[1] - crop) / 2.0), round((size[0] - crop) / 2.0)
    return resized[top : top + crop, left : left + crop]


@pytest.mark.parametrize("shape", [(211, 333), (333, 211), (300, 300), (90, 100)])
def test_shorter_side_and_window_are_resize_and_centre_crop(shape: tuple[int, int]) -> None:
    rgb = np.random.default_rng(6).integers(0, 256, (*shape, 3), dtype=np.uint8)
    geometry = Geometry(height=161, width=161, mode="shorter_side", window=(144, 144))
    wanted = torchvision_resize_and_centre_crop(rgb, 161, 144)
    assert np.array_equal(Preprocess(geometry)(Frame(rgb, "RGB8")), wanted)


def test_exact_with_a_window(frame: Frame) -> None:
    geometry = Geometry(height=329, width=329, window=(288, 288), resampler="opencv_linear")
    wanted = cv2.resize(frame.data, (329, 329), interpolation=cv2.INTER_LINEAR)[20:308, 20:308]
    assert np.array_equal(Preprocess(geometry)(frame), wanted)


def test_roi_is_cut_before_the_resize(frame: Frame) -> None:
    geometry = Geometry(height=64, width=96, roi=(31, 17, 200, 150))
    crop = Image.fromarray(frame.data[17:167, 31:231])
    assert np.array_equal(
        Preprocess(geometry)(frame), np.asarray(crop.resize((96, 64), Image.Resampling.BILINEAR))
    )


@pytest.mark.parametrize("roi", [(300, 0, 34, 10), (0, 205, 10, 7), (400, 400, 1, 1)])
def test_roi_outside_the_frame(frame: Frame, roi: tuple[int, int, int, int]) -> None:
    with pytest.raises(ImageError, match=r"leaves the frame of 333x211"):
        Preprocess(Geometry(height=8, width=8, roi=roi))(frame)


def test_one_pixel_becomes_a_plane() -> None:
    frame = Frame(np.array([[[3, 2, 1]]], np.uint8), "BGR8")
    assert (Preprocess(Geometry(height=32, width=32))(frame) == [1, 2, 3]).all()


def test_frames_of_many_sizes_share_one_preprocess() -> None:
    preprocess = Preprocess(Geometry(height=16, width=16))
    for side in [*range(20, 40), *range(20, 40)]:
        gray = np.full((side, side), side, np.uint8)
        assert (preprocess(Frame(gray, "MONO8")) == side).all()


def test_writes_to_out(frame: Frame) -> None:
    preprocess = Preprocess(Geometry(height=16, width=16))
    out = np.empty((16, 16, 3), np.uint8)
    assert preprocess(frame, out) is out
    assert np.array_equal(out, preprocess(frame))


@pytest.mark.realdata
def test_a_real_image_gives_pillow_s_pixels(bottle: Path) -> None:
    path = bottle / "train" / "good" / "000.png"
    with Image.open(path) as image:
        wanted = np.asarray(image.convert("RGB").resize((256, 256), Image.Resampling.BILINEAR))
    assert np.array_equal(Preprocess(Geometry(height=256, width=256))(read_image(path)), wanted)
