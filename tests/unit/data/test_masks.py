from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from edgead.data.folder import open_mvtec
from edgead.data.masks import load_mask
from edgead.errors import DatasetError, ImageError
from edgead.types import Geometry


def _save(path: Path, mask: np.ndarray, mode: str | None = None) -> Path:
    image = Image.fromarray(mask)
    (image.convert(mode) if mode else image).save(path)
    return path


def _noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).random((height, width)) < 0.3).astype(np.uint8) * 255


@pytest.mark.parametrize(("source", "size"), [((90, 70), (36, 36)), ((17, 31), (64, 50)), ((1, 1), (8, 8))])
def test_a_whole_frame_is_pillows_nearest(
    tmp_path: Path, source: tuple[int, int], size: tuple[int, int]
) -> None:
    mask = _noise(*source)
    expected = np.asarray(Image.fromarray(mask).resize(size[::-1], Image.Resampling.NEAREST)) > 127
    found = load_mask(_save(tmp_path / "m.png", mask), source, Geometry(height=256, width=256), size)
    np.testing.assert_array_equal(found, expected)


def test_a_centre_window_is_resize_and_crop(tmp_path: Path) -> None:
    # 658x658 halves to 329x329, kept is 288x288 from (20, 20): map pixel i is mask pixel 2(20 + i) + 1.
    mask = _noise(658, 658)
    geometry = Geometry(height=329, width=329, mode="shorter_side", window=(288, 288))
    found = load_mask(_save(tmp_path / "m.png", mask), (658, 658), geometry, (288, 288))
    start = 2 * 20 + 1
    np.testing.assert_array_equal(found, mask[start : start + 576 : 2, start : start + 576 : 2] > 127)


def test_roi_window_and_coarser_map_against_plain_fractions(tmp_path: Path) -> None:
    from fractions import Fraction
    from math import floor

    mask = _noise(103, 222)
    geometry = Geometry(height=32, width=48, window=(28, 40), roi=(11, 7, 150, 90))
    found = load_mask(_save(tmp_path / "m.png", mask), (103, 222), geometry, (9, 13))
    for i in range(9):
        for j in range(13):
            row = 7 + floor((2 + Fraction(2 * i + 1, 2) * Fraction(28, 9)) * Fraction(90, 32))
            col = 11 + floor((4 + Fraction(2 * j + 1, 2) * Fraction(40, 13)) * Fraction(150, 48))
            assert found[i, j] == (mask[row, col] > 127)


def test_grey_values_above_127_are_anomalous(tmp_path: Path) -> None:
    mask = np.array([[0, 127, 128, 255]], np.uint8)
    found = load_mask(_save(tmp_path / "m.png", mask), (1, 4), Geometry(height=8, width=8), (1, 4))
    np.testing.assert_array_equal(found, [[False, False, True, True]])


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P", "1"])
def test_other_png_modes_give_the_same_mask(tmp_path: Path, mode: str) -> None:
    mask = _noise(9, 7)
    found = load_mask(_save(tmp_path / "m.png", mask, mode), (9, 7), Geometry(height=8, width=8), (9, 7))
    np.testing.assert_array_equal(found, mask > 127)


def test_one_colour_channel_is_enough(tmp_path: Path) -> None:
    mask = np.zeros((2, 2, 3), np.uint8)
    mask[0, 1, 0] = 255
    found = load_mask(_save(tmp_path / "m.png", mask), (2, 2), Geometry(height=8, width=8), (2, 2))
    np.testing.assert_array_equal(found, [[False, True], [False, False]])


def test_16_bit_masks_are_halved_at_16_bit(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "m.png"), np.array([[0, 32767, 32768, 65535]], np.uint16))
    found = load_mask(tmp_path / "m.png", (1, 4), Geometry(height=8, width=8), (1, 4))
    np.testing.assert_array_equal(found, [[False, False, True, True]])


def test_an_empty_mask_is_all_false(tmp_path: Path) -> None:
    found = load_mask(
        _save(tmp_path / "m.png", np.zeros((5, 5), np.uint8)), (5, 5), Geometry(height=8, width=8), (3, 3)
    )
    assert found.shape == (3, 3)
    assert not found.any()


def test_a_mask_of_another_size_names_both(tmp_path: Path) -> None:
    path = _save(tmp_path / "m.png", _noise(9, 7))
    with pytest.raises(DatasetError, match=r"m\.png is 7x9 pixels, its image is 20x10"):
        load_mask(path, (10, 20), Geometry(height=8, width=8), (8, 8))


def test_a_mask_of_zeros_and_ones_is_refused(tmp_path: Path) -> None:
    path = _save(tmp_path / "m.png", _noise(9, 7) // 255)
    with pytest.raises(DatasetError, match="no value above 127, its highest is 1"):
        load_mask(path, (9, 7), Geometry(height=8, width=8), (8, 8))


def test_a_roi_outside_the_image_is_refused(tmp_path: Path) -> None:
    path = _save(tmp_path / "m.png", _noise(9, 7))
    with pytest.raises(DatasetError, match="is not inside the 7x9 image"):
        load_mask(path, (9, 7), Geometry(height=8, width=8, roi=(3, 0, 5, 9)), (8, 8))


@pytest.mark.parametrize("content", [b"", b"not an image", b"\x89PNG\r\n\x1a\n" + b"\0" * 30])
def test_broken_files_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.png").write_bytes(content)
    with pytest.raises(ImageError, match=r"m\.png is (empty|damaged)"):
        load_mask(tmp_path / "m.png", (9, 7), Geometry(height=8, width=8), (8, 8))


def test_missing_files_and_float_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="cannot be read: No such file"):
        load_mask(tmp_path / "gone.png", (9, 7), Geometry(height=8, width=8), (8, 8))
    cv2.imwrite(str(tmp_path / "m.tif"), np.ones((9, 7), np.float32))
    with pytest.raises(ImageError, match="holds float32 values"):
        load_mask(tmp_path / "m.tif", (9, 7), Geometry(height=8, width=8), (8, 8))


@pytest.mark.realdata
def test_four_masks_of_magnetic_tile_are_empty(magnetic_tile: Path) -> None:
    empty = []
    for item in open_mvtec(magnetic_tile).test:
        if item.mask is not None and item.defect == "uneven":
            size = cv2.imread(str(item.path), cv2.IMREAD_UNCHANGED).shape[:2]
            if not load_mask(item.mask, size, Geometry(height=256, width=256), (256, 256)).any():
                empty.append(item.path.stem)
    assert sorted(empty) == [
        "exp3_num_45042",
        "exp4_num_124690",
        "exp4_num_352527",
        "exp4_num_45057",
    ]
