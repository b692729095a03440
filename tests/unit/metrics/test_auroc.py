import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu

from edgead.errors import InputError
from edgead.metrics.auroc import auroc, pixel_auroc


def _pairs(scores: np.ndarray, labels: np.ndarray) -> float:
    """Every pair, one by one."""
    wins = 0.0
    for anomalous in scores[labels == 1]:
        for good in scores[labels == 0]:
            wins += 1.0 if anomalous > good else 0.5 if anomalous == good else 0.0
    return wins / ((labels == 1).sum() * (labels == 0).sum())


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 1)), min_size=2, max_size=60))
def test_every_pair_counted_one_by_one_with_heavy_ties(samples: list[tuple[int, int]]) -> None:
    scores, labels = np.array(samples).T
    if len(set(labels)) == 2:
        assert auroc(scores, labels) == pytest.approx(_pairs(scores, labels), abs=1e-15)


@pytest.mark.parametrize("share", [0.05, 0.5, 0.95])
@pytest.mark.parametrize("levels", [3, 50, 10**9])
def test_scipys_mann_whitney(share: float, levels: int) -> None:
    rng = np.random.default_rng(levels)
    labels = rng.random(2000) < share
    scores = (rng.integers(0, levels, 2000) + levels // 10 * labels).astype(np.float32)
    u = mannwhitneyu(scores[labels], scores[~labels]).statistic
    assert auroc(scores, labels) == pytest.approx(u / (labels.sum() * (~labels).sum()), abs=1e-14)


def test_closed_forms() -> None:
    assert auroc([1, 2, 3, 4], [0, 0, 1, 1]) == 1.0
    assert auroc([1, 2, 3, 4], [1, 1, 0, 0]) == 0.0
    assert auroc([7, 7, 7], [0, 1, 1]) == 0.5
    assert auroc([1, 2, 2, 3], [0, 0, 1, 1]) == 3.5 / 4
    assert auroc([-np.inf, 0, np.inf], [0, 1, 1]) == 1.0


def test_the_score_only_needs_an_order() -> None:
    rng = np.random.default_rng(0)
    scores, labels = rng.normal(size=300), rng.integers(0, 2, 300)
    assert auroc(np.exp(scores), labels) == auroc(scores, labels)
    assert auroc(-scores, labels) == pytest.approx(1 - auroc(scores, labels), abs=1e-15)  # type: ignore[operator]


@pytest.mark.parametrize("labels", [[0, 0], [1, 1]])
def test_one_class_has_no_area(labels: list[int]) -> None:
    assert auroc([1.0, 2.0], labels) is None
    assert auroc([], []) is None


def test_bad_scores_and_labels_are_refused() -> None:
    with pytest.raises(InputError, match="1 of 3 scores are NaN, the first at index 1"):
        auroc([0.0, np.nan, 1.0], [0, 1, 1])
    with pytest.raises(InputError, match="2 labels for 3 scores"):
        auroc([0.0, 0.5, 1.0], [0, 1])
    with pytest.raises(InputError, match=r"must be 0 \(good\) or 1 \(anomalous\), found \[0, 255\]"):
        auroc([0.0, 0.5], [0, 255])


def test_pixels_of_maps_of_different_sizes() -> None:
    rng = np.random.default_rng(1)
    maps = [rng.integers(0, 9, shape).astype(np.float32) for shape in ((8, 8), (5, 13), (1, 1))]
    masks = [rng.random(values.shape) < 0.2 for values in maps]
    scores, labels = np.concatenate([m.ravel() for m in maps]), np.concatenate([m.ravel() for m in masks])
    assert pixel_auroc(maps, masks) == pytest.approx(_pairs(scores, labels.astype(int)), abs=1e-15)


def test_no_anomalous_pixel_and_no_map_at_all() -> None:
    assert pixel_auroc([np.ones((4, 4), np.float32)], [np.zeros((4, 4), np.bool_)]) is None
    assert pixel_auroc([], []) is None


def test_maps_that_do_not_fit_their_masks_are_refused() -> None:
    ones, mask = np.ones((4, 4), np.float32), np.zeros((4, 4), np.bool_)
    with pytest.raises(InputError, match="2 anomaly maps, 1 masks"):
        pixel_auroc([ones, ones], [mask])
    with pytest.raises(InputError, match=r"anomaly map 1 is float32 \(4, 4\), its mask bool \(5, 4\)"):
        pixel_auroc([ones, ones], [mask, np.zeros((5, 4), np.bool_)])
    with pytest.raises(InputError, match="anomaly map 0 holds NaN"):
        pixel_auroc([np.full((4, 4), np.nan, np.float32)], [mask])
    with pytest.raises(InputError, match="must be bool"):
        pixel_auroc([ones], [mask.astype(np.uint8)])  # type: ignore[list-item]


def test_all_pixels_of_a_test_set_take_seconds_at_most() -> None:
    rng = np.random.default_rng(0)
    maps = rng.normal(size=(83, 256, 256)).astype(np.float32)
    masks = rng.random((83, 256, 256)) < 0.05
    start = time.process_time()
    area = pixel_auroc(maps, masks)
    assert time.process_time() - start < 5
    assert area == pytest.approx(0.5, abs=0.005)
