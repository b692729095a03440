import numpy as np
import pytest

from edgead.calibration.synthetic_defects import KINDS, paint, paint_masked


@pytest.mark.parametrize("kind", KINDS)
def test_a_stronger_defect_changes_more_and_only_a_part(kind: str) -> None:
    image = np.random.default_rng(1).integers(0, 256, (60, 90, 3)).astype(np.uint8)
    before = image.copy()
    changes = [
        np.abs(paint(image, kind, strength, 5).astype(int) - image).sum() for strength in (0.1, 0.5, 1.0)
    ]
    assert 0 < changes[0] < changes[1] < changes[2]
    assert np.array_equal(image, before)
    found = paint(image, kind, 1.0, 5)
    assert np.array_equal(found, paint(image, kind, 1.0, 5))
    assert (found == image).all(2).mean() > 0.5


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("kind", ["spot", "scratch"])
def test_the_mask_is_where_half_of_what_is_laid_on_shows(kind: str, seed: int) -> None:
    """On the middle grey 128, black or white at full strength moves a pixel by half of the way or more."""
    image = np.full((80, 60, 3), 128, np.uint8)
    shown, mask = paint_masked(image, kind, 1.0, seed)
    laid = 0 if (shown < 128).any() else 255
    moved = np.abs(shown[..., 0].astype(float) - 128) / abs(laid - 128)
    assert mask.any()
    assert mask.dtype == np.bool_
    assert (moved[mask] >= 0.5 - 0.5 / 127).all()
    assert (moved[~mask] <= 0.5 + 0.5 / 127).all()
    assert np.array_equal(paint_masked(image, kind, 0.25, seed)[1], mask)
