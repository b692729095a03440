"""The networks against torch's functions on their state dict, and the training."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import scipy.ndimage
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgead.detectors.reverse_distillation import ReverseDistillation
from edgead.errors import DatasetError, InputError, UsageError
from edgead.imaging.postprocess import Postprocess
from edgead.progress import Silent, Task
from edgead.training import reverse_distillation
from edgead.training._state import ResumeState

RESNET = ["layer1", "layer2", "layer3"]
CONFIG: dict[str, Any] = {
    "backbone": "efficientnet_lite0",
    "taps": ["stage2", "stage3", "stage5"],
    "geometry": {"height": 32, "width": 64},
}
State = Mapping[str, Tensor]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def detector(**changes: Any) -> ReverseDistillation:
    torch.manual_seed(0)
    network = ReverseDistillation.from_config(CONFIG | changes)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 2)
    return network.eval()


def norm(s: State, name: str, x: Tensor) -> Tensor:
    mean, var, weight, bias = (
        s[f"{name}.{key}"] for key in ("running_mean", "running_var", "weight", "bias")
    )
    return F.batch_norm(x, mean, var, weight, bias)  # type: ignore[arg-type]


def conv(s: State, name: str, x: Tensor, stride: int = 1) -> Tensor:
    """A 2 × 2 kernel can only be a transposed one here."""
    weight = s[name + ".weight"]
    if weight.shape[2] == 2:
        return F.conv_transpose2d(x, weight, stride=2)
    return F.conv2d(x, weight, stride=stride, padding=weight.shape[2] // 2)


def block(s: State, name: str, x: Tensor, stride: int = 1) -> Tensor:
    """Residual, of two or three convolutions; the stride is on the 3 × 3 one that has it."""
    last = 3 if f"{name}.conv3.weight" in s else 2
    strided = 2 if last == 3 else 1
    out = x
    for number in range(1, last + 1):
        out = conv(s, f"{name}.conv{number}", out, stride if number == strided else 1)
        out = norm(s, f"{name}.bn{number}", out)
        out = out.relu() if number < last else out
    for shortcut in ("downsample", "upsample"):
        if f"{name}.{shortcut}.0.weight" in s:
            x = norm(s, f"{name}.{shortcut}.1", conv(s, f"{name}.{shortcut}.0", x, stride))
    return (out + x).relu()


def blocks(s: State, name: str, x: Tensor, stride: int = 1) -> Tensor:
    count = 1 + max(int(key[len(name) + 1 :].split(".")[0]) for key in s if key.startswith(name + "."))
    for number in range(count):
        x = block(s, f"{name}.{number}", x, stride if number == 0 else 1)
    return x


def plain(s: State, taps: tuple[Tensor, ...]) -> list[Tensor]:
    """RD4AD's embedding and decoder: the rebuilt maps, the finest first."""
    fine = norm(s, "bottleneck.bn1", conv(s, "bottleneck.conv1", taps[0], 2)).relu()
    fine = norm(s, "bottleneck.bn2", conv(s, "bottleneck.conv2", fine, 2)).relu()
    middle = norm(s, "bottleneck.bn3", conv(s, "bottleneck.conv3", taps[1], 2)).relu()
    x = blocks(s, "bottleneck.bn_layer", torch.cat([fine, middle, taps[2]], 1), 2)
    found = []
    for number in (1, 2, 3):
        x = blocks(s, f"decoder.layer{number}", x)
        found.insert(0, x)
    return found


@pytest.mark.parametrize(
    ("backbone", "taps", "depths"),
    [
        ("efficientnet_lite0", CONFIG["taps"], (2, 2, 2, 2)),
        ("resnet18", RESNET, (2, 2, 2, 2)),
        ("wide_resnet50_2", RESNET, (3, 3, 4, 6)),
    ],
)
def test_the_networks_are_the_authors(backbone: str, taps: list[str], depths: tuple[int, ...]) -> None:
    network = detector(backbone=backbone, taps=taps).double()
    s = network.state_dict()
    for name, depth in zip(
        ("bottleneck.bn_layer", "decoder.layer1", "decoder.layer2", "decoder.layer3"), depths, strict=True
    ):
        assert len({key.split(".")[2] for key in s if key.startswith(name)}) == depth
    image = torch.randint(0, 256, (1, 32, 64, 3), dtype=torch.uint8)
    with torch.no_grad():
        taught, rebuilt = network.features(network.encoder.normalise(image))
        for found, expected, tap in zip(rebuilt, plain(s, taught), taught, strict=True):
            assert found.shape == tap.shape
            torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


def test_the_paper_s_decoder_has_the_authors_size() -> None:
    """Wide ResNet-50-2 mirrored: 1024 channels of the embedding's 2048, then 512, then 256."""
    with torch.device("meta"):
        network = ReverseDistillation.from_config({**CONFIG, "backbone": "wide_resnet50_2", "taps": RESNET})
    s = network.state_dict()
    assert s["bottleneck.bn_layer.0.downsample.0.weight"].shape == (2048, 3072, 1, 1)
    assert s["bottleneck.bn_layer.0.conv2.weight"].shape == (1024, 1024, 3, 3)
    assert s["decoder.layer1.0.conv2.weight"].shape == (512, 512, 2, 2)
    assert s["decoder.layer1.0.upsample.0.weight"].shape == (2048, 1024, 2, 2)
    assert s["decoder.layer3.5.conv3.weight"].shape == (256, 128, 1, 1)


@pytest.mark.parametrize("border", ["reflect", "mirror"])
def test_the_map_is_the_sum_of_one_minus_cosine_blurred(border: str) -> None:
    network = detector(border=border)
    image = torch.randint(0, 256, (1, 32, 64, 3), dtype=torch.uint8)
    expected = np.zeros((32, 64))
    with torch.no_grad():
        for t, d in zip(*network.features(network.encoder.normalise(image)), strict=True):
            a, b = t[0].double().numpy(), d[0].double().numpy()
            cosine = (a * b).sum(0) / np.linalg.norm(a, axis=0) / np.linalg.norm(b, axis=0)
            y, x = (
                np.linspace(0, size - 1, pixels) for size, pixels in zip(a.shape[1:], (32, 64), strict=True)
            )
            expected += scipy.ndimage.map_coordinates(1 - cosine, np.meshgrid(y, x, indexing="ij"), order=1)
        raw = network(image).anomaly_map[0].numpy()
    np.testing.assert_allclose(raw[0], expected, rtol=1e-4, atol=1e-5)
    score, _, found = Postprocess(network.post_recipe).scores(raw)
    blurred = scipy.ndimage.gaussian_filter(expected, 4, mode=border)
    np.testing.assert_allclose(found, blurred, rtol=1e-4, atol=1e-5)
    assert score == found.max()


def stripes(count: int, seed: int) -> npt.NDArray[np.uint8]:
    grating = 128 + 60 * np.sin(np.arange(64) * np.pi / 4)[None, None, :, None]
    noise = np.random.default_rng(seed).normal(0, 3, (count, 32, 64, 3))
    return np.clip(grating + noise, 0, 255).astype(np.uint8)


def fit(
    folder: Path, network: ReverseDistillation, *, progress: Any = None, **changes: Any
) -> dict[str, Any]:
    return reverse_distillation.fit(
        network,
        changes.pop("images", stripes(8, 0)),
        stripes(3, 1),
        recipe={"steps": 5, "batch": 2, "save_every": 2, **changes},
        seed=0,
        state=ResumeState(folder / "m.partial", {}),
        progress=progress if progress is not None else Silent(),
    )


def test_it_learns_what_is_normal(tmp_path: Path) -> None:
    network = detector()
    teacher = {key: value.clone() for key, value in network.encoder.state_dict().items()}
    record = fit(tmp_path, network, steps=40, batch=4, save_every=20)
    losses = [
        sum(value for key, value in entry.items() if "difference" in key) for entry in record["history"]
    ]
    assert losses[-1] < 0.7 * losses[0]
    assert all(torch.equal(value, teacher[key]) for key, value in network.encoder.state_dict().items())


class _Interrupting(Silent):
    @contextmanager
    def task(self, name: str, total: int) -> Iterator[Task]:
        class Bar:
            left = 3

            def advance(self, steps: int = 1, **status: object) -> None:
                self.left -= steps
                if self.left <= 0:
                    raise KeyboardInterrupt

        yield Bar()


def test_an_interrupted_training_ends_where_it_would_have_ended(tmp_path: Path) -> None:
    whole, resumed = detector(), detector()
    (tmp_path / "whole").mkdir()
    expected = fit(tmp_path / "whole", whole)
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path, detector(), progress=_Interrupting())
    assert fit(tmp_path, resumed) == expected
    theirs = resumed.state_dict()
    assert all(torch.equal(value, theirs[key]) for key, value in whole.state_dict().items())


def test_what_cannot_be_trained_says_so(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"5 good images to train on.*at least 8"):
        fit(tmp_path, detector(), images=stripes(5, 0))
    network = detector()
    next(iter(network.encoder.parameters())).data.fill_(torch.nan)
    with pytest.raises(InputError, match="the loss 'difference stage2' became nan in step 1"):
        fit(tmp_path, network)


def test_the_teacher_stays_as_it_is_and_the_config_survives() -> None:
    network = detector().train()
    assert not any(module.training for module in network.encoder.modules())
    trained = {name.split(".")[0] for name, value in network.named_parameters() if value.requires_grad}
    assert trained == {"bottleneck", "decoder"}
    again = ReverseDistillation.from_config(json.loads(json.dumps(network.config_dict())))
    assert again.config == network.config


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"geometry": {"height": 48, "width": 64}}, "48x64.*multiples of 32"),
        ({"taps": ["stage2", "stage3"]}, "three, of strides 4, 8 and 16"),
        ({"taps": ["stage3", "stage2", "stage5"]}, "three, of strides 4, 8 and 16"),
        ({"border": "nearest"}, "'nearest' is unknown"),
        ({"embedding_width": 3}, "embedding_width 3: give 1 or 2"),
        ({"colour": 1}, "does not fit"),
    ],
    ids=str,
)
def test_a_config_that_cannot_be_says_why(change: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        detector(**change)
