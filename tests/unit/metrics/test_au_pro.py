import itertools

import numpy as np
import pytest
from scipy import ndimage

from edgead.errors import InputError, UsageError
from edgead.metrics.au_pro import au_pro


def _naive(maps: list[np.ndarray], masks: list[np.ndarray], limit: float) -> float:
    """The curve at every threshold that occurs, point by point, then trapezoids up to the limit."""
    labelled = [ndimage.label(mask, np.ones((3, 3)))[0] for mask in masks]
    negatives = sum(int((~mask).sum()) for mask in masks)
    points = [(0.0, 0.0)]
    for threshold in sorted({float(v) for values in maps for v in values.ravel()}, reverse=True):
        false, overlaps = 0, []
        for values, mask, regions in zip(maps, masks, labelled, strict=True):
            false += int(((values >= threshold) & ~mask).sum())
            for region in range(1, regions.max() + 1):
                overlaps.append(float((values[regions == region] >= threshold).mean()))
        points.append((false / negatives, float(np.mean(overlaps))))
    area = 0.0
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        if x1 > limit:
            y1 = y0 + (y1 - y0) * (limit - x0) / (x1 - x0)
            x1 = limit
        area += (x1 - x0) * (y0 + y1) / 2
        if x1 >= limit:
            break
    return area / limit


@pytest.mark.parametrize("levels", [2, 5, 1000])
@pytest.mark.parametrize("limit", [0.3, 0.05, 1.0])
@pytest.mark.parametrize("seed", range(4))
def test_the_curve_point_by_point(seed: int, limit: float, levels: int) -> None:
    rng = np.random.default_rng(seed)
    shapes = [(12, 9), (7, 15), (10, 10)]
    masks = [ndimage.gaussian_filter(rng.normal(size=shape), 1) > 0.2 for shape in shapes[:2]]
    masks.append(np.zeros(shapes[2], np.bool_))
    maps = [(rng.integers(0, levels, mask.shape) + levels // 2 * mask).astype(np.float32) for mask in masks]
    assert au_pro(maps, masks, fpr_limit=limit) == pytest.approx(_naive(maps, masks, limit), abs=1e-12)


def _one(mask: np.ndarray, values: np.ndarray, limit: float = 0.3) -> float | None:
    return au_pro([values.astype(np.float32)], [mask], fpr_limit=limit)


def test_a_perfect_map_a_reversed_map_and_a_flat_map() -> None:
    mask = np.zeros((20, 20), np.bool_)
    mask[3:6, 3:9] = True
    assert _one(mask, mask) == pytest.approx(1.0, abs=1e-15)
    assert _one(mask, ~mask) == 0.0  # every good pixel is marked before any defect
    assert _one(mask, np.ones((20, 20))) == pytest.approx(0.3 / 2, abs=1e-12)  # the diagonal up to 0.3


def test_small_regions_count_as_much_as_large_ones() -> None:
    mask = np.zeros((20, 20), np.bool_)
    mask[0, 0] = True
    mask[5:15, 5:15] = True
    only_small = np.where(mask, 0.0, 1.0)
    only_small[0, 0] = 2.0
    # The small one is found at once, the large one only after every good pixel.
    assert _one(mask, only_small) == pytest.approx(0.5, abs=1e-12)


def test_corner_to_corner_is_one_region() -> None:
    mask = np.zeros((10, 10), np.bool_)
    mask[2, 2] = mask[3, 3] = mask[4, 4] = True
    mask[8, 8] = True
    values = np.zeros((10, 10))
    values[8, 8] = values[2, 2] = 2.0
    values[~mask] = 1.0
    # Two regions: one found whole, one by a third.
    assert _one(mask, values) == pytest.approx((1 + 1 / 3) / 2, abs=1e-12)


def test_without_defects_or_without_good_pixels_there_is_no_area() -> None:
    values = np.ones((5, 5), np.float32)
    assert au_pro([values], [np.zeros((5, 5), np.bool_)]) is None
    assert au_pro([values], [np.ones((5, 5), np.bool_)]) is None
    assert au_pro([], []) is None


def test_bad_input_is_refused() -> None:
    values, mask = np.ones((5, 5), np.float32), np.eye(5, dtype=np.bool_)
    with pytest.raises(UsageError, match="fpr_limit 0"):
        au_pro([values], [mask], fpr_limit=0)
    with pytest.raises(InputError, match="holds NaN"):
        au_pro([values * np.nan], [mask])
    with pytest.raises(InputError, match="1 anomaly maps, 2 masks"):
        au_pro([values], [mask, mask])
