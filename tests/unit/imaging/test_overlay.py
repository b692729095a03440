from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from edgead.errors import OutputError
from edgead.imaging.overlay import PANEL, Area, display_size, draw, map_area, save
from edgead.types import Decision, Geometry, Prediction, Region, Thresholds

LIMITS = Thresholds(image=4.0, pixel=5.0, image_median=2.0, pixel_median=3.0)
GREEN, RED, AMBER = (38, 132, 72), (200, 36, 40), (196, 118, 8)


def _prediction(
    decision: Decision = "OK",
    score_raw: float = 3.0,
    regions: tuple[Region, ...] = (),
    heat: npt.NDArray[np.uint8] | None = None,
) -> Prediction:
    heatmap = np.zeros((16, 16), np.uint8) if heat is None else heat
    return Prediction(
        score_raw=score_raw,
        score=LIMITS.normalise(score_raw),
        decision=decision,
        regions=regions,
        anomaly_map=np.zeros(heatmap.shape, np.float32),
        heatmap=heatmap,
        mask=((heatmap > 127) * 255).astype(np.uint8),
        target="openvino:fp32",
        timings_ms={"engine": 1.0},
    )


@pytest.mark.parametrize(
    ("decision", "colour"), [("OK", GREEN), ("NG", RED), ("ERROR", AMBER)], ids=["OK", "NG", "ERROR"]
)
def test_the_header_is_in_the_decisions_colour(decision: Decision, colour: tuple[int, int, int]) -> None:
    picture = draw(np.full((90, 120, 3), 200, np.uint8), _prediction(decision), LIMITS, "part 7")
    assert tuple(picture[4, 4]) == colour
    assert (picture[75] == colour).all(), "a line of the colour under the whole header"


@pytest.mark.parametrize(
    ("height", "width"), [(1, 1), (64, 64), (900, 900), (4000, 5000), (20, 4000), (4000, 20), (1, 3000)]
)
def test_any_frame_gives_a_picture_of_about_two_panels(height: int, width: int) -> None:
    frame = np.full((height, width, 3), (10, 120, 230), np.uint8)
    picture = draw(frame, _prediction(), LIMITS, "x" * 500)
    assert picture.dtype == np.uint8
    assert PANEL <= picture.shape[1] <= 1450
    assert picture.shape[0] <= 800
    assert (picture == (10, 120, 230)).all(-1).sum() >= 8 * 8, "the frame in its own colours"


def test_the_frame_keeps_its_colours_and_a_small_one_its_pixels() -> None:
    frame = np.zeros((2, 2, 3), np.uint8)
    frame[0, 0], frame[1, 1] = (255, 0, 0), (0, 0, 255)
    picture = draw(frame, _prediction(), LIMITS, "")
    assert (picture == (255, 0, 0)).all(-1).sum() == (PANEL // 2) ** 2
    assert (picture == (0, 0, 255)).all(-1).sum() == (PANEL // 2) ** 2


def test_the_heatmap_lies_where_the_network_looked() -> None:
    frame = np.full((640, 640, 3), 100, np.uint8)
    heat = np.full((16, 16), 255, np.uint8)
    picture = draw(frame, _prediction(heat=heat), LIMITS, "", Area(160, 320, 160, 160))
    panel = picture[88 : 88 + PANEL, 12 + PANEL + 12 : 12 + PANEL + 12 + PANEL].astype(int)
    rows, columns = np.nonzero(np.ptp(panel, axis=-1) > 30)
    assert (rows.min(), rows.max()) == pytest.approx((320, 479), abs=2)
    assert (columns.min(), columns.max()) == pytest.approx((160, 319), abs=2)


def test_a_box_stands_around_its_region() -> None:
    frame = np.full((1280, 1280, 3), 100, np.uint8)
    region = Region((400, 600, 200, 100), 9000, 7.0)
    picture = draw(frame, _prediction("NG", 8.0, (region,)), LIMITS, "")
    panel = picture[88 : 88 + PANEL, 12 : 12 + PANEL]
    rows, columns = np.nonzero((panel == (255, 214, 10)).all(-1))
    assert (panel[302:348, 202:298] == 100).all(), "the defect itself stays visible"
    assert (columns.min(), columns.max()) == pytest.approx((200, 300), abs=6)
    assert rows.max() == pytest.approx(350, abs=6)


def test_a_smaller_copy_of_the_frame_gives_the_same_picture() -> None:
    region = Region((400, 600, 200, 100), 9000, 7.0)
    prediction, area = _prediction("NG", 8.0, (region,)), Area(0, 640, 1280, 640)
    whole = draw(np.full((2560, 2560, 3), 100, np.uint8), prediction, LIMITS, "", area)
    assert display_size(2560, 2560) == (1280, 1280)
    small = draw(np.full((1280, 1280, 3), 100, np.uint8), prediction, LIMITS, "", area, (2560, 2560))
    assert (whole == small).all()


@pytest.mark.parametrize(
    ("size", "expected"),
    [((8, 9), (8, 9)), ((4000, 5000), (1024, 1280)), ((1, 128_000), (1, 1280)), ((1280, 1280), (1280, 1280))],
)
def test_display_size(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert display_size(*size) == expected


def test_extreme_values_are_drawn() -> None:
    regions = tuple(Region((x % 64, x % 50, 1, 1), 1, 1e30) for x in range(300))
    frame = np.zeros((64, 64, 3), np.uint8)
    for score in (math.nan, math.inf, -math.inf, 1e30, -1e30):
        draw(frame, _prediction("ERROR", score, regions), LIMITS, "ünï\ncode ✓")


def test_the_same_prediction_gives_the_same_picture_and_leaves_its_input_alone() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8)
    before = frame.copy()
    first = draw(frame, _prediction(), LIMITS, "a")
    assert (draw(frame, _prediction(), LIMITS, "a") == first).all()
    assert (frame == before).all()


@pytest.mark.parametrize(
    ("geometry", "expected"),
    [
        (Geometry(height=256, width=256), Area(0, 0, 1280, 1024)),
        (Geometry(height=256, width=256, roi=(100, 50, 400, 300)), Area(100, 50, 400, 300)),
        # torchvision: int(329 * 1280 / 1024) = 411 columns, window from row round(20.5), column round(61.5)
        (
            Geometry(height=329, width=329, mode="shorter_side", window=(288, 288)),
            Area(62 * 1280 / 411, 20 * 1024 / 329, 288 * 1280 / 411, 288 * 1024 / 329),
        ),
    ],
    ids=["exact", "roi", "window"],
)
def test_map_area(geometry: Geometry, expected: Area) -> None:
    assert map_area(geometry, 1024, 1280) == pytest.approx(expected)


def test_save_writes_rgb_whole(tmp_path: Path) -> None:
    picture = np.zeros((5, 7, 3), np.uint8)
    picture[..., 0] = 255
    place = tmp_path / "new folder" / "ü.png"
    save(place, picture)
    read = cv2.imdecode(np.fromfile(place, np.uint8), cv2.IMREAD_COLOR)
    assert (read[..., ::-1] == picture).all()
    assert [path.name for path in place.parent.iterdir()] == ["ü.png"]


def test_save_says_what_is_wrong_with_the_place(tmp_path: Path) -> None:
    picture = np.zeros((5, 7, 3), np.uint8)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        save(tmp_path / "file" / "a.png", picture)
    with pytest.raises(OutputError, match="no image type"):
        save(tmp_path / "a.nonsense", picture)
