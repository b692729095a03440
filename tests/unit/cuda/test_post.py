"""post.cu on the CPU against libedgead: the same bits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from edgead._native.postprocessor import Postprocessor
from edgead.errors import UsageError
from edgead.imaging.map_operator import Banded, build
from edgead.runtimes.cuda._device import Device
from edgead.runtimes.cuda.post import CudaPost
from edgead.types import PostRecipe, Thresholds

MakeDevice = Callable[[bool], Device]
LIMITS = Thresholds(image=1.0, pixel=0.7, image_median=0.5, pixel_median=0.2)
RANGE = (0.2, 1.2)
BLURRED = PostRecipe(grid=(9, 7), output=(37, 141), blur_sigma=2.0, pad=(1, 0, 2, 1))
RECIPES = {
    "up-sampled and blurred": BLURRED,
    "one cell, one pixel": PostRecipe(grid=(1, 1), output=(1, 1)),
    "one cell, many pixels": PostRecipe(grid=(1, 1), output=(5, 130), score_rule="max"),
    "two channels, gamma after": replace(
        BLURRED, channels=2, alpha=(0.7, -1.3), gamma=0.1, gamma_stage="after", score_rule="max"
    ),
    "four channels, gamma before": replace(BLURRED, channels=4, alpha=(0.5, 1.5, -0.25, 2.0), gamma=-3.0),
    "nearest": PostRecipe(grid=(6, 11), output=(13, 129), upsample="nearest", score_rule="max"),
    "not resized": PostRecipe(grid=(40, 33), output=(40, 33), upsample="none", score_rule="max"),
    "top 1": replace(BLURRED, score_rule="top_k_sum", top_k=1),
    "top 50, mean": replace(BLURRED, score_rule="top_k_mean", top_k=50),
    "top all": replace(BLURRED, score_rule="top_k_sum", top_k=37 * 141),
    "graph": replace(BLURRED, score_rule="graph"),
}
SCORE = 3.25  # of the graph


def _operator(recipe: PostRecipe) -> tuple[Banded, Banded]:
    rows, columns = build(recipe)
    return Banded.from_dense(rows), Banded.from_dense(columns)


def _maps(recipe: PostRecipe) -> dict[str, npt.NDArray[np.float32]]:
    rng = np.random.default_rng(9)
    shape = (recipe.channels, *recipe.grid)
    spot = np.zeros(shape, np.float32)
    spot[..., -1, -1] = 1e30
    nan = rng.normal(size=shape).astype(np.float32)
    nan[0, 0, 0] = np.nan
    infinite = np.abs(rng.normal(size=shape)).astype(np.float32)
    infinite[0, -1, 0] = np.inf
    tiny = np.full(shape, 1e-42, np.float32)  # denormal
    return {
        "random": rng.normal(size=shape).astype(np.float32),
        "all alike": np.full(shape, 0.7, np.float32),  # ties
        "negative": -np.abs(rng.normal(size=shape)).astype(np.float32) * 1e20,
        "few values": rng.integers(0, 3, shape).astype(np.float32),
        "one hot": spot,
        "denormal": tiny,
        "nan": nan,
        "infinite": infinite,
    }


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("name", RECIPES)
def test_the_same_bits_as_libedgead(name: str, backwards: bool, make_device: MakeDevice) -> None:
    recipe, device = RECIPES[name], make_device(backwards)
    operator = _operator(recipe)
    maps = _maps(recipe)
    post = CudaPost(device, recipe, operator, images=len(maps))
    post.set_limits(LIMITS, RANGE)
    batch = np.stack(list(maps.values()))
    raw = device.allocate(batch.nbytes, "raw maps")
    device.copy_in(raw, batch)
    scores = np.full(len(maps), SCORE, np.float32)
    score = device.allocate(scores.nbytes, "scores")
    device.copy_in(score, scores)
    kernel = Postprocessor(
        recipe.grid,
        *operator,
        alpha=recipe.alpha,
        gamma=recipe.gamma,
        gamma_stage=recipe.gamma_stage,
        score_rule=recipe.score_rule,
        top_k=recipe.top_k,
    )
    for _ in range(2):  # what a run leaves behind does not disturb the next
        post.enqueue(raw, score)
        for image, (kind, values) in enumerate(maps.items()):
            found = post.found(image)
            anomaly_map = np.empty(recipe.output, np.float32)
            mask, heatmap = np.empty(recipe.output, np.uint8), np.empty(recipe.output, np.uint8)
            expected = kernel.run(
                values,
                anomaly_map=anomaly_map,
                mask=mask,
                heatmap=heatmap,
                pixel_threshold=LIMITS.pixel,
                heatmap_range=RANGE,
                graph_score=SCORE,
            )
            np.testing.assert_array_equal(found.anomaly_map, anomaly_map, err_msg=kind)
            np.testing.assert_array_equal(found.mask, mask, err_msg=kind)
            np.testing.assert_array_equal(found.heatmap, heatmap, err_msg=kind)
            np.testing.assert_array_equal(found.map_max, expected.map_max, err_msg=kind)
            # The sum of a top k is in double, in another order: it may round to a neighbouring float.
            np.testing.assert_allclose(found.score_raw, expected.score_raw, rtol=2e-7, err_msg=kind)
            if not recipe.score_rule.startswith("top_k"):
                np.testing.assert_array_equal(found.score_raw, expected.score_raw, err_msg=kind)


def test_half_maps_are_read_exactly(make_device: MakeDevice) -> None:
    device, recipe = make_device(False), RECIPES["two channels, gamma after"]
    halves = np.random.default_rng(4).normal(size=(1, 2, *recipe.grid)).astype(np.float16)
    halves[0, 0, 0, :3] = (6e-8, 65504.0, -0.0)  # the least, the largest, a signed 0
    found = []
    for dtype in ("float16", "float32"):
        post = CudaPost(device, recipe, _operator(recipe), raw_type=dtype)  # type: ignore[arg-type]
        post.set_limits(LIMITS, RANGE)
        values = halves.astype(dtype)
        raw = device.allocate(values.nbytes, "raw map")
        device.copy_in(raw, values)
        post.enqueue(raw)
        found.append(post.found())
    np.testing.assert_array_equal(found[0].anomaly_map, found[1].anomaly_map)
    assert found[0].score_raw == found[1].score_raw


def test_only_what_is_asked_for_is_made(make_device: MakeDevice) -> None:
    device, recipe = make_device(False), RECIPES["top 50, mean"]
    values = np.random.default_rng(1).normal(size=(1, 1, *recipe.grid)).astype(np.float32)
    raw = device.allocate(values.nbytes, "raw map")
    device.copy_in(raw, values)
    everything = CudaPost(device, recipe, _operator(recipe))
    score = CudaPost(device, recipe, _operator(recipe), anomaly_map=False, mask=False, heatmap=False)
    for post in (everything, score):
        post.set_limits(LIMITS, RANGE)
        post.enqueue(raw)
    found = score.found()
    assert found.anomaly_map is found.mask is found.heatmap is None
    assert found.score_raw == everything.found().score_raw


def test_bad_recipes_are_refused(make_device: MakeDevice) -> None:
    device, operator = make_device(False), _operator(BLURRED)
    with pytest.raises(UsageError, match="operator of 37×9"):
        CudaPost(device, replace(BLURRED, grid=(8, 7)), operator)
    with pytest.raises(UsageError, match="top_k is 0"):
        CudaPost(device, replace(BLURRED, score_rule="top_k_sum"), operator)
    with pytest.raises(UsageError, match="2 alphas for 1 channels"):
        CudaPost(device, replace(BLURRED, alpha=(1.0, 2.0)), operator)
    with pytest.raises(UsageError, match="no image_score"):
        CudaPost(device, RECIPES["graph"], operator).enqueue(1)
