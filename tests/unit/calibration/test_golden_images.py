import numpy as np
import pytest

from edgead.calibration.golden_images import synthetic_defect


@pytest.mark.parametrize("shape", [(90, 120), (90, 120, 3), (256, 256, 3), (1, 1), (2, 5, 4)])
@pytest.mark.parametrize("grey", [0, 60, 128, 200, 255])
def test_a_person_sees_it_on_any_grey(shape: tuple[int, ...], grey: int) -> None:
    image = np.full(shape, grey, np.uint8)
    result = synthetic_defect(image, 0)
    assert (result.shape, result.dtype) == (image.shape, image.dtype)
    assert (image == grey).all()
    assert np.abs(result.astype(int) - grey).max() >= 100


def test_it_is_small_soft_and_in_the_middle() -> None:
    image = np.full((200, 200), 200, np.uint8)
    for seed in range(20):
        change = 200 - synthetic_defect(image, seed).astype(int)
        rows, cols = np.nonzero(change > 20)
        assert 0.005 < (change > 20).mean() < 0.06
        assert min(rows.min(), cols.min()) >= 200 * 0.35 - 45
        assert max(rows.max(), cols.max()) <= 200 * 0.65 + 45
        assert np.abs(np.diff(change, axis=0)).max() < 150


def test_the_seed_decides() -> None:
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    assert np.array_equal(synthetic_defect(image, 1), synthetic_defect(image, 1))
    assert not np.array_equal(synthetic_defect(image, 1), synthetic_defect(image, 2))
