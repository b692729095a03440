from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from edgead.backbones import _base
from edgead.errors import UsageError

# (parameters, state dict entries) of torchvision's networks, less those of the classifier fc.
KNOWN = {
    "resnet18": (11_689_512 - 513_000, 122 - 2),
    "wide_resnet50_2": (68_883_240 - 2_049_000, 320 - 2),
}


@pytest.mark.parametrize("name", KNOWN)
def test_the_whole_network_has_the_known_size(name: str) -> None:
    with torch.device("meta"):
        network = _base.build(name, ["layer4"])
    state = network.state_dict()
    assert (sum(value.numel() for value in network.parameters()), len(state)) == KNOWN[name]
    assert {"conv1.weight", "layer1.0.bn2.running_var", "layer4.0.downsample.1.bias"} <= set(state)


@pytest.mark.parametrize("name", _base.names())
def test_taps_are_as_described_and_nothing_deeper_is_built(name: str) -> None:
    spec = _base.module(name).SPEC
    assert list(spec.taps) == sorted(spec.taps, key=lambda tap: spec.taps[tap].stride)
    with torch.device("meta"):
        for count in range(1, len(spec.taps) + 1):
            taps = list(spec.taps)[:count]
            network = _base.build(name, taps)
            found = network(torch.empty(1, 3, 72, 40))
            assert [tuple(tap.shape) for tap in found] == [
                (1, spec.taps[tap].channels, -(-72 // spec.taps[tap].stride), -(-40 // spec.taps[tap].stride))
                for tap in taps
            ]
            assert not network.training
            assert not any(value.requires_grad for value in network.parameters())
    sizes = []
    with torch.device("meta"):
        for tap in spec.taps:
            sizes.append(sum(value.numel() for value in _base.build(name, [tap]).parameters()))
    assert sizes == sorted(set(sizes))


def test_taps_come_in_the_order_that_was_asked_for() -> None:
    with torch.device("meta"):
        deep, shallow = _base.build("resnet18", ["layer3", "layer1"])(torch.empty(1, 3, 32, 32))
    assert (deep.shape[1], shallow.shape[1]) == (256, 64)


@pytest.mark.parametrize("taps", [[], ["layer5"]])
def test_an_unknown_tap_is_a_usage_error(taps: list[str]) -> None:
    with pytest.raises(UsageError, match="layer1, layer2, layer3, layer4"):
        _base.build("resnet18", taps)


def test_an_unknown_backbone_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="resnet18"):
        _base.build("resnet19", ["layer1"])


def _functional_resnet(state: dict[str, torch.Tensor], x: torch.Tensor) -> list[torch.Tensor]:
    """The paper's network written down again, from the weights' names alone."""

    def norm(key: str, x: torch.Tensor) -> torch.Tensor:
        mean, var, gamma, beta = (
            state[f"{key}.{part}"].view(1, -1, 1, 1)
            for part in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / (var + 1e-5).sqrt() * gamma + beta

    def conv(key: str, x: torch.Tensor, stride: int) -> torch.Tensor:
        weight = state[f"{key}.weight"]
        return F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)

    x = F.max_pool2d(norm("bn1", conv("conv1", x, 2)).relu(), 3, 2, 1)
    stages = []
    for stage in range(1, 5):
        block = 0
        while f"layer{stage}.{block}.conv1.weight" in state:
            at = f"layer{stage}.{block}"
            stride = 2 if stage > 1 and block == 0 else 1
            bottleneck = f"{at}.conv3.weight" in state
            strides = (1, stride, 1) if bottleneck else (stride, 1)
            out = x
            for index, step in enumerate(strides, start=1):
                out = norm(f"{at}.bn{index}", conv(f"{at}.conv{index}", out, step))
                out = out.relu() if index < len(strides) else out
            if f"{at}.downsample.0.weight" in state:
                x = norm(f"{at}.downsample.1", conv(f"{at}.downsample.0", x, stride))
            x = (out + x).relu()
            block += 1
        if block:
            stages.append(x)
    return stages


@pytest.mark.parametrize(("name", "size"), [("resnet18", 64), ("wide_resnet50_2", 32)])
def test_the_forward_is_the_paper_s(name: str, size: int) -> None:
    torch.manual_seed(0)
    taps = ["layer1", "layer2", "layer3"]
    network = _base.build(name, taps).double()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
            torch.nn.init.uniform_(module.weight, 0.3, 0.6)
            torch.nn.init.normal_(module.bias, 0, 0.1)
    image = torch.randn(2, 3, size, size, dtype=torch.float64)
    with torch.no_grad():
        found, expected = network(image), _functional_resnet(network.state_dict(), image)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


def test_normalise_scales_pixels_as_imagenet_weights_want_them() -> None:
    network = _base.build("resnet18", ["layer1"])
    image = torch.tensor([0, 128, 255], dtype=torch.uint8).view(1, 1, 1, 3)
    red, green, blue = network.normalise(image).flatten().tolist()
    assert red == pytest.approx((0 - 0.485) / 0.229)
    assert green == pytest.approx((128 / 255 - 0.456) / 0.224)
    assert blue == pytest.approx((1 - 0.406) / 0.225)
