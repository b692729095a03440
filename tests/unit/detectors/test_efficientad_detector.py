from __future__ import annotations

import json
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from edgead.detectors._efficientad_networks import (
    Autoencoder,
    decoder_sizes,
    description_network,
    initialise_deep,
)
from edgead.detectors._presets import PRESETS
from edgead.detectors.efficientad import EfficientAd, EfficientAdConfig
from edgead.errors import ModelError, UsageError
from edgead.imaging.postprocess import Postprocess
from edgead.types import Geometry

TINY = EfficientAdConfig(size="edge", geometry=Geometry(height=64, width=96))
QUANTILES = torch.tensor([[0.3, 0.8], [1.1, 1.35]], dtype=torch.float64)


def geometry(height: int, width: int | None = None) -> Geometry:
    return Geometry(height=height, width=width or height)


def copied(target: nn.Module, source: nn.Module) -> None:
    """Weights in order, whatever their names."""
    target.load_state_dict(dict(zip(target.state_dict(), source.state_dict().values(), strict=True)))


@pytest.mark.parametrize(("size", "padding"), [("small", False), ("small", True), ("medium", False)])
def test_the_maps_are_the_specification_s(
    nelson: Callable[..., SimpleNamespace], size: str, padding: bool
) -> None:
    """Spec §3 with networks that were built from its tables."""
    theirs = nelson(size, padding=padding)
    detector = EfficientAd.from_config(
        {"size": size, "padding": padding, "geometry": {"height": 256, "width": 256}}
    ).eval()
    if padding:  # nelson's decoder knows no other grid
        theirs.autoencoder[35] = nn.Upsample(size=64, mode="bilinear")
    copied(detector.teacher, theirs.teacher)
    copied(detector.student, theirs.student)
    copied(detector.ae, theirs.autoencoder)
    random = torch.Generator().manual_seed(1)
    mean = torch.randn(384, 1, 1, generator=random) * 0.01
    std = torch.rand(384, 1, 1, generator=random) * 0.05 + 0.01
    detector.teacher_mean.copy_(mean)
    detector.teacher_std.copy_(std)
    image = torch.randint(0, 256, (1, 256, 256, 3), dtype=torch.uint8, generator=random)
    with torch.inference_mode():
        found = detector(image).anomaly_map
        x = image.permute(0, 3, 1, 2) / 255
        x = (x - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) / torch.tensor(
            [0.229, 0.224, 0.225]
        ).view(3, 1, 1)
        t, s, a = (theirs.teacher(x) - mean) / std, theirs.student(x), theirs.autoencoder(x)
        d_st = ((t - s[:, :384]) ** 2).mean(1)
        d_ae = ((a - s[:, 384:]) ** 2).mean(1)
    assert found.shape == (1, 2, 64, 64) if padding else (1, 2, 56, 56)
    torch.testing.assert_close(found, torch.stack([d_st, d_ae], 1), rtol=1e-4, atol=1e-6)


def _macs(network: nn.Module, size: int) -> int:
    total = 0

    def count(module: nn.Conv2d, _: object, output: torch.Tensor) -> None:
        nonlocal total
        total += output[0].numel() * module.weight[0].numel()

    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(count)  # type: ignore[arg-type]
    network(torch.empty(1, 3, size, size))
    return total


def _all_macs(size: str) -> tuple[int, int, int]:
    with torch.device("meta"):
        detector = EfficientAd.from_config({"size": size, "geometry": {"height": 256, "width": 256}}).eval()
        return _macs(detector.teacher, 256), _macs(detector.student, 256), _macs(detector.ae, 256)


def test_the_paper_s_sizes_cost_what_the_specification_says() -> None:
    """Spec §1, in GMAC; S by hand: 253²·3·4²·128 + 123²·128·4²·256 + 59²·256·3²·256 + 56²·256·4²·384."""
    small, medium = _all_macs("small"), _all_macs("medium")
    assert small[0] == 253**2 * 48 * 128 + 123**2 * 2048 * 256 + 59**2 * 2304 * 256 + 56**2 * 4096 * 384
    assert [round(value / 1e9, 2) for value in small] == [15.31, 20.24, 2.39]
    assert [round(value / 1e9, 2) for value in medium] == [52.03, 63.28, 2.39]


def test_the_edge_size_costs_at_most_an_eighth() -> None:
    assert 8 * sum(_all_macs("edge")) <= sum(_all_macs("small"))


def test_the_edge_size_sees_the_same_pixels() -> None:
    """Cell (0, 0) depends on the first 33 × 33 pixels, as the small one's does, and the grids are equal."""
    for size in ("small", "edge"):
        network = description_network(size, 8).double()  # type: ignore[arg-type]
        if size == "edge":
            initialise_deep(network, torch.Generator().manual_seed(0))
        image = torch.randn(1, 3, 96, 96, dtype=torch.float64, requires_grad=True)
        output = network(image)
        assert output.shape == (1, 8, 16, 16)
        output[..., 0, 0].sum().backward()
        assert image.grad is not None
        rows, cols = image.grad[0].abs().sum(0).nonzero(as_tuple=True)
        assert (int(rows.min()), int(cols.min())) == (0, 0)
        assert (int(rows.max()), int(cols.max())) == (32, 32)


def test_the_deep_start_keeps_the_images_apart() -> None:
    """Deviation between images over the mean size of the output: torch's own start gives far less."""
    images = torch.randn(8, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    network = description_network("edge", 384)

    def apart() -> float:
        with torch.no_grad():
            output = network(images)
        return float(output.std(0).mean() / output.abs().mean())

    torch.manual_seed(0)
    before = apart()
    initialise_deep(network, torch.Generator().manual_seed(0))
    assert apart() > max(0.5, 5 * before)


@pytest.mark.parametrize("padding", [False, True])
@pytest.mark.parametrize("size", ["small", "edge"])
@pytest.mark.parametrize("sides", [(64, 96), (128, 64), (160, 288)])
def test_any_multiple_of_32_gives_the_grid(sides: tuple[int, int], size: str, padding: bool) -> None:
    with torch.device("meta"):
        detector = EfficientAd.from_config(
            {"size": size, "padding": padding, "geometry": {"height": sides[0], "width": sides[1]}}
        )
        output = detector(torch.empty(1, *sides, 3, dtype=torch.uint8))
    less = 0 if padding else 8
    assert output.anomaly_map.shape == (1, 2, sides[0] // 4 - less, sides[1] // 4 - less)
    assert detector.post_recipe.grid == detector.grid


def test_the_autoencoder_s_sizes_are_the_specification_s() -> None:
    assert [rows for rows, _ in decoder_sizes((256, 256), light=False)] == [3, 8, 15, 32, 63, 127]
    assert [cols for _, cols in decoder_sizes((256, 512), light=False)] == [7, 16, 31, 64, 127, 255]
    with torch.device("meta"):
        code = Autoencoder((256, 256), (56, 56)).encoder(torch.empty(1, 3, 256, 256))
    assert code.shape == (1, 64, 1, 1)


@pytest.mark.parametrize("order", ["quantile_then_upsample", "upsample_then_quantile"])
def test_the_recipe_is_the_source_s_order(order: str) -> None:
    """Spec §3: nelson normalises, combines, pads, enlarges; anomalib pads, enlarges, normalises, combines."""
    detector = EfficientAd.from_config(
        {"size": "edge", "map_order": order, "geometry": {"height": 64, "width": 96}}
    )
    detector.quantiles.copy_(QUANTILES)
    random = torch.Generator().manual_seed(0)
    maps = torch.rand(1, 2, 8, 16, generator=random, dtype=torch.float64) * 2

    def normalise(maps: torch.Tensor) -> torch.Tensor:
        a, b = QUANTILES[:, 0].view(1, 2, 1, 1), QUANTILES[:, 1].view(1, 2, 1, 1)
        return (0.1 * (maps - a) / (b - a)).mul(0.5).sum(1, keepdim=True)

    def enlarge(maps: torch.Tensor) -> torch.Tensor:
        return F.interpolate(F.pad(maps, (4, 4, 4, 4)), size=(64, 96), mode="bilinear", align_corners=False)

    expected = enlarge(normalise(maps)) if order == "quantile_then_upsample" else normalise(enlarge(maps))
    score, _, found = Postprocess(detector.post_recipe).scores(maps[0].numpy().astype(np.float32))
    np.testing.assert_allclose(found, expected[0, 0].numpy(), atol=1e-6)
    assert score == pytest.approx(float(expected.max()), abs=1e-6)


def test_as_built_the_maps_are_averaged() -> None:
    """anomalib without quantiles: 0.5·D_st + 0.5·D_ae."""
    recipe = EfficientAd(TINY).post_recipe
    assert (recipe.alpha, recipe.gamma) == ((0.5, 0.5), 0.0)


@pytest.mark.parametrize("upper", [0.3, 0.2, float("nan"), float("inf")])
def test_quantiles_that_do_not_rise_are_refused(upper: float) -> None:
    detector = EfficientAd(TINY)
    detector.quantiles.copy_(QUANTILES)
    detector.quantiles[0, 1] = upper
    with pytest.raises(ModelError, match=r"quantiles of the student-teacher map are 0\.3 and"):
        _ = detector.post_recipe


def test_images_of_a_batch_do_not_touch_each_other() -> None:
    detector = EfficientAd(TINY).eval()
    images = torch.randint(0, 256, (3, 64, 96, 3), dtype=torch.uint8)
    with torch.no_grad():
        together = detector(images).anomaly_map
        alone = torch.cat([detector(image[None]).anomaly_map for image in images])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-7)


def test_the_teacher_stays_frozen_in_training() -> None:
    detector = EfficientAd(TINY).train()
    assert detector.ae.decoder.dropout.training
    assert not any(module.training for module in detector.teacher.modules())
    trained = {name.split(".")[0] for name, value in detector.named_parameters() if value.requires_grad}
    assert trained == {"student", "ae"}


def test_the_config_survives_json() -> None:
    config = EfficientAdConfig(
        size="medium",
        geometry=Geometry(height=64, width=96, roi=(1, 2, 30, 40)),
        padding=True,
        map_padding=0,
        map_order="upsample_then_quantile",
    )
    with torch.device("meta"):
        values = json.loads(json.dumps(EfficientAd(config).config_dict()))
        assert EfficientAd.from_config(values).config == config


@pytest.mark.parametrize(
    "change",
    [
        {"size": "huge"},
        {"map_order": "either"},
        {"map_padding": -1},
        {"colour": "red"},
        {"geometry": {"height": 100, "width": 96}},
        {"geometry": {"height": 32, "width": 64}},
    ],
    ids=str,
)
def test_a_config_that_does_not_fit_is_a_usage_error(change: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        EfficientAd.from_config({**PRESETS["efficientad_edge"]["config"], **change})
