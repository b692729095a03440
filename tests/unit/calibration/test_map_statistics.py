import math
from pathlib import Path

import pytest

from edgead.calibration.map_statistics import MapStatistics, collect, thresholds
from edgead.data.folder import ImageItem
from edgead.errors import DatasetError, EngineError, ImageError
from edgead.progress import Silent

ITEMS = tuple(ImageItem(Path(f"{number}.png")) for number in range(200))


def _number(path: Path) -> int:
    return int(path.stem)


def test_each_image_is_scored_once() -> None:
    good = collect(ITEMS[:3], lambda path: (_number(path) + 0.5, 2.0 * _number(path)))
    assert good == MapStatistics(ITEMS[:3], (0.5, 1.5, 2.5), (0.0, 2.0, 4.0))


def test_an_unreadable_image_among_good_ones_is_skipped_and_named() -> None:
    said: list[str] = []

    class Listening(Silent):
        def say(self, message: str) -> None:
            said.append(message)

    def score(path: Path) -> tuple[float, float]:
        if _number(path) == 1:
            raise ImageError(f"{path} cannot be decoded")
        return 1.0, 1.0

    good = collect(ITEMS[:3], score, progress=Listening())
    assert good.items == (ITEMS[0], ITEMS[2])
    assert good.skipped == ((Path("1.png"), "1.png cannot be decoded"),)
    assert said == ["skipped: 1.png cannot be decoded"]


def test_only_unreadable_images_are_an_error() -> None:
    def score(path: Path) -> tuple[float, float]:
        raise ImageError(f"{path} cannot be decoded")

    with pytest.raises(DatasetError, match=r"none of 2 .*the first: 0\.png cannot be decoded"):
        collect(ITEMS[:2], score)
    with pytest.raises(DatasetError, match="none of 0"):
        collect((), score)


@pytest.mark.parametrize("pair", [(math.nan, 1.0), (1.0, math.inf)])
def test_an_engine_that_gives_no_number_is_named_with_the_image(pair: tuple[float, float]) -> None:
    with pytest.raises(EngineError, match=r"7\.png: the engine gave score"):
        collect(ITEMS[7:8], lambda path: pair)


def test_thresholds_of_known_scores() -> None:
    # Scores 1..200 and map maxima 10..2000: at 1 %, two may lie above, midway between 198 and 199.
    good = collect(ITEMS, lambda path: (_number(path) + 1.0, 10.0 * (_number(path) + 1)))
    limits = thresholds(good, false_positive_rate=0.01)
    assert (limits.image, limits.image_median) == (198.5, 100.5)
    assert (limits.pixel, limits.pixel_median) == (1985.0, 1005.0)
    assert limits.normalise(198.5) == 0.5
    image, pixel = limits.method["image"], limits.method["pixel"]
    assert isinstance(image, dict)
    assert isinstance(pixel, dict)
    assert (image["rule"], image["highest_good"], pixel["images"]) == ("good_quantile", "199.png", 200)


def test_labelled_images_set_the_image_threshold_and_leave_the_pixel_threshold() -> None:
    good = collect(ITEMS[:10], lambda path: (float(_number(path)), float(_number(path))))
    labelled = MapStatistics(
        (ImageItem(Path("a.png")), ImageItem(Path("b.png"), 1, "bent")), (20.0, 30.0), (1.0, 1.0)
    )
    limits = thresholds(good, labelled=labelled)
    assert limits.image == 25.0
    assert limits.image_median == 4.5
    assert limits.pixel == thresholds(good).pixel
