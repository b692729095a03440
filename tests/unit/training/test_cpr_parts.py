"""Pairs, losses, clusters, foreground and references of CPR's training, each against its own definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from edgead.detectors.cpr import Cpr
from edgead.errors import DatasetError
from edgead.progress import Silent
from edgead.training._cpr_features import FineFeatures, cluster
from edgead.training._cpr_foreground import clipped_range, fit_foreground, regions
from edgead.training._cpr_losses import PairBatch, pair_losses
from edgead.training._cpr_pairs import Pairs, draw_pairs, likelihood
from edgead.training._cpr_references import neighbours, spread_out

H, W = 40, 60


def pixels_of(points: np.ndarray) -> np.ndarray:
    """(x, y) in pixels of positions in −1 … 1."""
    return np.stack([((points[:, 0] + 1) * W - 1) / 2, ((points[:, 1] + 1) * H - 1) / 2], axis=1)


def drawn(mask: np.ndarray, likely: np.ndarray | None = None, *, count: int = 50, seed: int = 0) -> Pairs:
    return draw_pairs(mask, likely, count=count, reach=5.66, random=np.random.default_rng(seed))


def test_positive_pairs_are_normal_and_anomalous_ones_are_not() -> None:
    mask = np.zeros((H, W), bool)
    mask[10:14, 20:30] = True
    pairs = drawn(mask)
    for points, weight, expected in (
        (pairs.positive, pairs.positive_weight, False),
        (pairs.anomalous, pairs.anomalous_weight, True),
    ):
        places = pixels_of(points[weight > 0])
        np.testing.assert_allclose(places, places.round(), atol=1e-4)
        x, y = places.round().astype(int).T
        assert (mask[y, x] == expected).all()
        assert len({*zip(x, y, strict=True)}) == len(x)
    assert pairs.positive_weight.sum() == 50
    assert pairs.anomalous_weight.sum() == 40  # all that there are
    assert (pairs.anomalous[40:] == 0).all()


def test_remote_pairs_are_apart_and_end_where_the_image_is_normal() -> None:
    mask = np.zeros((H, W), bool)
    mask[:, :20] = True
    pairs = drawn(mask, count=200)
    known = pairs.remote_weight > 0
    query, reference = pixels_of(pairs.remote_query[known]), pixels_of(pairs.remote_reference[known])
    assert known.sum() == 200
    assert np.linalg.norm(query - reference, axis=1).min() > 5.66
    assert reference[:, 0].min() > 19.5
    assert query[:, 0].min() < 19.5  # the query's end may lie anywhere


def test_pairs_are_drawn_where_they_are_likely() -> None:
    likely = np.zeros((H, W), np.float32)
    likely[:, 30:] = 1
    places = pixels_of(drawn(np.zeros((H, W), bool), likely, count=300).positive)
    assert places[:, 0].min() > 29.5
    # Three times as likely: of 200 of 2,400 places, 150 within three deviations.
    likely = np.where(np.arange(W) < 30, 1, 3) * np.ones((H, 1))
    inside = np.mean(
        [
            (
                pixels_of(drawn(np.zeros((H, W), bool), likely, count=100, seed=seed).positive)[:, 0] > 29.5
            ).mean()
            for seed in range(20)
        ]
    )
    assert inside == pytest.approx(0.75, abs=0.03)


def test_an_image_that_is_all_anomalous_has_no_other_pairs() -> None:
    pairs = drawn(np.ones((H, W), bool))
    assert pairs.positive_weight.sum() == pairs.remote_weight.sum() == 0
    assert pairs.anomalous_weight.sum() == 50


def test_likelihood_is_the_sharpened_larger_foreground() -> None:
    """SciPy's Gaussian, the logistic curve of 10·x − 5; on the same grid nothing is resampled."""
    random = np.random.default_rng(0)
    one, two = random.random((2, 80, 80)).astype(np.float32)
    expected = np.maximum(
        *(
            1 / (1 + np.exp(5 - 10 * ndimage.gaussian_filter(shown.astype(float), 3.2)))
            for shown in (one, two)
        )
    )
    np.testing.assert_allclose(likelihood(one, two, (80, 80)), expected, atol=2e-3)


def batch(count: int, images: int, seed: int) -> PairBatch:
    random = torch.Generator().manual_seed(seed)
    points = [
        torch.rand(images, count, 2, generator=random, dtype=torch.float64) * 1.8 - 0.9 for _ in range(4)
    ]
    weights = [(torch.rand(images, count, generator=random) < 0.7).double() for _ in range(3)]
    positive, query, reference, anomalous = points
    return PairBatch(positive, weights[0], query, reference, weights[1], anomalous, weights[2])


def bilinear(values: torch.Tensor, point: torch.Tensor) -> torch.Tensor:
    """(C,) of (C, h, w) at (x, y) in −1 … 1 between the outer edges of the cells."""
    height, width = values.shape[1:]
    x, y = float((point[0] + 1) * width / 2 - 0.5), float((point[1] + 1) * height / 2 - 0.5)
    x, y = min(max(x, 0), width - 1), min(max(y, 0), height - 1)
    left, top = min(int(x), width - 2), min(int(y), height - 2)
    fx, fy = x - left, y - top
    upper = values[:, top, left] * (1 - fx) + values[:, top, left + 1] * fx
    lower = values[:, top + 1, left] * (1 - fx) + values[:, top + 1, left + 1] * fx
    return upper * (1 - fy) + lower * fy


def test_losses_are_the_specification_s() -> None:
    """Spec §7 pair by pair: hinge on the cosine times the weight, cubed, over the pairs of weight > 0."""
    random = torch.Generator().manual_seed(1)
    query, reference = torch.randn(2, 3, 5, 8, 10, generator=random, dtype=torch.float64).unbind()
    in_query, in_reference = torch.randn(2, 3, 7, 8, 10, generator=random, dtype=torch.float64).unbind()
    pairs = batch(12, 3, 2)
    found = pair_losses((query, reference), (in_query, in_reference), pairs, margins=(0.8, -0.2))

    def cosine(image: int, a: torch.Tensor, b: torch.Tensor) -> float:
        one, two = bilinear(query[image], a), bilinear(reference[image], b)
        return float(one @ two / one.norm() / two.norm())

    positive, negative = [], []
    for image in range(3):
        for place, weight in zip(pairs.positive[image], pairs.positive_weight[image], strict=True):
            if weight > 0:
                positive.append(max(0.8 - cosine(image, place, place), 0) ** 3)
        apart = [
            float((bilinear(in_query[image], a) - bilinear(in_reference[image], b)).square().sum()) * float(w)
            for a, b, w in zip(
                pairs.remote_query[image],
                pairs.remote_reference[image],
                pairs.remote_weight[image],
                strict=True,
            )
        ]
        count = float(pairs.remote_weight[image].sum())
        for a, b, distance in zip(
            pairs.remote_query[image], pairs.remote_reference[image], apart, strict=True
        ):
            if distance > 0:
                weight = distance / sum(apart) * count
                negative.append((max(cosine(image, a, b) + 0.2, 0) * weight) ** 3)
        for place, weight in zip(pairs.anomalous[image], pairs.anomalous_weight[image], strict=True):
            if weight > 0:
                negative.append(max(cosine(image, place, place) + 0.2, 0) ** 3)
    assert float(found[0]) == pytest.approx(np.mean(positive), rel=1e-6)
    assert float(found[1]) == pytest.approx(np.mean(negative), rel=1e-6)


def test_no_pairs_are_no_loss() -> None:
    zero = torch.zeros(2, 4, dtype=torch.float64)
    empty = PairBatch(*(value if value.ndim == 3 else zero for value in vars_of(batch(4, 2, 0))))
    features = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    losses = pair_losses((features, features), (features, features), empty, margins=(0.8, -0.2))
    assert [float(loss) for loss in losses] == [0, 0]


def vars_of(pairs: PairBatch) -> list[torch.Tensor]:
    return [getattr(pairs, name) for name in PairBatch.__dataclass_fields__]


def test_k_means_finds_clouds_and_says_when_there_are_too_few() -> None:
    random = np.random.default_rng(0)
    middles = np.array([[0, 0, 9], [9, 0, 0], [0, 9, 0], [9, 9, 9]], np.float32)
    rows = np.concatenate([middle + random.normal(0, 0.1, (50, 3)) for middle in middles]).astype(np.float32)
    found = cluster(random.permutation(rows), 4, 0)
    order = np.lexsort(found.round().T)
    np.testing.assert_allclose(found[order], middles[np.lexsort(middles.T)], atol=0.1)
    assert np.array_equal(cluster(rows, 4, 0), cluster(rows, 4, 0))
    with pytest.raises(DatasetError, match="only 2 different surroundings, 4 are told apart"):
        cluster(np.repeat(rows[:2], 20, 0), 4, 0)


def test_frame_and_centre_are_the_specification_s() -> None:
    frame, middle = regions((80, 80))
    assert np.argwhere(~frame).min() == 3
    assert np.argwhere(~frame).max() == 76
    assert (np.argwhere(middle).min(), np.argwhere(middle).max()) == (24, 55)
    assert middle.sum() == 32**2


def test_the_clipped_range_leaves_out_one_per_cent_on_each_side() -> None:
    values = torch.from_numpy(np.random.default_rng(0).permutation(1000)).float()
    assert clipped_range(values) == (9, 990)


class Painted(FineFeatures):
    """Features that were made here: (N, C, h, w)."""

    def __init__(self, values: torch.Tensor) -> None:
        self.values, self.count, self.grid = values, len(values), (values.shape[2], values.shape[3])

    def __iter__(self):  # type: ignore[no-untyped-def]
        return iter(self.values)


def test_a_foreground_is_learned_from_where_objects_are() -> None:
    """A square of +1 in channel 0 on a ground of −1, off the middle in the last image; channel 1 is noise."""
    random = torch.Generator().manual_seed(0)
    values = torch.randn(6, 2, 40, 40, generator=random) * 0.1
    values[:, 0] -= 1
    shown = torch.zeros(6, 40, 40, dtype=torch.bool)
    shown[:5, 10:30, 10:30] = shown[5, 5:25, 18:38] = True
    values[:, 0][shown] += 2
    rows = values.movedim(1, 3).reshape(-1, 2).numpy()
    found = fit_foreground(Painted(values), rows, seed=0)
    assert found.weight is not None
    assert found.bias is not None
    frame, middle = regions((40, 40))
    expected = shown[:, middle].float().mean() - shown[:, frame].float().mean()
    assert found.separation == pytest.approx(float(expected), abs=1e-3)
    mapped = (torch.einsum("c,nchw->nhw", found.weight.float(), values) + found.bias.float()).clamp(0, 1)
    assert mapped[shown].min() > 0.5
    assert mapped[~shown].max() < 0.5
    assert (mapped[shown].mean(), mapped[~shown].mean()) == (
        pytest.approx(0.9, abs=0.1),
        pytest.approx(0.1, abs=0.1),
    )


def test_a_texture_has_no_separation_and_no_foreground_at_all_where_none_is_asked_for() -> None:
    values = torch.randn(4, 3, 40, 40, generator=torch.Generator().manual_seed(0))
    rows = values.movedim(1, 3).reshape(-1, 3).numpy()
    found = fit_foreground(Painted(values), rows, seed=0, least=0.1)
    assert abs(found.separation) < 0.1
    assert found.weight is None


def test_features_do_not_depend_on_whether_they_are_kept() -> None:
    network = Cpr.from_config(
        {
            "backbone": "efficientnet_lite0",
            "taps": ["stage2", "stage3"],
            "dim": 4,
            "geometry": {"height": 80, "width": 80},
        }
    ).eval()
    images = np.random.default_rng(0).integers(0, 256, (6, 80, 80, 3)).astype(np.uint8)
    kept = FineFeatures(network, images, progress=Silent())
    made = FineFeatures(network, images, progress=Silent(), budget=0)
    with torch.no_grad():
        expected = network.features(torch.from_numpy(images))[0]
    for features in (kept, kept, made, made):
        torch.testing.assert_close(torch.stack(list(features)), expected, rtol=1e-4, atol=1e-5)
    assert np.array_equal(kept.sample(3), made.sample(3))
    every = {row.tobytes() for row in torch.stack(list(kept)).movedim(1, 3).reshape(-1, 24).numpy()}
    assert {row.tobytes() for row in kept.sample(3)} <= every


def test_neighbours_are_the_most_similar_others() -> None:
    random = np.random.default_rng(0)
    histograms = torch.from_numpy(random.dirichlet(np.ones(4), (7, 9))).float()
    found = neighbours(histograms, 6, 3)
    for index, row in enumerate(found):
        p = histograms[index].double() + 1e-8
        sums = []
        for other in range(7):
            r = histograms[other].double() + 1e-8
            sums.append(float((p * (p / r).log()).sum(1).sort().values[:6].sum()))
        sums[index] = np.inf
        assert row.tolist() == np.argsort(sums)[:3].tolist()
    assert neighbours(histograms[:3], 6, 10).shape == (3, 2)


def test_a_coreset_is_spread_out() -> None:
    """Three groups, very unequal in size: three references take one of each, whatever the seed."""
    groups = np.array([0] * 20 + [1] * 3 + [2])
    histograms = torch.full((24, 2, 4), 0.05)
    histograms[torch.arange(24), :, torch.from_numpy(groups)] = 0.85
    histograms += torch.rand(24, 2, 4, generator=torch.Generator().manual_seed(0)) * 0.01
    for seed in range(5):
        chosen = spread_out(histograms, 3, seed)
        assert sorted(groups[chosen]) == [0, 1, 2]
        assert chosen == sorted(set(chosen))
    assert spread_out(histograms, 99, 0) == list(range(24))
    assert len(set(spread_out(torch.ones(5, 2, 4), 4, 0))) == 4  # all alike
