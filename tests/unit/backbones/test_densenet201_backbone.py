from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from edgead.backbones import _base
from edgead.backbones._weights import load_weights
from edgead.errors import WeightsError

TAPS = ["denseblock1", "denseblock2"]


def network(seed: int = 0) -> _base.Backbone:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = _base.build("densenet201", TAPS)
        for module in made.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                assert module.running_mean is not None
                assert module.running_var is not None
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 2)
                torch.nn.init.uniform_(module.weight, 0.5, 1.0)
                torch.nn.init.normal_(module.bias, 0, 0.1)
        return made


def test_it_ends_at_its_deepest_tap() -> None:
    """Counts of the paper's layers: stem, 6 layers of growth 32, a transition, 12 layers."""
    state = network().state_dict()

    def layers(inputs: int, count: int) -> int:
        widths = range(inputs, inputs + 32 * count, 32)
        return sum(2 * n + n * 128 + 2 * 128 + 128 * 32 * 9 for n in widths)

    expected = 3 * 64 * 49 + 128 + layers(64, 6) + 2 * 256 + 256 * 128 + layers(128, 12)
    assert expected == 1_297_536
    assert sum(value.numel() for value in network().parameters()) == expected
    assert {
        "features.conv0.weight",
        "features.norm0.running_var",
        "features.denseblock1.denselayer6.norm2.bias",
        "features.transition1.conv.weight",
        "features.denseblock2.denselayer12.conv2.weight",
    } <= set(state)
    assert not any("denseblock3" in key or "transition2" in key for key in state)


def _functional(state: dict[str, torch.Tensor], x: torch.Tensor) -> list[torch.Tensor]:
    """The paper's network written down again, from the weights' names alone."""

    def norm(key: str, x: torch.Tensor) -> torch.Tensor:
        mean, var, gamma, beta = (
            state[f"features.{key}.{part}"].view(1, -1, 1, 1)
            for part in ("running_mean", "running_var", "weight", "bias")
        )
        return ((x - mean) / (var + 1e-5).sqrt() * gamma + beta).clamp_min(0)

    x = F.conv2d(x, state["features.conv0.weight"], stride=2, padding=3)
    x = F.max_pool2d(norm("norm0", x), 3, 2, 1)
    found = []
    for block, layers in ((1, 6), (2, 12)):
        parts = [x]
        for layer in range(1, layers + 1):
            at = f"denseblock{block}.denselayer{layer}"
            inner = F.conv2d(norm(f"{at}.norm1", torch.cat(parts, 1)), state[f"features.{at}.conv1.weight"])
            weight = state[f"features.{at}.conv2.weight"]
            parts.append(F.conv2d(norm(f"{at}.norm2", inner), weight, padding=1))
        found.append(torch.cat(parts, 1))
        if block == 1:
            x = F.conv2d(norm("transition1.norm", found[0]), state["features.transition1.conv.weight"])
            x = (x[..., ::2, ::2] + x[..., 1::2, ::2] + x[..., ::2, 1::2] + x[..., 1::2, 1::2]) / 4
    return found


def test_the_forward_is_the_paper_s() -> None:
    made = network().double()
    image = torch.randn(2, 3, 64, 48, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found, expected = made(image), _functional(made.state_dict(), image)
    assert [tuple(tap.shape) for tap in found] == [(2, 256, 16, 12), (2, 512, 8, 6)]
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


def _old_file(state: dict[str, torch.Tensor], path: Path, transition3: tuple[int, int]) -> Path:
    """As torchvision's file has it: old names, no counters, deeper layers and the classifier."""
    old = {}
    for key, value in state.items():
        if not key.endswith("num_batches_tracked"):
            for part in ("norm1", "norm2", "conv1", "conv2"):
                key = key.replace(f".{part}.", f".{part[:-1]}.{part[-1]}.")
            old[key] = value
    old["features.transition3.conv.weight"] = torch.zeros(*transition3, 1, 1)
    old["features.denseblock3.denselayer1.norm.1.weight"] = torch.ones(256)
    old["features.norm5.weight"] = torch.ones(1920)
    old["classifier.weight"] = torch.zeros(1000, 1920)
    torch.save(old, path)
    return path


def test_torchvision_s_old_names_and_the_new_ones_are_the_same_weights(tmp_path: Path) -> None:
    state = network(1).state_dict()
    old = _old_file(state, tmp_path / "old.pth", (896, 1792))
    assert "features.denseblock1.denselayer1.norm.1.weight" in torch.load(old, weights_only=True)
    torch.save(state, tmp_path / "new.pth")
    for file in (old, tmp_path / "new.pth"):
        made = network(2)
        load_weights(made, "densenet201", file)
        found = made.state_dict()
        assert all(
            torch.equal(found[key], value)
            for key, value in state.items()
            if not key.endswith("num_batches_tracked")
        )


@pytest.mark.parametrize("channels", [(512, 1024), (640, 1280)], ids=["DenseNet-121", "DenseNet-169"])
def test_a_sibling_s_file_is_refused(tmp_path: Path, channels: tuple[int, int]) -> None:
    file = _old_file(network(1).state_dict(), tmp_path / "sibling.pth", channels)
    with pytest.raises(WeightsError, match=r"does not fit the backbone densenet201: .*transition3"):
        load_weights(network(2), "densenet201", file)


def test_a_deeper_block_is_refused(tmp_path: Path) -> None:
    state = network(1).state_dict()
    state["features.denseblock2.denselayer13.norm1.weight"] = torch.ones(512)
    torch.save(state, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match=r"layers that this network has not, .*denselayer13"):
        load_weights(network(2), "densenet201", tmp_path / "other.pth")
