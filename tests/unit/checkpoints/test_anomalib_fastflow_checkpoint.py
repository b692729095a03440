"""Fastflow as anomalib's state dicts have it: eight tensors per step, one-hot matrices for the order."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from edgead.backbones import _base as backbones
from edgead.checkpoints.anomalib import read
from edgead.detectors.fastflow import FastFlow
from edgead.errors import UsageError, WeightsError
from edgead.imaging.postprocess import Postprocess
from edgead.progress import Silent

CONFIG: dict[str, Any] = {"geometry": {"height": 64, "width": 64}}
BACKBONE, FLOWS = "model.feature_extractor.", "model.fast_flow_blocks."
SCALES = ((64, 16), (128, 8), (256, 4))


def flow_state(steps: int = 8, only_3x3: bool = False) -> dict[str, Tensor]:
    torch.manual_seed(1)
    state: dict[str, Tensor] = {}
    for scale, (channels, side) in enumerate(SCALES):
        state[f"model.norms.{scale}.weight"] = 0.5 + torch.rand(channels, side, side)
        state[f"model.norms.{scale}.bias"] = 0.2 * torch.randn(channels, side, side)
        half = channels // 2
        for step in range(steps):
            kernel = 1 if step % 2 and not only_3x3 else 3
            name = f"{FLOWS}{scale}.module_list.{step}."
            matrix = torch.eye(channels)[torch.randperm(channels)][..., None, None]
            state[name + "global_scale"] = 9 + torch.rand(1, channels, 1, 1)
            state[name + "global_offset"] = 0.2 * torch.randn(1, channels, 1, 1)
            state[name + "w_perm"] = matrix
            state[name + "w_perm_inv"] = matrix.transpose(0, 1).contiguous()
            for conv, outputs in ((1, half), (4, channels)):
                state[f"{name}subnet.{conv}.weight"] = torch.randn(outputs, half, kernel, kernel) / (
                    3 * half**0.5
                )
                state[f"{name}subnet.{conv}.bias"] = 0.1 * torch.randn(outputs)
    return state


@pytest.fixture
def state(timm_weights: Callable[..., dict[str, Tensor]]) -> dict[str, Tensor]:
    made = flow_state()
    assert sum(key.startswith(f"{FLOWS}0.") for key in made) == 64
    return timm_weights("resnet18", BACKBONE) | made


def opened(file: Path) -> Any:
    return read(file, CONFIG, weights=None, progress=Silent())


def plain_flow(s: dict[str, Tensor], scale: int, x: Tensor) -> Tensor:
    half = x.shape[1] // 2
    for step in range(8):
        name = f"{FLOWS}{scale}.module_list.{step}."
        pad = s[name + "subnet.1.weight"].shape[2] // 2
        a = F.conv2d(F.pad(x[:, :half], (pad,) * 4), s[name + "subnet.1.weight"], s[name + "subnet.1.bias"])
        a = F.conv2d(F.pad(a.relu(), (pad,) * 4), s[name + "subnet.4.weight"], s[name + "subnet.4.bias"])
        a = 0.1 * a
        changed = x[:, half:] * torch.exp(2.0 * torch.tanh(a[:, :half])) + a[:, half:]
        gain = 0.1 * F.softplus(s[name + "global_scale"], beta=0.5)
        y = torch.cat([x[:, :half], changed], 1) * gain + s[name + "global_offset"]
        x = F.conv2d(y, s[name + "w_perm"])
    return x


def test_map_and_score_are_anomalib_s(state: dict[str, Tensor], lightning_file: Callable[..., Path]) -> None:
    made = opened(lightning_file(state))
    assert made.preset == "fastflow_resnet18"
    backbone = backbones.build("resnet18", ["layer1", "layer2", "layer3"])
    backbone.load_state_dict(
        {k.removeprefix(BACKBONE): v for k, v in state.items() if k.startswith(BACKBONE)}
    )
    image = torch.randint(0, 256, (1, 64, 64, 3), dtype=torch.uint8)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    maps = []
    with torch.no_grad():
        for scale, tap in enumerate(backbone((image.permute(0, 3, 1, 2) / 255 - mean) / std)):
            weight, bias = (state[f"model.norms.{scale}.{key}"] for key in ("weight", "bias"))
            z = plain_flow(state, scale, F.layer_norm(tap, tap.shape[1:], weight, bias))
            small = -torch.exp(-0.5 * z.square().mean(1, keepdim=True))
            maps.append(F.interpolate(small, size=(64, 64), mode="bilinear", align_corners=False))
        expected = torch.stack(maps, -1).mean(-1)[0, 0]
        raw = made.detector(image).anomaly_map[0].numpy()
    assert float(expected.max() - expected.min()) > 1e-3
    score, _, found = Postprocess(made.detector.post_recipe).scores(raw)
    torch.testing.assert_close(torch.from_numpy(found), expected, rtol=1e-3, atol=1e-5)
    assert score == pytest.approx(float(expected.max()), rel=1e-3, abs=1e-5)


def without_pads(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """As anomalib 2.7 writes it: its convolutions pad themselves."""
    places = (("subnet.1.", "subnet.0."), ("subnet.4.", "subnet.2."))
    for old, new in places:
        state = {key.replace(old, new): value for key, value in state.items()}
    return state


def test_the_layout_of_2_7_gives_the_same_detector(
    state: dict[str, Tensor], lightning_file: Callable[..., Path]
) -> None:
    old = opened(lightning_file(state)).detector.state_dict()
    new = opened(lightning_file(without_pads(state))).detector.state_dict()
    assert old.keys() == new.keys()
    assert all(torch.equal(old[key], new[key]) for key in old)


def test_layouts_are_not_mixed(state: dict[str, Tensor], lightning_file: Callable[..., Path]) -> None:
    mixed = {key: value for key, value in state.items() if not key.startswith(f"{FLOWS}0.module_list.0.")}
    mixed |= without_pads({key: state[key] for key in state.keys() - mixed.keys()})
    with pytest.raises(WeightsError, match=r"flows\.0\.steps\.1\.subnet\.0\.bias is missing"):
        opened(lightning_file(mixed))


def test_steps_and_kernels_of_the_file_are_read(
    timm_weights: Callable[..., dict[str, Tensor]], lightning_file: Callable[..., Path]
) -> None:
    state = timm_weights("resnet18", BACKBONE) | flow_state(steps=3, only_3x3=True)
    detector = opened(lightning_file(state)).detector
    assert isinstance(detector, FastFlow)
    assert (detector.config.flow_steps, detector.config.only_3x3) == (3, True)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("0.module_list.0.subnet.1.weight", None, "lacks its first convolution"),
        ("1.module_list.3.subnet.4.bias", None, "flows.1.steps.3.subnet.2.bias is missing"),
        ("1.module_list.3.global_offset", torch.zeros(1), "flows.1.steps.3.global_offset is missing"),
        ("1.module_list.3.w_perm", None, "w_perm is missing"),
        ("1.module_list.3.w_perm", torch.full((128, 128, 1, 1), 0.1), "no permutation"),
        ("1.module_list.3.w_perm", torch.eye(128)[[0] * 128][..., None, None], "no permutation"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_damaged_file_says_so(
    state: dict[str, Tensor], lightning_file: Callable[..., Path], key: str, value: Tensor | None, words: str
) -> None:
    changed = {name: tensor for name, tensor in state.items() if name != FLOWS + key}
    if value is not None:
        changed[FLOWS + key] = value
    with pytest.raises(WeightsError, match=words):
        opened(lightning_file(changed))


def test_another_backbone_or_input_size_is_refused(
    state: dict[str, Tensor], lightning_file: Callable[..., Path]
) -> None:
    with pytest.raises(UsageError, match=r"trained on images of 64×64, not 96×96.*--input-size"):
        read(
            lightning_file(state),
            {"geometry": {"height": 96, "width": 96}},
            weights=None,
            progress=Silent(),
        )
    vit = {name: value for name, value in state.items() if not name.startswith(BACKBONE)}
    with pytest.raises(WeightsError, match=r"under model\.feature_extractor\. is no ResNet"):
        opened(lightning_file({**vit, BACKBONE + "patch_embed.proj.weight": torch.zeros(1)}))
