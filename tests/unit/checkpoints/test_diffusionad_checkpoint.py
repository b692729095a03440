"""The files are built from the description of the authors' layout; their shapes are counted there."""

from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import torch

from edgead.checkpoints._base import Calibration
from edgead.checkpoints.diffusionad import SEGMENTATION, UNET, read
from edgead.detectors.diffusionad import DiffusionAd
from edgead.errors import UsageError, WeightsError
from edgead.progress import Silent

CONFIG: dict[str, Any] = {
    "base": 32,
    "groups": 4,
    "segmentation_width": 8,
    "multipliers": [1, 2],
    "blocks": 1,
    "attention": [2],
    "geometry": {"height": 32, "width": 32},
}


def networks(**changes: Any) -> DiffusionAd:
    torch.manual_seed(3)
    return DiffusionAd.from_config(CONFIG | changes)


def save(path: Path, detector: DiffusionAd, **changes: Any) -> Path:
    """As their train.py does; a change of None leaves a key out."""
    settings = defaultdict(
        str, {"arg_num": "1", "img_size": [32, 32], "condition_w": 1, "class_type": "MVTec"}
    )
    values = {
        "n_epoch": 3000,
        UNET: detector.unet.state_dict(),
        SEGMENTATION: detector.segmentation.state_dict(),
        "args": settings,
        **changes,
    }
    torch.save({key: value for key, value in values.items() if value is not None}, path)
    return path


def take(path: Path, *, progress: Any = None, config: dict[str, Any] = CONFIG, **options: Any) -> Any:
    return read(path, config, progress=progress or Silent(), **{"weights": None, **options})


def test_networks_and_settings_are_the_checkpoint_s(tmp_path: Path) -> None:
    detector = networks()
    imported = take(save(tmp_path / "params-last.pt", detector))
    for network in ("unet", "segmentation"):
        own, given = (getattr(one, network).state_dict() for one in (imported.detector, detector))
        assert all(torch.equal(own[key], value) for key, value in given.items())
    assert not imported.detector.training
    assert imported.preset is None
    assert imported.backbone_weights is None
    assert imported.notes["epochs"] == 3000
    assert imported.notes["settings"]["img_size"] == [32, 32]


def test_the_noise_is_the_same_at_every_import(tmp_path: Path) -> None:
    path = save(tmp_path / "params-last.pt", networks())
    one, two = take(path).detector.noise, take(path).detector.noise
    assert torch.equal(one, two)
    assert float(one.std()) == pytest.approx(1, abs=0.05)


def test_widths_are_read_from_the_file(tmp_path: Path) -> None:
    path = save(tmp_path / "params-best.pt", networks(base=8, segmentation_width=4))
    config = take(path).detector.config
    assert (config.base, config.segmentation_width) == (8, 4)


def test_a_width_that_cannot_be_says_so(tmp_path: Path) -> None:
    path = save(tmp_path / "p.pt", networks(base=6, groups=2, heads=2))
    with pytest.raises(WeightsError, match=r"networks of 6 and 8 channels: .*divide into 4 groups"):
        take(path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"multipliers": [1, 4]}, "is .*, needed is .*multipliers"),
        ({"multipliers": [1, 2, 2]}, "lacks|has"),
        ({"attention": []}, r"denoising network lacks down\.3\.1\.norm\.weight"),
    ],
)
def test_other_sizes_are_named(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    path = save(tmp_path / "p.pt", networks(**changes))
    with pytest.raises(WeightsError, match=words):
        take(path)


@pytest.mark.parametrize(
    ("part", "words"),
    [(UNET, "lacks the denoising network"), (SEGMENTATION, "lacks the segmentation network")],
)
def test_half_a_checkpoint_is_refused(tmp_path: Path, part: str, words: str) -> None:
    with pytest.raises(WeightsError, match=words):
        take(save(tmp_path / "p.pt", networks(), **{part: None}))
    with pytest.raises(WeightsError, match=words):
        take(save(tmp_path / "p.pt", networks(), **{part: {}}))


def test_wrong_files_say_what_they_are(tmp_path: Path) -> None:
    detector, path = networks(), tmp_path / "p.pt"
    torch.save(detector.unet.state_dict(), path)
    with pytest.raises(WeightsError, match=r"holds time_embedding\.1\.weight.*, not unet_model_state_dict"):
        take(path)
    torch.save([1, 2], path)
    with pytest.raises(WeightsError, match="holds a list, not a checkpoint"):
        take(path)
    swapped = {UNET: detector.segmentation.state_dict(), SEGMENTATION: detector.unet.state_dict()}
    with pytest.raises(WeightsError, match=r"has no down\.0\.0\.weight; it is of another network"):
        take(save(path, detector, **swapped))
    path.write_bytes(b"no checkpoint")
    with pytest.raises(WeightsError, match="not a torch file"):
        take(path)


def test_values_that_are_not_finite_are_found(tmp_path: Path) -> None:
    detector = networks()
    detector.unet.middle[0].in_layers[2].bias.data[1] = float("nan")
    with pytest.raises(WeightsError, match=r"middle\.0\.in_layers\.2\.bias of the denoising network.*finite"):
        take(save(tmp_path / "p.pt", detector))


class Evil:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.target}",)


def test_settings_run_nothing(tmp_path: Path) -> None:
    """Neither a call among them nor another factory of the defaultdict."""
    target = tmp_path / "was_run"
    evil = defaultdict(str, {"arg_num": Evil(target)})
    with pytest.raises(WeightsError, match=r"refused: it asks to run (posix|nt|os)\.system"):
        take(save(tmp_path / "p.pt", networks(), args=evil))
    with pytest.raises(WeightsError, match="refused"):
        take(save(tmp_path / "q.pt", networks(), args=defaultdict(os.getcwd)))
    assert not target.exists()


class _Listening(Silent):
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, message: str) -> None:
        self.said.append(message)


def test_another_image_size_is_said(tmp_path: Path) -> None:
    listening = _Listening()
    path = save(tmp_path / "p.pt", networks())
    take(path, progress=listening)
    assert listening.said == []
    larger = {**CONFIG, "geometry": {"height": 64, "width": 64}}
    assert take(path, progress=listening, config=larger).detector.noise.shape[2:] == (64, 64)
    assert listening.said == ["trained on 32×32 pixels, imported for 64×64"]


def test_nothing_else_is_wanted(tmp_path: Path) -> None:
    path = save(tmp_path / "p.pt", networks())
    with pytest.raises(UsageError, match=r"--weights .*leave it out"):
        take(path, weights=path)
    with pytest.raises(UsageError, match=r"--calib .*leave it out"):
        take(path, calib=Calibration(tmp_path))
