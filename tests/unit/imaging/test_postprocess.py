"""The fused post kernel against float64, SciPy, OpenCV and plain arithmetic, at every instruction set."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest
from scipy import ndimage

from edgead._native._library import ALL_CPU_FEATURES, CPU_AVX2, kernel_name
from edgead.errors import UsageError
from edgead.imaging.map_operator import Banded, build
from edgead.imaging.postprocess import Postprocess
from edgead.types import PostRecipe, Thresholds

# float32 sums of a few products stay within this share of the map's range.
TOLERANCE = 1e-6
LEVELS = sorted({kernel_name(mask): mask for mask in (0, CPU_AVX2, ALL_CPU_FEATURES)}.items())


@pytest.fixture(params=[mask for _, mask in LEVELS], ids=[name for name, _ in LEVELS])
def cpu_mask(request: pytest.FixtureRequest) -> int:
    return int(request.param)


def grid_of(*shape: int, seed: int = 0) -> np.ndarray:
    grid = np.random.default_rng(seed).gamma(2.0, 1.0, shape).astype(np.float32)
    grid[..., 2:4, 1:3] += 9
    return grid


def limits(pixel: float, median: float = 0.0) -> Thresholds:
    return Thresholds(image=1.0, pixel=pixel, image_median=0.0, pixel_median=median)


def reference(recipe: PostRecipe, raw: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(grid, map) in float64 with OpenCV's resize and SciPy's filter."""
    grid = np.tensordot(np.asarray(recipe.alpha), raw.astype(np.float64), 1)
    grid += recipe.gamma if recipe.gamma_stage == "before" else 0.0
    resized = cv2.resize(grid, recipe.output[::-1], interpolation=cv2.INTER_LINEAR)
    blurred = (
        ndimage.gaussian_filter(resized, recipe.blur_sigma, mode=recipe.border)
        if recipe.blur_sigma
        else resized
    )
    return grid, blurred + (recipe.gamma if recipe.gamma_stage == "after" else 0.0)


@pytest.mark.parametrize(
    "recipe",
    [
        PostRecipe(grid=(36, 36), output=(288, 288), blur_sigma=4.0),
        PostRecipe(grid=(7, 11), output=(56, 89), blur_sigma=2.5, border="mirror", score_rule="max"),
        PostRecipe(
            grid=(64, 64), output=(256, 256), channels=2, alpha=(0.5, -2.0), gamma=3.0, blur_sigma=4.0
        ),
        PostRecipe(grid=(9, 5), output=(33, 17), gamma=-1.5, gamma_stage="after", score_rule="max"),
        PostRecipe(grid=(4, 4), output=(30, 40), blur_sigma=9.0, border="nearest", score_rule="max"),
    ],
    ids=str,
)
def test_map_and_score_are_those_of_the_float64_chain(recipe: PostRecipe, cpu_mask: int) -> None:
    raw = grid_of(recipe.channels, *recipe.grid)
    grid, expected = reference(recipe, raw)
    score, map_max, found = Postprocess(recipe, cpu_mask=cpu_mask).scores(raw)
    assert found.dtype == np.float32
    assert np.abs(found - expected).max() <= TOLERANCE * max(np.ptp(expected), np.abs(expected).max())
    assert map_max == found.max()
    assert score == pytest.approx(grid.max() if recipe.score_rule == "max_grid" else expected.max(), rel=1e-6)


def test_bar_of_the_issue_1e5_of_the_maps_range_at_1024(cpu_mask: int) -> None:
    recipe = PostRecipe(grid=(64, 64), output=(1024, 1024), blur_sigma=4.0)
    raw = grid_of(1, 64, 64)
    rows, cols = build(recipe)
    expected = rows @ raw[0].astype(np.float64) @ cols.T
    _, _, found = Postprocess(recipe, cpu_mask=cpu_mask).scores(raw)
    assert np.abs(found - expected).max() <= 1e-5 * np.ptp(expected)


def test_mask_heatmap_and_regions_by_arithmetic_and_opencv(cpu_mask: int) -> None:
    recipe = PostRecipe(grid=(20, 31), output=(160, 250), blur_sigma=4.0)
    raw = grid_of(1, 20, 31, seed=4)
    _, _, anomaly_map = Postprocess(recipe).scores(raw)
    thresholds = limits(float(np.quantile(anomaly_map, 0.9)), float(np.median(anomaly_map)))
    out = Postprocess(recipe, cpu_mask=cpu_mask)(raw, thresholds, max_regions=1000)
    np.testing.assert_array_equal(out.anomaly_map, anomaly_map)
    above = anomaly_map >= np.float32(thresholds.pixel)
    np.testing.assert_array_equal(out.mask, np.where(above, 255, 0))

    low, high = thresholds.display_range
    shade = np.clip((anomaly_map.astype(np.float64) - low) * 255 / (high - low), 0, 255)
    assert np.abs(out.heatmap - shade).max() <= 0.5 + 1e-3  # rounding, and float32 at the halves
    assert {0, 255} <= set(np.unique(out.heatmap))

    count, labels, stats, _ = cv2.connectedComponentsWithStats(out.mask, connectivity=8)
    expected = [
        (tuple(int(v) for v in stats[i, :4]), int(stats[i, 4]), float(anomaly_map[labels == i].max()))
        for i in range(1, count)
    ]
    expected.sort(key=lambda r: (-r[2], r[0][1], r[0][0]))
    assert len(expected) > 5
    assert [(r.box, r.area, r.peak) for r in out.regions] == expected
    assert out.regions_total == len(expected)


def test_too_many_regions_leave_the_highest_and_the_count(cpu_mask: int) -> None:
    recipe = PostRecipe(grid=(16, 16), output=(16, 16), upsample="none")
    raw = np.zeros((1, 16, 16), np.float32)
    peaks = np.arange(64, dtype=np.float32)
    raw[0, ::2, ::2] = 1 + np.random.default_rng(5).permutation(peaks).reshape(8, 8)
    process = Postprocess(recipe, cpu_mask=cpu_mask)
    out = process(raw, limits(0.5), max_regions=3)
    assert [r.peak for r in out.regions] == [64.0, 63.0, 62.0]
    assert out.regions_total == 64
    assert process(raw, limits(0.5), max_regions=0).regions == ()
    assert process(raw, limits(0.5), min_area=2).regions_total == 0
    assert process(raw, limits(0.5), min_area=2).mask.sum() == 64 * 255
    raw[0, ::2, ::2] = 2.0
    ties = process(raw, limits(0.5)).regions
    assert [r.box[:2] for r in ties] == [(x, y) for y in range(0, 16, 2) for x in range(0, 16, 2)]


@pytest.mark.parametrize("rule", ["top_k_sum", "top_k_mean"])
@pytest.mark.parametrize("k", [1, 7, 40, 41, 100, 40 * 50])
def test_top_k_is_that_of_a_full_sort(rule: str, k: int, cpu_mask: int) -> None:
    recipe = PostRecipe(grid=(10, 10), output=(40, 50), blur_sigma=1.0, score_rule=rule, top_k=k)  # type: ignore[arg-type]
    raw = grid_of(1, 10, 10) - 3
    score, _, anomaly_map = Postprocess(recipe, cpu_mask=cpu_mask).scores(raw)
    largest = np.sort(anomaly_map, axis=None)[::-1][:k].astype(np.float64)
    assert score == np.float32(largest.sum() if rule == "top_k_sum" else largest.mean())


@pytest.mark.parametrize("rule", ["max_grid", "max", "top_k_sum", "top_k_mean", "graph"])
def test_nan_anywhere_is_a_nan_score_and_safe_pictures(rule: str, cpu_mask: int) -> None:
    recipe = PostRecipe(grid=(8, 8), output=(64, 64), blur_sigma=2.0, score_rule=rule, top_k=5)  # type: ignore[arg-type]
    raw = grid_of(1, 8, 8)
    raw[0, 7, 7] = np.nan
    out = Postprocess(recipe, cpu_mask=cpu_mask)(raw, limits(5.0), graph_score=0.25)
    assert np.isnan(out.score_raw)
    assert np.isnan(out.map_max)
    broken = np.isnan(out.anomaly_map)
    assert broken[-1, -1]
    assert not broken[:20].any()
    assert not out.mask[broken].any()
    assert not out.heatmap[broken].any()
    assert out.regions
    assert all(np.isfinite(r.peak) for r in out.regions)


def test_infinities_reach_only_the_pixels_that_use_them(cpu_mask: int) -> None:
    recipe = PostRecipe(grid=(8, 8), output=(64, 64), upsample="nearest", score_rule="max")
    raw = np.zeros((1, 8, 8), np.float32)
    raw[0, 1, 1], raw[0, 5, 5] = np.inf, -np.inf
    out = Postprocess(recipe, cpu_mask=cpu_mask)(raw, limits(1.0))
    assert out.score_raw == np.inf
    assert (out.anomaly_map == np.repeat(np.repeat(raw[0], 8, 0), 8, 1)).all()
    assert [(r.box, r.area, r.peak) for r in out.regions] == [((8, 8, 8, 8), 64, np.inf)]
    assert (out.heatmap[out.anomaly_map == np.inf] == 255).all()
    assert (out.heatmap[out.anomaly_map == -np.inf] == 0).all()


@pytest.mark.parametrize("value", [0.0, -3.5, 1e-42, 1e30])
def test_a_constant_map_stays_constant(value: float, cpu_mask: int) -> None:
    recipe = PostRecipe(grid=(9, 9), output=(70, 70), blur_sigma=4.0, score_rule="top_k_mean", top_k=4900)
    raw = np.full((1, 9, 9), value, np.float32)
    score, map_max, anomaly_map = Postprocess(recipe, cpu_mask=cpu_mask).scores(raw)
    np.testing.assert_allclose(anomaly_map, raw[0, 0, 0], rtol=1e-6, atol=2e-44)
    assert score == pytest.approx(raw[0, 0, 0], rel=1e-6, abs=2e-44)
    assert map_max == anomaly_map.max()


def test_the_graphs_score_passes_unchanged() -> None:
    recipe = PostRecipe(grid=(3, 3), output=(3, 3), upsample="none", score_rule="graph")
    process = Postprocess(recipe)
    assert process.scores(np.ones((1, 3, 3), np.float32), graph_score=0.125)[0] == 0.125
    with pytest.raises(UsageError, match="no image_score"):
        process.scores(np.ones((1, 3, 3), np.float32))


def test_a_threshold_not_above_the_median_shows_a_step() -> None:
    recipe = PostRecipe(grid=(1, 3), output=(1, 3), upsample="none")
    raw = np.array([[[0.9, 1.0, 1.1]]], np.float32)
    for pixel, median in ((1.0, 1.0), (1.0, 2.0), (0.0, 0.0)):
        out = Postprocess(recipe)(raw + np.float32(pixel - 1), limits(pixel, median))
        assert out.heatmap[0, 0] == 0
        assert out.heatmap[0, 2] == 255
        assert out.mask.tolist() == [[0, 255, 255]]


def test_stored_operators_are_used_and_checked() -> None:
    recipe = PostRecipe(grid=(4, 4), output=(8, 8))
    doubled = tuple(Banded.from_dense(2 * matrix) for matrix in build(recipe))
    raw = np.ones((1, 4, 4), np.float32)
    assert Postprocess(recipe, (doubled[0], doubled[1])).scores(raw)[1] == 4.0
    with pytest.raises(UsageError, match=r"operator of 8×4"):
        Postprocess(recipe, (doubled[0], Banded.from_dense(np.eye(4))))
    with pytest.raises(UsageError, match="columns"):
        Postprocess(dataclasses.replace(recipe, grid=(5, 4)), (doubled[0], doubled[1]))


def test_wrong_arguments_name_the_value() -> None:
    recipe = PostRecipe(grid=(4, 4), output=(8, 8))
    process = Postprocess(recipe)
    for raw in (np.ones((4, 4), np.float32), np.ones((2, 4, 4), np.float32), np.ones((1, 4, 4))):
        with pytest.raises(UsageError, match="raw map of"):
            process.scores(raw)
    with pytest.raises(UsageError, match="2 alphas for 1 channels"):
        Postprocess(dataclasses.replace(recipe, alpha=(1.0, 1.0)))
    with pytest.raises(UsageError, match="alpha of channel 0"):
        Postprocess(dataclasses.replace(recipe, alpha=(float("nan"),)))
    with pytest.raises(UsageError, match="top_k is 65"):
        Postprocess(dataclasses.replace(recipe, score_rule="top_k_sum", top_k=65))
    with pytest.raises(UsageError, match="score rule 'median' is unknown"):
        Postprocess(dataclasses.replace(recipe, score_rule="median"))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="gamma stage 'between' is unknown"):
        Postprocess(dataclasses.replace(recipe, gamma_stage="between"))  # type: ignore[arg-type]
    for negative in ({"max_regions": -1}, {"min_area": -1}):
        with pytest.raises(UsageError, match="-1"):
            process(np.ones((1, 4, 4), np.float32), limits(0.5), **negative)
    with pytest.raises(UsageError, match="threshold is not a number"):
        process(np.ones((1, 4, 4), np.float32), limits(float("nan")))


def test_views_are_taken_as_they_are_seen() -> None:
    recipe = PostRecipe(grid=(5, 6), output=(5, 6), upsample="none")
    wide = np.random.default_rng(6).normal(size=(1, 10, 12)).astype(np.float32)
    np.testing.assert_array_equal(Postprocess(recipe).scores(wide[:, ::2, ::2])[2], wide[0, ::2, ::2])
