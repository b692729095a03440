"""Padim as anomalib's documentation and state dicts describe it: `model.idx`, `model.gaussian.*`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from edgead.backbones import _base as backbones
from edgead.checkpoints._base import Calibration
from edgead.checkpoints.anomalib import read
from edgead.detectors import model_file
from edgead.detectors.padim import Padim
from edgead.errors import UsageError, WeightsError
from edgead.imaging.postprocess import Postprocess
from edgead.progress import Silent
from edgead.workflows.importing import import_checkpoint

CONFIG: dict[str, Any] = {"size": "small", "geometry": {"height": 64, "width": 64}}
PREFIX = "model.feature_extractor.feature_extractor."
DIM = 30


@pytest.fixture
def state(timm_weights: Callable[..., dict[str, Tensor]]) -> dict[str, Tensor]:
    """64 × 64 pixels: 256 positions."""
    made = timm_weights("resnet18", PREFIX)
    root = torch.randn(256, DIM, DIM)
    return made | {
        "model.idx": torch.randperm(448)[:DIM],
        "model.gaussian.mean": torch.randn(DIM, 256).abs(),
        "model.gaussian.inv_covariance": root @ root.transpose(1, 2) + torch.eye(DIM),
        "model.anomaly_map_generator.blur.kernel": torch.zeros(1, 1, 33, 33),
        "_is_fitted": torch.tensor([True]),
    }


def opened(file: Path, config: dict[str, Any] = CONFIG, **options: Any) -> Any:
    return read(file, config, weights=None, progress=Silent(), **options)


def test_map_and_score_are_anomalib_s(
    state: dict[str, Tensor],
    lightning_file: Callable[..., Path],
    anomalib_blur: Callable[[Tensor], Tensor],
) -> None:
    made = opened(lightning_file(state))
    assert (made.preset, made.detector.name) == ("padim_resnet18", "padim")
    assert made.notes["anomalib"]["image_threshold"] == 0.75
    assert made.notes["anomalib"]["pixel_threshold"] is None
    backbone = backbones.build("resnet18", ["layer1", "layer2", "layer3"])
    backbone.load_state_dict({k.removeprefix(PREFIX): v for k, v in state.items() if k.startswith(PREFIX)})
    image = torch.randint(0, 256, (1, 64, 64, 3), dtype=torch.uint8)
    x = (image.permute(0, 3, 1, 2) / 255 - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) / torch.tensor(
        [0.229, 0.224, 0.225]
    ).view(3, 1, 1)
    with torch.no_grad():
        taps = backbone(x)
        stacked = torch.cat(_large(taps), 1)
        delta = (stacked[:, state["model.idx"]].flatten(2) - state["model.gaussian.mean"]).permute(2, 0, 1)
        squares = ((delta @ state["model.gaussian.inv_covariance"]) * delta).sum(2).view(1, 1, 16, 16)
        large = F.interpolate(squares.clamp(0).sqrt(), size=(64, 64), mode="bilinear", align_corners=False)
        expected = anomalib_blur(large)[0, 0]
        raw = made.detector(image).anomaly_map[0].numpy()
    score, _, found = Postprocess(made.detector.post_recipe).scores(raw)
    torch.testing.assert_close(torch.from_numpy(found), expected, rtol=1e-4, atol=1e-4)
    assert score == pytest.approx(float(expected.max()), rel=1e-4)


def _large(taps: tuple[Tensor, ...]) -> list[Tensor]:
    times = [16 // tap.shape[2] for tap in taps]
    return [t.repeat_interleave(n, 2).repeat_interleave(n, 3) for t, n in zip(taps, times, strict=True)]


def test_it_becomes_a_model_of_its_own_preset(
    state: dict[str, Tensor], lightning_file: Callable[..., Path], tmp_path: Path
) -> None:
    """Without --preset, whose default is another model's."""
    made = import_checkpoint("anomalib", lightning_file(state), tmp_path / "m", input_size=64)
    assert (made.info.detector, made.info.preset) == ("padim", "padim_resnet18")
    assert made.info.provenance["anomalib"]["image_threshold"] == 0.75
    detector, _ = model_file.load(tmp_path / "m")
    assert torch.equal(detector.state_dict()["inv_covariance"], state["model.gaussian.inv_covariance"])


def test_the_layers_of_the_file_are_read(
    state: dict[str, Tensor], lightning_file: Callable[..., Path]
) -> None:
    state["model.idx"] = torch.arange(DIM)
    made = opened(lightning_file(state, layers=["layer1", "layer2"]))
    assert isinstance(made.detector, Padim)
    assert made.detector.config.taps == ("layer1", "layer2")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model.idx": None}, r"no model\.idx"),
        (
            {"model.gaussian.mean": torch.zeros(0), "model.gaussian.inv_covariance": torch.zeros(0)},
            "before its Gaussians were fitted",
        ),
        ({"model.gaussian.mean": torch.zeros(DIM + 1, 256)}, "do not go together"),
        ({"model.idx": torch.zeros(DIM, dtype=torch.int64)}, "no 30 different features of 448"),
        ({"model.idx": torch.arange(DIM) + 440}, "no 30 different features of 448"),
        ({"model.gaussian.mean": torch.full((DIM, 256), torch.nan)}, "not finite"),
        ({PREFIX + "layer2.0.conv1.weight": None}, "1 of [0-9]+ tensors are missing"),
        ({PREFIX + "conv1.weight": None}, "is no ResNet"),
        ({PREFIX + "layer3.2.conv1.weight": torch.zeros(1)}, "layers that this network has not"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_damaged_or_unfinished_file_says_so(
    state: dict[str, Tensor],
    lightning_file: Callable[..., Path],
    change: dict[str, Tensor | None],
    words: str,
) -> None:
    changed = {key: value for key, value in (state | change).items() if value is not None}
    with pytest.raises(WeightsError, match=words):
        opened(lightning_file(changed))


def test_another_input_size_and_needless_options_are_refused(
    state: dict[str, Tensor], lightning_file: Callable[..., Path], tmp_path: Path
) -> None:
    file = lightning_file(state)
    with pytest.raises(UsageError, match=r"256 positions, an input of 96×96 has 576; .*--input-size"):
        opened(file, {"geometry": {"height": 96, "width": 96}})
    with pytest.raises(UsageError, match="a checkpoint of Padim lacks nothing"):
        opened(file, calib=Calibration(tmp_path))
    with pytest.raises(UsageError, match="tap_dim 4"):
        opened(file, {**CONFIG, "tap_dim": 4})
