import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgead.errors import DatasetError, InputError
from edgead.metrics.cut import midway
from edgead.metrics.f1 import max_f1, operating_point


def test_an_operating_point_counted_by_hand() -> None:
    point = operating_point([1, 2, 3, 4, 5], [0, 1, 0, 1, 1], 3)
    assert (point.precision, point.recall, point.false_positive_rate) == (2 / 3, 2 / 3, 1 / 2)
    assert point.f1 == pytest.approx(2 / 3)


def test_an_operating_point_that_finds_nothing_or_has_one_class() -> None:
    nothing = operating_point([1, 2], [0, 1], 9)
    assert (nothing.precision, nothing.recall, nothing.f1) == (1.0, 0.0, 0.0)
    assert operating_point([1, 2], [0, 0], 2).recall is None
    assert operating_point([1, 2], [1, 1], 2).false_positive_rate is None


def test_the_threshold_lies_midway() -> None:
    best = max_f1([1.0, 2.0, 6.0, 7.0], [0, 0, 1, 1])
    assert (best.threshold, best.f1, best.precision, best.recall) == (4.0, 1.0, 1.0, 1.0)


def test_of_equal_f1_the_one_that_misses_fewest() -> None:
    # At >= 4: TP 1, FP 0, FN 1 -> 2/3. At >= 1: TP 2, FP 2, FN 0 -> 4/6.
    best = max_f1([1, 2, 3, 4], [1, 0, 0, 1])
    assert (best.threshold, best.recall) == (1.0, 1.0)


def test_all_scores_equal() -> None:
    best = max_f1([5.0, 5.0, 5.0], [0, 1, 1])
    assert (best.threshold, best.f1) == (5.0, 0.8)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 1)), min_size=1, max_size=40))
def test_no_other_threshold_is_better(samples: list[tuple[int, int]]) -> None:
    scores, labels = np.array(samples).T
    if labels.any():
        best = max_f1(scores, labels)
        others = [operating_point(scores, labels, t + offset) for t in range(-1, 8) for offset in (0, 0.5)]
        assert best.f1 == pytest.approx(max(point.f1 for point in others))


def test_no_defects_and_nan_are_refused() -> None:
    with pytest.raises(DatasetError, match="none of 2 labelled images is anomalous"):
        max_f1([1, 2], [0, 0])
    with pytest.raises(InputError, match="NaN"):
        max_f1([1, math.nan], [0, 1])


def test_midway_of_float32_neighbours_parts_them() -> None:
    low = np.float32(0.1)
    high = np.nextafter(low, np.float32(1))
    assert midway(float(low), float(high)) == float(high)


@settings(deadline=None)
@given(st.floats(-1e6, 1e6, width=32), st.floats(-1e6, 1e6, width=32))
def test_midway_is_above_the_lower_and_exact_in_float32(first: float, second: float) -> None:
    lower, upper = sorted((first, second))
    if lower < upper:
        middle = midway(lower, upper)
        assert lower < middle <= upper
        assert float(np.float32(middle)) == middle
