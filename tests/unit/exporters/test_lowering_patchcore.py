"""PatchCore against NumPy's reading of it in float64, and its lowered graph against itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from edgead.detectors.patchcore import PatchCore, neighbours_of
from edgead.errors import InternalError, UsageError
from edgead.exporters.lowering import patchcore as lowering

LITE0 = ("efficientnet_lite0", ["stage3", "stage5"])
CASES: dict[str, tuple[tuple[str, list[str]], dict[str, Any]]] = {
    "side by side": (LITE0, {}),
    "weighted score": (LITE0, {"neighbours": 9}),
    "fewer vectors than neighbours": (LITE0, {"neighbours": 40}),
    "the authors' averages": (LITE0, {"tap_dim": 48, "embedding_dim": 48}),
    "averages that overlap": (LITE0, {"tap_dim": 33, "embedding_dim": 50, "neighbours": 3}),
    "single cells": (LITE0, {"patch_size": 1}),
    "residual blocks": (("resnet18", ["layer2", "layer3"]), {"neighbours": 9}),
}
VECTORS = 30


def make(case: str) -> PatchCore:
    (backbone, taps), more = CASES[case]
    torch.manual_seed(4)
    config = {"backbone": backbone, "taps": taps, "geometry": {"height": 48, "width": 64}, **more}
    detector = PatchCore.from_config(config).double()
    detector.set_bank(detector.embed(image(1)).flatten(0, 2)[:VECTORS])
    return detector


def image(seed: int, batch: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (batch, 48, 64, 3), generator=generator, dtype=torch.uint8)


def numpy_scores(detector: PatchCore, pixels: torch.Tensor) -> tuple[npt.NDArray[np.float64], list[float]]:
    """Maps (N, h, w) and scores, by all distances of all patches."""
    maps, scores = [], []
    bank, count = detector.bank.numpy(), detector.config.neighbours
    for patches in detector.embed(pixels).numpy():
        queries = patches.reshape(-1, patches.shape[-1])
        distances = np.sqrt(np.square(queries[:, None] - bank[None]).sum(2))
        nearest = distances.min(1)
        worst = int(nearest.argmax())
        score = nearest[worst]
        if count:
            among = np.square(bank - bank[distances[worst].argmin()]).sum(1).argsort(kind="stable")[:count]
            away = np.exp(distances[worst][among] - distances[worst][among].max())
            score *= 1 - away[0] / away.sum()
        maps.append(nearest.reshape(patches.shape[:2]))
        scores.append(float(score))
    return np.stack(maps), scores


@pytest.mark.parametrize("case", CASES)
def test_detector_and_lowered_graph_are_what_numpy_reads(case: str) -> None:
    detector = make(case)
    pixels = image(2, batch=2)
    with torch.inference_mode():
        maps, scores = numpy_scores(detector, pixels)
        for module in (detector, lowering.lower(detector)):
            found = module(pixels)
            np.testing.assert_allclose(found.anomaly_map[:, 0], maps, rtol=0, atol=1e-9 * np.ptp(maps))
            if detector.config.neighbours:
                np.testing.assert_allclose(found.image_score, scores, rtol=1e-9)
            else:
                assert found.image_score is None


def test_averages_side_by_side_are_pooled_before_they_are_enlarged() -> None:
    """As in anomalib: AvgPool2d(3, 1, 1) on each tap, then bilinear, then side by side."""
    detector = make("side by side")
    taps = detector.backbone(detector.backbone.normalise(image(2)))
    expected = []
    for tap in taps:
        padded = np.pad(tap[0].numpy(), ((0, 0), (1, 1), (1, 1)))
        height, width = tap.shape[2:]
        pooled = sum(padded[:, y : y + height, x : x + width] for y in range(3) for x in range(3)) / 9
        if (height, width) != detector.grid:  # half-pixel centres, twice as large, the border repeated
            edge = np.pad(pooled, ((0, 0), (1, 1), (1, 1)), mode="edge")
            for axis in (1, 2):
                low = np.take(edge, range(edge.shape[axis] - 1), axis)
                high = np.take(edge, range(1, edge.shape[axis]), axis)
                both = np.stack([0.75 * low + 0.25 * high, 0.25 * low + 0.75 * high], axis + 1)
                edge = both.reshape(*low.shape[:axis], -1, *low.shape[axis + 1 :])
            pooled = edge[:, 1:-1, 1:-1]
        expected.append(pooled)
    found = detector.embed(image(2))[0].permute(2, 0, 1).numpy()
    np.testing.assert_allclose(found, np.concatenate(expected), rtol=0, atol=1e-9)


def test_far_from_the_origin_float32_keeps_its_digits() -> None:
    """The difference of squares would have none left."""
    detector = make("side by side").float()
    shift = 1e4
    bank = detector.bank.clone()
    detector.set_bank(bank + shift)
    queries = bank[:7] + 0.01 + shift
    lowered = lowering.lower(detector)
    lowered.query = torch.nn.Identity()
    lowered.grid = (1, 7)
    found = lowered(queries[None]).anomaly_map.flatten()
    exact = np.square(queries.double().numpy()[:, None] - detector.bank.double().numpy()).sum(2).min(1) ** 0.5
    np.testing.assert_allclose(found, exact, rtol=0.02)


def test_each_vector_is_its_own_first_neighbour_copies_or_not() -> None:
    bank = torch.tensor([[0.0], [0.0], [5.0], [6.0]])
    assert neighbours_of(bank, 2, chunk=3).tolist() == [[0, 1], [1, 0], [2, 3], [3, 2]]
    assert neighbours_of(bank[:1], 9).tolist() == [[0]]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"patch_size": 2}, "patch_size is odd"),
        ({"neighbours": 65}, "neighbours must be 0 to 64"),
        ({"tap_dim": 8}, "both or neither"),
        ({"score_rule": "top_k_sum"}, "is unknown"),
        ({"border": "wrap"}, "border 'wrap' is unknown"),
        ({"leaves": 3}, "does not fit"),
    ],
)
def test_a_config_that_means_nothing_is_refused(values: dict[str, Any], message: str) -> None:
    base = {"backbone": LITE0[0], "taps": LITE0[1], "geometry": {"height": 32, "width": 32}}
    with pytest.raises(UsageError, match=message):
        PatchCore.from_config({**base, **values})


def test_without_a_bank_nothing_is_scored() -> None:
    base = {"backbone": LITE0[0], "taps": LITE0[1], "geometry": {"height": 32, "width": 32}}
    detector = PatchCore.from_config(base)
    with pytest.raises(InternalError, match="no bank yet"):
        detector(torch.zeros(1, 32, 32, 3, dtype=torch.uint8))
    with pytest.raises(InternalError, match="vectors of 152 values"):
        detector.set_bank(torch.zeros(3, 7))
