from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from edgead.errors import UsageError
from edgead.progress import Silent
from edgead.training._noise import lighter, salt_and_pepper
from edgead.training._other_images import OtherImages
from edgead.training._synthetic_anomalies import (
    AnomalyRecipe,
    SyntheticAnomalies,
    large_parts,
    perlin,
    shuffled,
)
from edgead.training._variations import _CHANGES, varied

SIDE = 64
Pixels = npt.NDArray[np.uint8]


def series(folder: Path | None = None, *, seed: int = 0, **recipe: Any) -> SyntheticAnomalies:
    textures = OtherImages(folder, (SIDE, SIDE), seed=seed, progress=Silent(), use="test", enlarge=False)
    return SyntheticAnomalies(AnomalyRecipe(**recipe), textures, seed=seed)


def photo(seed: int = 0, side: int = SIDE) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3)).astype(np.uint8)


def test_the_seed_and_the_number_decide() -> None:
    for index in range(6):
        one, two = series().image(photo(), index), series().image(photo(), index)
        assert np.array_equal(one[0], two[0])
        assert np.array_equal(one[1], two[1])
    pictures = [series().image(photo(), index)[0].tobytes() for index in range(6)]
    assert len(set(pictures)) == 6
    assert series(seed=1, share=1).image(photo(), 0)[0].tobytes() != pictures[0]


def test_outside_the_mask_nothing_changes_and_the_good_image_is_left_alone() -> None:
    good = photo()
    before = good.copy()
    for index in range(20):
        changed, mask = series(share=1.0).image(good, index)
        assert (changed[~mask] == good[~mask]).all()
        assert mask.any()
        assert (changed[mask] != good[mask]).any()
    assert np.array_equal(good, before)


def test_a_share_of_nothing_leaves_all_images() -> None:
    for index in range(10):
        changed, mask = series(share=0.0).image(photo(), index)
        assert np.array_equal(changed, photo())
        assert not mask.any()


def test_the_share_of_images_is_the_recipe_s() -> None:
    """0.9 of 400 draws: three deviations of the binomial are 0.045."""
    hit = [series().image(photo(), index)[1].any() for index in range(400)]
    assert np.mean(hit) == pytest.approx(0.9, abs=0.045)


def test_textures_come_from_the_folder_with_the_recipe_s_opacity(tmp_path: Path) -> None:
    """Red of opacity a on black is 255·a, between 255·0.5 and 255."""
    cv2.imwrite(str(tmp_path / "red.png"), np.full((30, 40, 3), (0, 0, 255), np.uint8))
    black = np.zeros((SIDE, SIDE, 3), np.uint8)
    seen = []
    for index in range(40):
        changed, mask = series(tmp_path, share=1.0, shuffled=0.0).image(black, index)
        assert (changed[mask][:, 1:] == 0).all()
        reds = np.unique(changed[mask][:, 0])
        assert len(reds) == 1
        seen.append(int(reds[0]))
    assert min(seen) >= 127
    assert max(seen) <= 255
    assert max(seen) - min(seen) > 90


def test_the_image_s_own_squares_replace_it() -> None:
    """Shuffled always: no texture is asked for, and a grey image stays within what changes of colour give."""

    class Nothing(OtherImages):
        def __init__(self) -> None:
            pass

        def image(self, index: int) -> Pixels:
            raise AssertionError("no texture is wanted")

    made = SyntheticAnomalies(AnomalyRecipe(share=1.0, shuffled=1.0), Nothing(), seed=0)
    changed, mask = made.image(photo(), 0)
    assert mask.any()
    assert (changed[mask] != photo()[mask]).mean() > 0.9


def test_shuffled_squares_are_the_same_squares_elsewhere() -> None:
    image = photo(side=32)
    found = shuffled(image, 4, np.random.default_rng(0))

    def squares(pixels: Pixels) -> list[bytes]:
        return [
            pixels[row : row + 8, col : col + 8].tobytes()
            for row in range(0, 32, 8)
            for col in range(0, 32, 8)
        ]

    assert sorted(squares(found)) == sorted(squares(image))
    assert squares(found) != squares(image)


def test_shuffled_leaves_in_place_what_is_less_than_a_piece() -> None:
    image = photo(side=32)[:30]
    found = shuffled(image, 4, np.random.default_rng(0))  # pieces of 7 × 8
    assert np.array_equal(found[28:], image[28:])
    pieces = [
        sorted(
            pixels[row : row + 7, col : col + 8].tobytes()
            for row in range(0, 28, 7)
            for col in range(0, 32, 8)
        )
        for pixels in (image, found)
    ]
    assert pieces[0] == pieces[1]
    assert not np.array_equal(found, image)


def test_parts_must_be_large_and_touch_the_object() -> None:
    """On 20 × 20 pixels, 0.01 are 4 pixels; diagonal neighbours are one part."""
    mask, shown = np.zeros((20, 20), bool), np.zeros((20, 20), bool)
    mask[0:2, 0:2] = True  # large, outside
    mask[5, 5] = mask[6, 6] = mask[7, 7] = True  # 3 pixels, inside
    mask[10:12, 10:12] = True  # large, one pixel of it inside
    mask[15, 15] = mask[16, 16] = mask[17, 17] = mask[18, 18] = True  # large by its diagonals, inside
    shown[4:11, 4:11] = shown[15:, 15:] = True
    expected = np.zeros_like(mask)
    expected[10:12, 10:12] = True
    expected[[15, 16, 17, 18], [15, 16, 17, 18]] = True
    assert np.array_equal(large_parts(mask, shown, 0.01), expected)


def test_anomalies_meet_the_object_or_stay_inside_it() -> None:
    shown = np.zeros((SIDE, SIDE), np.float32)
    shown[24:40, 24:40] = 1
    outside = 0
    for index in range(30):
        touching = series(share=1.0).image(photo(), index, shown)[1]
        labels = cv2.connectedComponents(touching.view(np.uint8), connectivity=8)[1]
        for part in range(1, labels.max() + 1):
            assert (shown[labels == part] > 0.5).any()
        outside += int((touching & (shown < 0.5)).sum())
        inside = series(share=1.0, on_object="inside", cells=(3, 5), smallest=0.0).image(
            photo(), index, shown
        )
        assert not (inside[1] & (shown < 0.5)).any()
    assert outside > 0


def test_an_image_without_an_object_stays_good() -> None:
    changed, mask = series(share=1.0).image(photo(), 0, np.zeros((SIDE, SIDE), np.float32))
    assert np.array_equal(changed, photo())
    assert not mask.any()


@pytest.mark.parametrize("cells", [(1, 1), (4, 2), (32, 32)])
def test_perlin_noise_is_the_published_one(cells: tuple[int, int]) -> None:
    """Pixel by pixel from the definition: ramps of four corners, faded by 6t⁵ − 15t⁴ + 10t³."""
    height, width = 40, 24
    found = perlin(np.random.default_rng(5), (height, width), cells)
    angles = np.random.default_rng(5).uniform(0, 2 * np.pi, (cells[0] + 1, cells[1] + 1))
    for i in range(0, height, 7):
        for j in range(0, width, 5):
            y, x = i * cells[0] / height, j * cells[1] / width
            row, col = int(y), int(x)
            y, x = y - row, x - col

            def ramp(a: int, b: int) -> float:
                angle = angles[row + a, col + b]  # noqa: B023
                return float(np.sin(angle) * (y - a) + np.cos(angle) * (x - b))  # noqa: B023

            fy, fx = (6 * t**5 - 15 * t**4 + 10 * t**3 for t in (y, x))
            upper = ramp(0, 0) * (1 - fx) + ramp(0, 1) * fx
            lower = ramp(1, 0) * (1 - fx) + ramp(1, 1) * fx
            assert found[i, j] == pytest.approx(2**0.5 * (upper * (1 - fy) + lower * fy), abs=1e-5)


def test_masks_cover_what_they_cover_at_640() -> None:
    """The same noise at twice the size: the same share of the image, within a few edge pixels."""
    shares = [
        (perlin(np.random.default_rng(seed), (side, side), (4, 8)) > 0.5).mean()
        for seed in range(5)
        for side in (320, 640)
    ]
    for small, large in zip(shares[::2], shares[1::2], strict=True):
        assert small == pytest.approx(large, abs=0.01)


def test_each_change_of_colours_changes_and_keeps_the_shape() -> None:
    image = cv2.GaussianBlur(photo(3), (0, 0), 2)
    image = np.asarray(image // 2 + 40, np.uint8)
    for change in _CHANGES:
        found = change(image, np.random.default_rng(1))
        assert (found.shape, found.dtype) == (image.shape, np.uint8)
        assert not np.array_equal(found, image), change.__name__
    assert np.array_equal(varied(image, np.random.default_rng(1)), varied(image, np.random.default_rng(1)))


def test_inverting_and_posterising_are_arithmetic() -> None:
    changes = {change.__name__: change for change in _CHANGES}
    image = photo(1)
    assert np.array_equal(changes["_invert"](image, np.random.default_rng(0)), 255 - image)
    found = changes["_posterise"](image, np.random.default_rng(0))
    bits = int(np.random.default_rng(0).integers(1, 8))
    assert np.array_equal(found, image >> (8 - bits) << (8 - bits))


def test_salt_and_pepper_is_rare_and_half_of_it_white() -> None:
    grey = np.full((200, 200, 3), 128, np.uint8)
    shares = []
    for seed in range(30):
        found = salt_and_pepper(grey, np.random.default_rng(seed))
        white, black = (found == 255).all(2), (found == 0).all(2)
        assert ((found == 128).all(2) | white | black).all()
        assert white.sum() == pytest.approx(black.sum(), abs=5 * (white.sum() + 1) ** 0.5)
        shares.append((white | black).mean())
    assert max(shares) < 0.035
    assert np.mean(shares) == pytest.approx(0.015, abs=0.006)


def test_light_changes_by_a_tenth() -> None:
    grey = np.full((4, 4, 3), 100, np.uint8)
    found = [int(lighter(grey, np.random.default_rng(seed))[0, 0, 0]) for seed in range(50)]
    assert 89 <= min(found) <= 93
    assert 107 <= max(found) <= 110


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"share": 1.5}, "shares are 0 … 1"),
        ({"opacity": (0.9, 0.2)}, "do not rise"),
        ({"cells": (3, 1)}, "do not rise"),
        ({"grid": 0}, "grid 0"),
    ],
)
def test_numbers_out_of_range_are_refused(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        AnomalyRecipe(**wrong)
