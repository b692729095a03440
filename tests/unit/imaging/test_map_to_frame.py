"""Boxes of map pixels in frame pixels, by hand and by exact fractions."""

from __future__ import annotations

import math
import random
from fractions import Fraction

from edgead.imaging.postprocess import map_to_frame, region_to_frame
from edgead.types import Geometry, Region


def test_a_plain_resize_scales_both_sides() -> None:
    geometry = Geometry(height=256, width=256)
    assert map_to_frame((0, 0, 256, 256), (256, 256), geometry, (900, 1800)) == (0, 0, 1800, 900)
    assert map_to_frame((128, 64, 64, 64), (256, 256), geometry, (512, 1024)) == (512, 128, 256, 128)


def test_edges_round_outward() -> None:
    # 3 map pixels on 10 frame pixels: pixel 1 covers 3.33 … 6.67.
    assert map_to_frame((1, 1, 1, 1), (3, 3), Geometry(height=3, width=3), (10, 10)) == (3, 3, 4, 4)


def test_the_centre_window_and_the_roi_are_offsets() -> None:
    geometry = Geometry(
        height=329, width=329, mode="shorter_side", window=(288, 288), roi=(100, 50, 658, 658)
    )
    # Window offset round(41 / 2) = 20, resize by 1/2: the map's corner lies at 40 in the ROI.
    assert map_to_frame((0, 0, 36, 36), (36, 36), geometry, (1000, 1000)) == (140, 90, 576, 576)
    assert map_to_frame((9, 0, 9, 36), (36, 36), geometry, (1000, 1000)) == (284, 90, 144, 576)


def test_a_box_is_the_smallest_that_covers_the_exact_one_and_stays_inside() -> None:
    rng = random.Random(3)
    for _ in range(500):
        height, width = rng.randint(20, 3000), rng.randint(20, 3000)
        side = rng.randint(16, 400)
        window = rng.randint(8, side)
        geometry = Geometry(height=side, width=side, mode="shorter_side", window=(window, window))
        rows, cols = rng.randint(4, 500), rng.randint(4, 500)
        x, y = rng.randrange(cols), rng.randrange(rows)
        w, h = rng.randint(1, cols - x), rng.randint(1, rows - y)
        resolved = geometry.resolve(height, width)
        top, left, _, _ = resolved.window
        found = map_to_frame((x, y, w, h), (rows, cols), geometry, (height, width))
        for first, size, count, offset, resized, source, begin, length in (
            (x, w, cols, left, resolved.width, width, found[0], found[2]),
            (y, h, rows, top, resolved.height, height, found[1], found[3]),
        ):
            scale = Fraction(source, resized)
            exact = (offset + Fraction(first * window, count)) * scale
            end = (offset + Fraction((first + size) * window, count)) * scale
            assert begin == max(0, math.floor(exact))
            assert begin + length == min(source, math.ceil(end))
            assert length >= 1


def test_a_regions_area_scales_with_its_box() -> None:
    geometry = Geometry(height=100, width=100)
    region = Region((10, 10, 4, 2), 6, 1.5)
    assert region_to_frame(region, (50, 50), geometry, (200, 300)) == Region((60, 40, 24, 8), 144, 1.5)
    assert region_to_frame(Region((0, 0, 1, 1), 1, 2.0), (50, 50), geometry, (10, 10)).area == 1
