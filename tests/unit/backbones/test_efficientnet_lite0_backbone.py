from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from edgead.backbones import _base
from edgead.backbones._weights import fetch, load_weights, read_tensors
from edgead.backbones.efficientnet_lite0 import SPEC

# The published Lite0 has 4,652,008 parameters; these are behind the last stage.
CLASSIFIER = 1280 * 320 + 2 * 1280 + 1000 * 1280 + 1000


@pytest.fixture(scope="module")
def network() -> _base.Backbone:
    network = _base.build("efficientnet_lite0", list(SPEC.taps))
    load_weights(network, "efficientnet_lite0")
    return network


def test_the_shipped_file_has_these_names_and_this_size(network: _base.Backbone) -> None:
    file = read_tensors(fetch(SPEC.weights))
    state = network.state_dict()
    assert set(file) - set(state) == {
        "_conv_head.weight",
        *(
            f"_bn1.{part}"
            for part in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
        ),
        "_fc.weight",
        "_fc.bias",
    }
    assert not set(state) - set(file)
    assert sum(value.numel() for value in network.parameters()) == 4_652_008 - CLASSIFIER
    assert all(torch.equal(state[key], file[key]) for key in state)


def _same_conv(x: torch.Tensor, weight: torch.Tensor, stride: int) -> torch.Tensor:
    """TensorFlow's SAME: the windows are centred on the image, the odd pixel of padding comes last."""
    groups = x.shape[1] // weight.shape[1]
    kernel = weight.shape[-1]
    out = -(-x.shape[-1] // stride)
    total = max((out - 1) * stride + kernel - x.shape[-1], 0)
    before = total // 2
    padded = F.pad(x, (before, total - before, before, total - before))
    return F.conv2d(padded, weight, stride=stride, groups=groups)


def _functional_lite0(state: dict[str, torch.Tensor], x: torch.Tensor) -> dict[str, torch.Tensor]:
    def norm(key: str, x: torch.Tensor) -> torch.Tensor:
        mean, var, gamma, beta = (
            state[f"{key}.{part}"].view(1, -1, 1, 1)
            for part in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / (var + 1e-3).sqrt() * gamma + beta

    x = norm("_bn0", _same_conv(x, state["_conv_stem.weight"], 2)).clamp(0, 6)
    # First block of each stage, and those among them that halve the grid.
    starts, halving = [0, 1, 3, 5, 8, 11, 15, 16], {1, 3, 5, 11}
    found = {}
    for block in range(16):
        at, shortcut = f"_blocks.{block}.", x
        if f"{at}_expand_conv.weight" in state:
            x = norm(f"{at}_bn0", _same_conv(x, state[f"{at}_expand_conv.weight"], 1)).clamp(0, 6)
        stride = 2 if block in halving else 1
        x = norm(f"{at}_bn1", _same_conv(x, state[f"{at}_depthwise_conv.weight"], stride)).clamp(0, 6)
        x = norm(f"{at}_bn2", _same_conv(x, state[f"{at}_project_conv.weight"], 1))
        x = x + shortcut if block not in starts else x
        if block + 1 in starts:
            found[f"stage{starts.index(block + 1)}"] = x
    return found


@pytest.mark.parametrize("size", [64, 70])
def test_the_forward_is_the_published_network_s(network: _base.Backbone, size: int) -> None:
    image = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0)).double()
    doubled = _base.build("efficientnet_lite0", list(SPEC.taps)).double()
    doubled.load_state_dict(network.state_dict())
    with torch.no_grad():
        found = doubled(image)
        expected = _functional_lite0(doubled.state_dict(), image)
    assert list(expected) == list(SPEC.taps)
    for ours, theirs in zip(found, expected.values(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def test_pixels_are_scaled_as_google_s_lite_models_want_them(network: _base.Backbone) -> None:
    image = torch.tensor([0, 127, 255], dtype=torch.uint8).view(1, 1, 1, 3)
    assert network.normalise(image).flatten().tolist() == pytest.approx([-127 / 128, 0, 1], abs=1e-6)


@pytest.mark.realdata
def test_batch_norm_sees_what_it_was_trained_on(network: _base.Backbone, bottle: Path) -> None:
    """With another padding, scaling or order of colours the statistics of real photos drift away."""
    from edgead.imaging.frame import read_image
    from edgead.imaging.preprocess import Preprocess
    from edgead.types import Geometry

    files = sorted((bottle / "test").glob("*/00[0-1].png"))
    preprocess = Preprocess(Geometry(height=224, width=224))
    pixels = torch.stack([torch.from_numpy(preprocess(read_image(file))) for file in files])

    def drift(image: torch.Tensor) -> float:
        seen: list[float] = []

        def look(module: torch.nn.BatchNorm2d, inputs: tuple[torch.Tensor], _: torch.Tensor) -> None:
            assert module.running_mean is not None
            assert module.running_var is not None
            mean = inputs[0].mean((0, 2, 3))
            seen.append(
                ((mean - module.running_mean) / (module.running_var + module.eps).sqrt()).abs().mean().item()
            )

        norms = [module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
        hooks = [module.register_forward_hook(look) for module in norms]
        with torch.no_grad():
            network(image)
        for hook in hooks:
            hook.remove()
        return sum(seen) / len(seen)

    right = drift(network.normalise(pixels))
    assert right < 0.6
    assert right < drift(network.normalise(pixels) * 2)
    assert right < drift(pixels.permute(0, 3, 1, 2) / 255.0)
