from __future__ import annotations

import json

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.nn.functional as F

from edgead.detectors.simplenet import PatchEmbedding, SimpleNet, SimpleNetConfig
from edgead.errors import UsageError
from edgead.types import Geometry

Array = npt.NDArray[np.float64]

TINY = SimpleNetConfig(
    backbone="resnet18",
    taps=("layer1", "layer2"),
    tap_dim=50,
    embedding_dim=33,
    hidden_dim=9,
    geometry=Geometry(height=32, width=48),
)


def naive_pool(values: Array, count: int) -> Array:
    """Adaptive averaging: bin i of n covers floor(i·len/n) to ceil((i + 1)·len/n)."""
    length = len(values)
    return np.array(
        [values[i * length // count : -(-(i + 1) * length // count)].mean() for i in range(count)]
    )


def naive_bilinear(grid: Array, rows: int, cols: int) -> Array:
    """Half-pixel centres, edges repeated (align_corners=False)."""

    def weights(n: int, m: int) -> Array:
        matrix = np.zeros((m, n))
        for i in range(m):
            at = max((i + 0.5) * n / m - 0.5, 0)
            low = min(int(at), n - 1)
            matrix[i, low] += 1 - (at - low)
            matrix[i, min(low + 1, n - 1)] += at - low
        return matrix

    return weights(grid.shape[0], rows) @ grid @ weights(grid.shape[1], cols).T


def naive_embedding(taps: list[Array], size: int, tap_dim: int, dim: int) -> Array:
    """Spec §3, one position and one value at a time."""
    rows = max(tap.shape[1] for tap in taps)
    cols = max(tap.shape[2] for tap in taps)
    pooled = np.zeros((rows, cols, len(taps) * tap_dim))
    for index, tap in enumerate(taps):
        channels, height, width = tap.shape
        half = size // 2
        padded = np.pad(tap, ((0, 0), (half, half), (half, half)))
        shifted = [
            padded[c, ky : ky + height, kx : kx + width]
            for c in range(channels)
            for ky in range(size)
            for kx in range(size)
        ]
        maps = np.stack([naive_bilinear(part, rows, cols) for part in shifted])
        for y in range(rows):
            for x in range(cols):
                pooled[y, x, index * tap_dim : (index + 1) * tap_dim] = naive_pool(maps[:, y, x], tap_dim)
    return np.array([[naive_pool(pooled[y, x], dim) for x in range(cols)] for y in range(rows)])


@pytest.mark.parametrize(("size", "tap_dim", "dim"), [(3, 6, 6), (3, 11, 5), (1, 4, 3), (5, 50, 60)], ids=str)
def test_the_embedding_is_the_specification_s(size: int, tap_dim: int, dim: int) -> None:
    random = np.random.default_rng(0)
    taps = [random.normal(size=(3, 4, 6)), random.normal(size=(5, 2, 3))]
    embedding = PatchEmbedding(patch_size=size, tap_dim=tap_dim, embedding_dim=dim)
    found = embedding(tuple(torch.from_numpy(tap)[None] for tap in taps))
    np.testing.assert_allclose(found[0].numpy(), naive_embedding(taps, size, tap_dim, dim), atol=1e-12)


def test_the_paper_s_sizes_reduce_to_the_known_tap_means() -> None:
    """Spec §3: y2[j] = mean of layer2 taps 6j … 6j+5, y3[j] = mean of layer3 taps 12j … 12j+11, j < 768."""
    random = torch.Generator().manual_seed(0)
    layer2 = torch.randn(1, 512, 4, 4, dtype=torch.float64, generator=random)
    layer3 = torch.randn(1, 1024, 2, 2, dtype=torch.float64, generator=random)
    embedding = PatchEmbedding(patch_size=3, tap_dim=1536, embedding_dim=1536)
    found = embedding((layer2, layer3))
    taps2 = F.unfold(layer2, 3, padding=1).view(512 * 9, 4, 4)
    taps3 = F.unfold(layer3, 3, padding=1).view(1, 1024 * 9, 2, 2)
    taps3 = F.interpolate(taps3, scale_factor=2, mode="bilinear", align_corners=False)[0]
    expected = torch.cat([taps2.view(768, 6, 4, 4).mean(1), taps3.view(768, 12, 4, 4).mean(1)])
    torch.testing.assert_close(found[0].permute(2, 0, 1), expected, rtol=0, atol=1e-12)


def test_the_score_is_the_negative_of_the_discriminator_s() -> None:
    torch.manual_seed(0)
    detector = SimpleNet(TINY).eval()
    norm = detector.discriminator.norm
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)
    image = torch.randint(0, 256, (2, 32, 48, 3), dtype=torch.uint8)
    with torch.no_grad():
        found = detector(image).anomaly_map
        x = detector.embed(image).double().numpy()
    weights = {key: value.double().numpy() for key, value in detector.state_dict().items()}
    x = x @ weights["projection.weight"].T + weights["projection.bias"]
    x = x @ weights["discriminator.hidden.weight"].T + weights["discriminator.hidden.bias"]
    deviation = np.sqrt(weights["discriminator.norm.running_var"] + 1e-5)
    x = (x - weights["discriminator.norm.running_mean"]) / deviation
    x = x * weights["discriminator.norm.weight"] + weights["discriminator.norm.bias"]
    x = np.where(x > 0, x, 0.2 * x) @ weights["discriminator.tail.weight"].T
    assert found.shape == (2, 1, 8, 12)
    np.testing.assert_allclose(found[:, 0].numpy(), -x[..., 0], atol=1e-5)


def test_images_of_a_batch_do_not_touch_each_other() -> None:
    torch.manual_seed(0)
    detector = SimpleNet(TINY).eval()
    images = torch.randint(0, 256, (3, 32, 48, 3), dtype=torch.uint8)
    with torch.no_grad():
        together = detector(images).anomaly_map
        alone = torch.cat([detector(image[None]).anomaly_map for image in images])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_the_backbone_stays_frozen_in_training() -> None:
    detector = SimpleNet(TINY).train()
    assert detector.discriminator.training
    assert not any(module.training for module in detector.backbone.modules())
    trained = {name.split(".")[0] for name, value in detector.named_parameters() if value.requires_grad}
    assert trained == {"projection", "discriminator"}


def test_the_recipe_fits_the_map() -> None:
    detector = SimpleNet(TINY)
    recipe = detector.post_recipe
    assert (recipe.grid, recipe.output) == ((8, 12), (32, 48))
    assert (recipe.blur_sigma, recipe.blur_truncate, recipe.border) == (4, 4, "reflect")
    assert (recipe.upsample, recipe.score_rule) == ("bilinear", "max_grid")


def test_the_config_survives_json() -> None:
    config = SimpleNetConfig(
        backbone="efficientnet_lite0",
        taps=("stage3", "stage5"),
        tap_dim=8,
        embedding_dim=8,
        hidden_dim=4,
        projection=False,
        geometry=Geometry(height=40, width=40, mode="shorter_side", window=(32, 32), roi=(1, 2, 30, 40)),
    )
    detector = SimpleNet(config)
    assert SimpleNet.from_config(json.loads(json.dumps(detector.config_dict()))).config == config


@pytest.mark.parametrize(
    "change",
    [
        {"colour": "red"},
        {"tap_dim": 0},
        {"patch_size": 2},
        {"taps": ["layer9"]},
        {"backbone": "vgg"},
        {"geometry": {"height": 8}},
        {"geometry": {"height": 8, "width": 8, "window": [9, 9]}},
    ],
    ids=str,
)
def test_a_config_that_does_not_fit_is_a_usage_error(change: dict[str, object]) -> None:
    config = {**SimpleNet(TINY).config_dict(), **change}
    with pytest.raises(UsageError):
        SimpleNet.from_config(config)
