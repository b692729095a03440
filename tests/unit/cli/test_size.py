from __future__ import annotations

import pytest

from edgead.cli._size import parse_size, parse_tiles
from edgead.errors import UsageError


@pytest.mark.parametrize(
    ("text", "size"),
    [("192x512", (192, 512)), ("192X512", (192, 512)), ("192×512", (192, 512)), ("320", (320, 320))],
)
def test_height_comes_first_and_one_number_is_a_square(text: str, size: tuple[int, int]) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "x", "192x", "192x512x3", "0", "0x64", "-64x64", "192,512", "12.5", "big"]
)
def test_anything_else_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UsageError, match=r"--size .* height x width in pixels, for instance 192x512"):
        parse_size(text)


@pytest.mark.parametrize(("text", "tiles"), [("2x3", (2, 3)), ("1X4", (1, 4)), ("12×1", (12, 1))])
def test_rows_of_tiles_come_first(text: str, tiles: tuple[int, int]) -> None:
    assert parse_tiles(text) == tiles


@pytest.mark.parametrize("text", ["", "6", "2x", "2x3x4", "0x3", "2x-3", "2,3", "2.0x3", "many"])
def test_tiles_are_two_numbers(text: str) -> None:
    with pytest.raises(UsageError, match=r"--tiles .* rows x columns, for instance 2x3, or 1x4 for a strip"):
        parse_tiles(text)
