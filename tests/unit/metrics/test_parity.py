import json
import math

import numpy as np
import pytest

from edgead.errors import InputError
from edgead.metrics.parity import compare_scores


def test_shifts_flips_and_range_by_hand() -> None:
    parity = compare_scores([1.0, 2.0, 5.0], [1.5, 2.0, 4.0], ["OK", "OK", "NG"], ["OK", "NG", "NG"])
    assert parity.to_json() == {
        "images": 3,
        "flips": 1,
        "failed": 0,
        "score_shift": {"p50": 0.5, "p99": 1.0, "max": 1.0},
        "score_range": 4.0,
    }
    assert parity.flipped == (1,)


def test_percentiles_are_observed_shifts() -> None:
    # Shifts 1..200: half of them are <= 100, 99 % are <= 198.
    reference = np.zeros(200)
    parity = compare_scores(reference, np.arange(1.0, 201.0), ["OK"] * 200, ["OK"] * 200)
    assert (parity.shift_p50, parity.shift_p99, parity.shift_max) == (100.0, 198.0, 200.0)
    assert parity.score_range == 0.0


def test_equal_scores_with_other_thresholds_can_flip() -> None:
    parity = compare_scores([1.0], [1.0], ["OK"], ["NG"])
    assert (parity.flipped, parity.shift_max) == ((0,), 0.0)


def test_an_image_without_a_finite_score_is_a_flip_and_not_a_shift() -> None:
    parity = compare_scores([1.0, 3.0, 9.0], [1.25, math.nan, math.inf], ["OK"] * 3, ["OK", "ERROR", "NG"])
    assert (parity.flipped, parity.failed) == ((1, 2), (1, 2))
    assert parity.shift_max == 0.25
    assert json.loads(json.dumps(parity.to_json())) == parity.to_json()


def test_nothing_to_compare() -> None:
    parity = compare_scores([], [], [], [])
    assert (parity.images, parity.shift_max, parity.score_range) == (0, None, None)


def test_float32_scores_are_compared_in_float64() -> None:
    reference = np.array([16777216.0], np.float32)
    parity = compare_scores(reference, [16777217.0], ["OK"], ["OK"])
    assert parity.shift_max == 1.0


def test_sides_of_different_length_are_refused() -> None:
    with pytest.raises(InputError, match="2 reference and 1 target scores, 2 and 2 decisions"):
        compare_scores([1.0, 2.0], [1.0], ["OK", "OK"], ["OK", "OK"])
