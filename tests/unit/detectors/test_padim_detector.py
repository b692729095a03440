"""The network and its closed-form training against NumPy and SciPy, one position at a time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy.spatial.distance import mahalanobis

from edgead.detectors.padim import Padim
from edgead.errors import DatasetError, InputError, UsageError
from edgead.progress import Silent
from edgead.training import padim
from edgead.training._state import ResumeState

CONFIG: dict[str, Any] = {
    "backbone": "efficientnet_lite0",
    "taps": ["stage2", "stage3", "stage5"],
    "dim": 20,
    "geometry": {"height": 32, "width": 48},
}


def pixels(count: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, 32, 48, 3)).astype(np.uint8)


def fitted(images: npt.NDArray[np.uint8], folder: Path, seed: int = 0, **recipe: float) -> Padim:
    torch.manual_seed(0)
    detector = Padim.from_config(CONFIG)
    state = ResumeState(folder / "m.partial", {})
    record = padim.fit(detector, images, images[:2], recipe=recipe, seed=seed, state=state, progress=Silent())
    assert record == {"images": len(images)}
    return detector


def features(detector: Padim, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """(N, 8, 12, dim): cell (y, x) of a tap of stride s is that of pixel (4y, 4x)."""
    with torch.no_grad():
        taps = detector.backbone(detector.backbone.normalise(torch.from_numpy(images)))
    rows = []
    for tap, stride in zip(taps, (4, 8, 16), strict=True):
        y, x = (np.arange(n) * 4 // stride for n in (8, 12))
        rows.append(tap.double().numpy()[:, :, y][:, :, :, x])
    return np.concatenate(rows, 1).transpose(0, 2, 3, 1)[..., detector.index.numpy()]


def test_map_is_scipy_s_mahalanobis_distance_from_numpy_s_covariance(tmp_path: Path) -> None:
    images = pixels(17)
    detector = fitted(images, tmp_path)
    seen, other = features(detector, images), pixels(1, seed=1)
    with torch.no_grad():
        found = detector(torch.from_numpy(other)).anomaly_map
    assert found.shape == (1, 1, 8, 12)
    x = features(detector, other)[0]
    for row, col in np.ndindex(8, 12):
        inverse = np.linalg.inv(np.cov(seen[:, row, col], rowvar=False) + 0.01 * np.eye(20))
        expected = mahalanobis(x[row, col], seen[:, row, col].mean(0), inverse)
        assert found[0, 0, row, col] == pytest.approx(expected, rel=1e-4)


def test_identical_images_leave_the_ridge_alone(tmp_path: Path) -> None:
    """Σ = 0.01·I exactly: the distance is ten times Euclid's."""
    detector = fitted(np.repeat(pixels(1), 9, 0), tmp_path)
    torch.testing.assert_close(
        detector.inv_covariance, 100 * torch.eye(20).expand(96, 20, 20), rtol=1e-6, atol=1e-5
    )
    other = pixels(1, seed=1)
    with torch.no_grad():
        found = detector(torch.from_numpy(other)).anomaly_map[0, 0].numpy()
    distance = features(detector, other)[0] - features(detector, pixels(1))[0]
    np.testing.assert_allclose(found, 10 * np.linalg.norm(distance, axis=2), rtol=1e-4)


def test_one_far_image_moves_the_moments_as_arithmetic_says(tmp_path: Path) -> None:
    """The first image, which sums are taken from, is the odd one: nothing is lost to cancellation."""
    images = pixels(12)
    images[0] = 255
    detector = fitted(images, tmp_path)
    seen = features(detector, images)
    np.testing.assert_allclose(detector.mean.view(8, 12, 20).numpy(), seen.mean(0), rtol=1e-5, atol=1e-6)


def test_the_same_seed_gives_the_same_bits_and_another_other_features(tmp_path: Path) -> None:
    images = pixels(9)
    ours, again, other = (fitted(images, tmp_path, seed) for seed in (0, 0, 1))
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in ours.state_dict().items())
    assert not torch.equal(ours.index, other.index)
    assert torch.equal(ours.index, ours.index.unique())
    assert int(ours.index.max()) < 176


def test_what_cannot_be_trained_says_so(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"1 good images to train on.*padim needs at least 8"):
        fitted(pixels(1), tmp_path)
    detector = Padim.from_config(CONFIG)
    next(iter(detector.backbone.parameters())).fill_(torch.nan)
    with pytest.raises(InputError, match="not finite"):
        padim.fit(
            detector,
            pixels(8),
            pixels(1),
            recipe={},
            seed=0,
            state=ResumeState(tmp_path / "m.partial", {}),
            progress=Silent(),
        )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"dim": 0}, "dim 0: the taps have 1 to 176"),
        ({"dim": 177}, "dim 177"),
        ({"taps": ["stage3", "stage2"]}, "put the finest one first"),
        ({"taps": ["layer1"]}, "layer1"),
        ({"border": "nearest"}, "'nearest' is unknown"),
        ({"geometry": {"height": 4096, "width": 4096}}, r"take 1\.6 GiB.*keep fewer"),
        ({"colour": 1}, "does not fit"),
    ],
    ids=str,
)
def test_a_config_that_cannot_be_says_why(change: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Padim.from_config({**CONFIG, **change})


def test_the_recipe_and_the_config_survive() -> None:
    detector = Padim.from_config({**CONFIG, "border": "mirror"}).train()
    assert not detector.backbone.training
    recipe = detector.post_recipe
    assert (recipe.grid, recipe.output, recipe.border) == ((8, 12), (32, 48), "mirror")
    assert (recipe.blur_sigma, recipe.score_rule) == (4.0, "max")
    assert Padim.from_config(json.loads(json.dumps(detector.config_dict()))).config == detector.config
