"""Drift: calibration images beside the scores that a MODEL keeps of its reserved images."""

import numpy as np
import pytest

from edgead.calibration.drift import SHARES, drift, score_quantiles


def test_quantiles_of_a_known_row() -> None:
    assert score_quantiles(np.arange(101.0)) == pytest.approx([100 * share for share in SHARES])
    assert score_quantiles([3.0]) == [3.0] * len(SHARES)


@pytest.mark.parametrize("shape", [np.random.default_rng(1).normal, np.random.default_rng(2).exponential])
def test_the_same_product_is_silent(shape: object) -> None:
    known = score_quantiles(shape(size=60))  # type: ignore[operator]
    assert [text for _ in range(300) if (text := drift(known, shape(size=20)))] == []  # type: ignore[operator]


def test_another_product_is_told_with_the_figures() -> None:
    known = score_quantiles(np.linspace(1.0, 2.0, 41))
    above = drift(known, [2.5, 3.0, 3.5, 4.0])
    assert "half of the 4 calibration images score above 3.25" in above
    assert "between 1.05 and 1.95" in above
    assert "score below 0.5," in drift(known, [0.5])
    assert drift(known, [0.0, 1.5, 9.0]) == "", "single odd images are the outlier warning's"
