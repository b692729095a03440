from __future__ import annotations

import threading

import numpy as np
import pytest

from edgead._native.preprocessor import Preprocessor
from edgead.errors import ImageError, UsageError


@pytest.fixture
def frame() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (30, 40, 3), dtype=np.uint8)


@pytest.fixture
def plan() -> Preprocessor:
    return Preprocessor("RGB8", (30, 40), (10, 20))


def test_writes_to_the_array_given(plan: Preprocessor, frame: np.ndarray) -> None:
    canvas = np.full((14, 30, 3), 7, np.uint8)
    out = canvas[2:12, 5:25]
    assert plan(frame, out=out) is out
    assert np.array_equal(out, plan(frame))
    canvas[2:12, 5:25] = 7
    assert (canvas == 7).all()


@pytest.mark.parametrize(
    "view",
    [
        lambda a: a[::-1],
        lambda a: a[:, ::-1],
        lambda a: np.asfortranarray(a),
        lambda a: np.repeat(a, 2, axis=1)[:, ::2],
        lambda a: np.repeat(a, 2, axis=0)[::2],
    ],
    ids=["upside down", "mirrored", "column order", "every second column", "every second row"],
)
def test_any_strides_give_the_same_pixels(plan: Preprocessor, frame: np.ndarray, view: object) -> None:
    seen = view(frame)  # type: ignore[operator]
    assert np.array_equal(plan(seen), plan(np.ascontiguousarray(seen)))


@pytest.mark.parametrize("shape", [(30, 40), (30, 40, 4), (30, 41, 3), (3, 30, 40), (0, 40, 3), (40,)])
def test_refuses_other_shapes(plan: Preprocessor, shape: tuple[int, ...]) -> None:
    with pytest.raises(ImageError):
        plan(np.zeros(shape, np.uint8))


def test_refuses_other_types(plan: Preprocessor, frame: np.ndarray) -> None:
    with pytest.raises(ImageError, match="uint16"):
        plan(frame.astype(np.uint16))


@pytest.mark.parametrize(
    "roi", [(0, 0, 40, 31), (1, 0, 40, 30), (-1, 0, 40, 30), (0, 0, 0, 0), (0, 0, 20, 30)]
)
def test_refuses_a_roi_that_does_not_fit(
    plan: Preprocessor, frame: np.ndarray, roi: tuple[int, int, int, int]
) -> None:
    with pytest.raises(ImageError):
        plan(frame, roi=roi)


def test_refuses_a_wrong_output(plan: Preprocessor, frame: np.ndarray) -> None:
    for out in (
        np.zeros((10, 20, 4), np.uint8),
        np.zeros((10, 20, 3), np.float32),
        np.zeros((10, 20, 6), np.uint8)[..., ::2],
        np.zeros((10, 20, 3), np.uint8)[::-1],
    ):
        with pytest.raises(UsageError, match="out must"):
            plan(frame, out=out)
    out = np.zeros((10, 20, 3), np.uint8)
    out.flags.writeable = False
    with pytest.raises(UsageError, match="out must"):
        plan(frame, out=out)


def test_refuses_impossible_plans() -> None:
    with pytest.raises(UsageError, match="window"):
        Preprocessor("RGB8", (30, 40), (10, 20), window=(0, 1, 10, 20))
    with pytest.raises(UsageError, match="out of range"):
        Preprocessor("RGB8", (30, 40), (10, 20), window=(-1, 0, 5, 5))
    with pytest.raises(UsageError, match="source_height is 0"):
        Preprocessor("RGB8", (0, 40), (10, 20))
    with pytest.raises(ImageError, match="YUV"):
        Preprocessor("YUV", (30, 40), (10, 20))


def test_distinct_plans_run_in_parallel(frame: np.ndarray) -> None:
    big = np.tile(frame, (20, 20, 1))
    wanted = Preprocessor("RGB8", (600, 800), (256, 256))(big)
    wrong: list[int] = []

    def work() -> None:
        plan = Preprocessor("RGB8", (600, 800), (256, 256))
        wrong.extend(i for i in range(20) if not np.array_equal(plan(big), wanted))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
