"""The files are built from the description of Lightning's and anomalib's layouts, not by edgead's code."""

from __future__ import annotations

import enum
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from edgead.checkpoints._base import Calibration
from edgead.checkpoints.anomalib import read
from edgead.detectors.efficientad import EfficientAd
from edgead.errors import UsageError, WeightsError
from edgead.imaging.postprocess import Postprocess
from edgead.progress import Silent

CONFIG: dict[str, Any] = {"size": "small", "geometry": {"height": 256, "width": 256}}
Nelson = Callable[..., SimpleNamespace]
# Spec §7: nelson1425's positions to anomalib's names.
PDN = {"0": "conv1", "3": "conv2", "6": "conv3", "8": "conv4", "10": "conv5", "12": "conv6"}
AE = {str(2 * n): f"encoder.enconv{n + 1}" for n in range(6)}
AE |= {str(12 + 4 * n): f"decoder.deconv{n + 1}" for n in range(6)}
AE |= {"36": "decoder.deconv7", "38": "decoder.deconv8"}


class ModelSize(str, enum.Enum):
    """Stands for anomalib's enum: a class that the reader must not need."""

    S = "small"


class Transform:
    """Stands for a pickled torchvision transform."""

    def __init__(self) -> None:
        self.size = [256, 256]


def state_dict(networks: SimpleNamespace) -> dict[str, Any]:
    def renamed(prefix: str, module: torch.nn.Module, names: dict[str, str]) -> dict[str, Tensor]:
        state = module.state_dict()
        return {f"model.{prefix}.{names[k.split('.')[0]]}.{k.split('.')[1]}": v for k, v in state.items()}

    random = torch.Generator().manual_seed(0)
    state: dict[str, Any] = renamed("teacher", networks.teacher, PDN)
    state |= renamed("student", networks.student, PDN)
    state |= renamed("ae", networks.autoencoder, AE)
    state["model.mean_std.mean"] = torch.randn(1, 384, 1, 1, generator=random) * 0.1
    state["model.mean_std.std"] = torch.rand(1, 384, 1, 1, generator=random) + 0.1
    for name, value in (("qa_st", 0.2), ("qb_st", 0.7), ("qa_ae", 0.1), ("qb_ae", 0.2)):
        state[f"model.quantiles.{name}"] = torch.tensor(value)
    return state


def checkpoint(path: Path, networks: SimpleNamespace, version: str, **options: Any) -> Path:
    state = state_dict(networks)
    content: dict[str, Any] = {
        "epoch": 3,
        "pytorch-lightning_version": "2.4.0",
        "callbacks": {"ModelCheckpoint": {"dirpath": Path("results")}},
        "hyper_parameters": {"model_size": ModelSize.S, "padding": False, "pad_maps": True, **options},
    }
    threshold, inf = torch.tensor(0.75), torch.tensor(float("inf"))
    if version == "2":
        state |= {
            "post_processor._image_threshold": threshold,
            "post_processor._pixel_threshold": threshold / 2,
        }
        state |= {f"post_processor.{n}": torch.tensor(float("nan")) for n in ("image_min", "image_max")}
        state |= {
            "post_processor.pixel_min": torch.tensor(-0.5),
            "post_processor.pixel_max": torch.tensor(4.0),
        }
    else:
        state |= {"image_threshold.value": threshold, "pixel_threshold.value": threshold / 2}
    if version == "1":
        state |= {
            f"{name}_threshold_class": "anomalib.metrics.F1AdaptiveThreshold" for name in ("image", "pixel")
        }
        state |= {
            "normalization_metrics.pred_scores.min": -inf,
            "normalization_metrics.pred_scores.max": inf,
            "normalization_metrics.anomaly_maps.min": torch.tensor(-0.5),
            "normalization_metrics.anomaly_maps.max": torch.tensor(4.0),
        }
        content["transform"] = Transform()
    if version == "0.7":
        state |= {
            "normalization_metrics.min": torch.tensor(-0.5),
            "normalization_metrics.max": torch.tensor(4.0),
        }
    torch.save({**content, "state_dict": state}, path)
    return path


@pytest.mark.parametrize("version", ["0.7", "1", "2"])
def test_maps_and_scores_are_anomalib_s(nelson: Nelson, tmp_path: Path, version: str) -> None:
    """Spec §3, anomalib's order: pad, up-sample, then normalise by the quantiles."""
    networks = nelson()
    made = read(
        checkpoint(tmp_path / "model.ckpt", networks, version), CONFIG, weights=None, progress=Silent()
    )
    detector, state = made.detector, state_dict(networks)
    assert isinstance(detector, EfficientAd)
    image = torch.randint(0, 256, (1, 256, 256, 3), dtype=torch.uint8)
    with torch.inference_mode():
        x = detector.normalise(image)
        t = (networks.teacher(x) - state["model.mean_std.mean"]) / state["model.mean_std.std"]
        s, a = networks.student(x), networks.autoencoder(x)
        maps = [(t - s[:, :384]).square().mean(1), (a - s[:, 384:]).square().mean(1)]
        large = [
            F.interpolate(F.pad(m[:, None], (4, 4, 4, 4)), size=(256, 256), mode="bilinear") for m in maps
        ]
        expected = 0.5 * 0.1 * (large[0] - 0.2) / 0.5 + 0.5 * 0.1 * (large[1] - 0.1) / 0.1
        raw = detector(image).anomaly_map[0].numpy()
    score, _, found = Postprocess(detector.post_recipe).scores(raw)
    torch.testing.assert_close(torch.from_numpy(found), expected[0, 0], rtol=1e-4, atol=1e-5)
    assert score == pytest.approx(float(expected.max()), rel=1e-4)
    limits = made.notes["anomalib"]
    assert (limits["image_threshold"], limits["pixel_threshold"]) == (0.75, 0.375)
    assert (limits["pixel_min"], limits["pixel_max"]) == (-0.5, 4.0)
    assert limits["image_min"] == (-0.5 if version == "0.7" else None)


@pytest.mark.parametrize(("option", "pad"), [({"pad_maps": False}, 0), ({"padding": True}, 4)])
def test_options_of_the_checkpoint_are_read(
    nelson: Nelson, tmp_path: Path, option: dict[str, bool], pad: int
) -> None:
    file = checkpoint(tmp_path / "model.ckpt", nelson(), "2", **option)
    detector = read(file, CONFIG, weights=None, progress=Silent()).detector
    assert isinstance(detector, EfficientAd)
    assert detector.config.padding == bool(option.get("padding"))
    assert detector.post_recipe.pad == (pad,) * 4
    assert detector.post_recipe.gamma_stage == "after"


def test_another_input_size_than_the_file_s_is_refused(nelson: Nelson, tmp_path: Path) -> None:
    file = checkpoint(tmp_path / "model.ckpt", nelson(), "2")
    content = torch.load(file, weights_only=False)
    resize = {"class_path": "torchvision.transforms.v2.Resize", "init_args": {"size": [512, 512]}}
    transform = {"class_path": "torchvision.transforms.v2.Compose", "init_args": {"transforms": [resize]}}
    torch.save({**content, "anomalib_pre_processor_config": {"transform": transform}}, file)
    with pytest.raises(UsageError, match="trained on images of 512×512, not 256×256"):
        read(file, CONFIG, weights=None, progress=Silent())
    config = {**CONFIG, "geometry": {"height": 512, "width": 512}}
    assert read(file, config, weights=None, progress=Silent()).detector.geometry.input_size == (512, 512)


def test_the_medium_size_is_seen(nelson: Nelson, tmp_path: Path) -> None:
    file = checkpoint(tmp_path / "model.ckpt", nelson("medium"), "2")
    assert read(file, CONFIG, weights=None, progress=Silent()).preset == "efficientad_m"


def test_unset_quantiles_need_calibration(nelson: Nelson, tmp_path: Path) -> None:
    """anomalib leaves zeros until the first validation."""
    file = checkpoint(tmp_path / "model.ckpt", nelson(), "2")
    content = torch.load(file, weights_only=False)
    for name in ("qa_st", "qb_st", "qa_ae", "qb_ae"):
        content["state_dict"][f"model.quantiles.{name}"].zero_()
    torch.save(content, file)
    with pytest.raises(WeightsError, match="--calib"):
        read(file, CONFIG, weights=None, progress=Silent())
    values = {"teacher_mean": [0.0] * 384, "teacher_std": [1.0] * 384}
    values |= {"q_st_start": [0.1], "q_st_end": [0.2], "q_ae_start": [0.1], "q_ae_end": [0.3]}
    given = Calibration(tmp_path, values=values)
    detector = read(file, CONFIG, weights=None, calib=given, progress=Silent()).detector
    assert detector.post_recipe.alpha == pytest.approx((0.5, 0.25))


def test_calibration_is_not_silently_ignored(nelson: Nelson, tmp_path: Path) -> None:
    file = checkpoint(tmp_path / "model.ckpt", nelson(), "2")
    with pytest.raises(UsageError, match="leave it out"):
        read(file, CONFIG, weights=None, calib=Calibration(tmp_path), progress=Silent())


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"state_dict": {"model.memory_bank": torch.ones(2, 2)}}, "is no ResNet; edgead reads resnet18"),
        ({"state_dict": {"conv.weight": torch.ones(2)}}, "edgead reads EfficientAd, Fastflow, Padim, Patch"),
        (
            {"state_dict": {"model.ae.x": torch.ones(2)}},
            "no checkpoint of EfficientAd: it has no teacher, student",
        ),
        ({"state_dict": {"model.gaussian.mean": torch.ones(2)}}, r"Padim: it has no model\.idx"),
        ({"state_dict": {"conv.weight": torch.ones(2)}}, r"it holds 1 tensors that begin with conv\.weight"),
        ({"model": torch.ones(2)}, "holds no state_dict"),
        (torch.ones(2), "holds no state_dict"),
    ],
)
def test_other_checkpoints_say_what_they_are(tmp_path: Path, content: Any, words: str) -> None:
    torch.save(content, tmp_path / "other.ckpt")
    with pytest.raises(WeightsError, match=words):
        read(tmp_path / "other.ckpt", CONFIG, weights=None, progress=Silent())


def test_mixed_sizes_and_broken_statistics_are_refused(nelson: Nelson, tmp_path: Path) -> None:
    mixed = SimpleNamespace(**{**vars(nelson()), "student": nelson("medium").student})
    file = checkpoint(tmp_path / "mixed.ckpt", mixed, "2")
    with pytest.raises(
        WeightsError, match="as teacher it holds a small teacher, as student a medium student"
    ):
        read(file, CONFIG, weights=None, progress=Silent())
    for key, value, words in [
        ("model.mean_std.std", torch.zeros(1, 384, 1, 1), "--calib|deviations"),
        ("model.quantiles.qb_st", torch.tensor(0.1), "do not rise"),
    ]:
        file = checkpoint(tmp_path / "broken.ckpt", nelson(), "2")
        content = torch.load(file, weights_only=False)
        content["state_dict"][key] = value
        torch.save(content, file)
        with pytest.raises(WeightsError, match=words):
            read(file, CONFIG, weights=None, progress=Silent())
