"""The files are built from the description of nelson1425's layout, not by edgead's own code."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from edgead.checkpoints._base import Calibration
from edgead.checkpoints.efficientad import read
from edgead.detectors.efficientad import EfficientAd
from edgead.errors import UsageError, WeightsError
from edgead.progress import Silent

CONFIG: dict[str, Any] = {"size": "small", "geometry": {"height": 256, "width": 256}}
VALUES = {"q_st_start": 0.1, "q_st_end": 0.4, "q_ae_start": 0.2, "q_ae_end": 0.3}
Nelson = Callable[..., SimpleNamespace]


def save(folder: Path, networks: SimpleNamespace, *, kind: str = "final", state: bool = False) -> Path:
    folder.mkdir(exist_ok=True)
    for part in ("teacher", "student", "autoencoder"):
        module: nn.Module = getattr(networks, part)
        torch.save(module.state_dict() if state else module, folder / f"{part}_{kind}.pth")
    return folder


def side_car(folder: Path, **changes: Any) -> Calibration:
    values = {"teacher_mean": [0.5] * 384, "teacher_std": [2.0] * 384, **VALUES, **changes}
    return Calibration(folder / "norm_stats.json", values=values)


@pytest.mark.parametrize("form", ["modules", "state dicts", "one file", "while training", "padded teacher"])
def test_the_maps_are_those_of_the_pickled_modules(nelson: Nelson, tmp_path: Path, form: str) -> None:
    networks = nelson()
    kind = "tmp" if form == "while training" else "final"
    place = save(tmp_path / "out", networks, kind=kind, state=form == "state dicts")
    if form == "one file":
        place = place / "student_final.pth"
    if form == "padded teacher":  # what his pretraining writes; the weights alone count
        padded = nelson(padding=True)
        padded.teacher.load_state_dict(networks.teacher.state_dict())
        torch.save(padded.teacher, place / "teacher_final.pth")
    made = read(place, CONFIG, weights=None, calib=side_car(tmp_path), progress=Silent())
    detector = made.detector
    assert isinstance(detector, EfficientAd)
    assert (made.preset, detector.config.map_order) == ("efficientad", "quantile_then_upsample")
    image = torch.randint(0, 256, (1, 256, 256, 3), dtype=torch.uint8)
    with torch.inference_mode():
        x = detector.normalise(image)
        t, s, a = (networks.teacher(x) - 0.5) / 2, networks.student(x), networks.autoencoder(x)
        expected = torch.stack([(t - s[:, :384]).square().mean(1), (a - s[:, 384:]).square().mean(1)], 1)
        torch.testing.assert_close(detector(image).anomaly_map, expected)
    assert detector.post_recipe.alpha == pytest.approx((0.05 / 0.3, 0.05 / 0.1))


def test_the_medium_size_is_seen(nelson: Nelson, tmp_path: Path) -> None:
    made = read(
        save(tmp_path / "m", nelson("medium")),
        CONFIG,
        weights=None,
        calib=side_car(tmp_path),
        progress=Silent(),
    )
    assert made.preset == "efficientad_m"
    assert made.detector.config_dict()["size"] == "medium"


def test_statistics_and_quantiles_come_from_good_images(nelson: Nelson, tmp_path: Path) -> None:
    """Spec §4 with torch's own functions: moments over all positions, quantiles over all raw values."""
    networks = nelson()
    pixels = np.random.default_rng(0).integers(0, 256, (3, 256, 256, 3)).astype(np.uint8)
    pixels[1] //= 4
    calib = Calibration(tmp_path, pixels=pixels)
    made = read(save(tmp_path / "m", networks), CONFIG, weights=None, calib=calib, progress=Silent())
    detector = made.detector
    assert isinstance(detector, EfficientAd)
    with torch.inference_mode():
        x = detector.normalise(torch.from_numpy(pixels))
        t, s, a = networks.teacher(x), networks.student(x), networks.autoencoder(x)
        deviation, mean = torch.std_mean(t, dim=(0, 2, 3), correction=0)
        t = (t - mean.view(1, -1, 1, 1)) / deviation.view(1, -1, 1, 1)
        d_st, d_ae = (t - s[:, :384]).square().mean(1), (a - s[:, 384:]).square().mean(1)
    torch.testing.assert_close(detector.teacher_mean.flatten(), mean, rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(detector.teacher_std.flatten(), deviation, rtol=1e-3, atol=1e-6)
    expected = [torch.quantile(d.flatten(), torch.tensor([0.9, 0.995])) for d in (d_st, d_ae)]
    torch.testing.assert_close(detector.quantiles.float(), torch.stack(expected), rtol=1e-3, atol=1e-6)


def test_without_calibration_it_says_what_to_give(nelson: Nelson, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"does not hold the teacher's statistics.*--calib"):
        read(save(tmp_path / "m", nelson()), CONFIG, weights=None, progress=Silent())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"teacher_mean": [0.5] * 3}, "teacher_mean must hold 384 finite numbers, it holds 3"),
        ({"teacher_std": [0.0] * 384}, "must be positive, its least value is 0"),
        ({"teacher_std": "much"}, "not a number"),
        ({"q_st_end": 0.05}, "do not rise"),
        ({"q_ae_end": float("nan")}, "do not rise"),
    ],
)
def test_a_side_car_that_does_not_fit(
    nelson: Nelson, tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(WeightsError, match=words):
        read(
            save(tmp_path / "m", nelson()),
            CONFIG,
            weights=None,
            calib=side_car(tmp_path, **changes),
            progress=Silent(),
        )
    values = dict(side_car(tmp_path).values or {})
    del values["q_ae_end"]
    with pytest.raises(WeightsError, match="lacks q_ae_end"):
        read(
            tmp_path / "m",
            CONFIG,
            weights=None,
            calib=Calibration(tmp_path, values=values),
            progress=Silent(),
        )


def test_mixed_files_say_what_they_are(nelson: Nelson, tmp_path: Path) -> None:
    small, medium = nelson(), nelson("medium")
    place = save(tmp_path / "m", small)
    for part, module, words in [
        ("teacher", small.student, r"teacher_final\.pth holds a small student, not the teacher"),
        ("student", small.autoencoder, r"holds an autoencoder, not the student"),
        (
            "teacher",
            medium.teacher,
            r"holds a medium teacher, student_final\.pth a small student: files of two",
        ),
        ("autoencoder", nn.Sequential(nn.Conv2d(3, 8, 3)), r"holds 2 tensors that begin with 0\.weight"),
        ("student", nn.Sequential(nn.Linear(2, 2)), r"asks to run torch\.nn\.modules\.linear\.Linear"),
    ]:
        save(place, small)
        torch.save(module, place / f"{part}_final.pth")
        with pytest.raises(WeightsError, match=words):
            read(place, CONFIG, weights=None, calib=side_car(tmp_path), progress=Silent())


def test_missing_and_foreign_files_are_named(nelson: Nelson, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(WeightsError, match=r"holds no teacher_final\.pth"):
        read(tmp_path / "empty", CONFIG, weights=None, progress=Silent())
    place = save(tmp_path / "m", nelson())
    (place / "student_final.pth").unlink()
    with pytest.raises(WeightsError, match=r"lacks student_final\.pth"):
        read(place, CONFIG, weights=None, progress=Silent())
    with pytest.raises(WeightsError, match="another source"):
        read(tmp_path / "model.ckpt", CONFIG, weights=None, progress=Silent())
    with pytest.raises(UsageError, match="256×256 only"):
        read(
            save(place, nelson()),
            {**CONFIG, "geometry": {"height": 512, "width": 512}},
            weights=None,
            progress=Silent(),
        )
    with pytest.raises(UsageError, match="leave it out"):
        read(place, CONFIG, weights=place, progress=Silent())


def test_weights_that_are_not_finite_are_refused(nelson: Nelson, tmp_path: Path) -> None:
    networks = nelson()
    with torch.no_grad():
        networks.student[3].weight[0, 0, 0, 0] = float("nan")
    with pytest.raises(WeightsError, match=r"conv2\.weight holds values that are not finite"):
        read(save(tmp_path / "m", networks), CONFIG, weights=None, progress=Silent())


class Evil:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.target}",)


def test_code_hidden_in_a_module_never_runs(nelson: Nelson, tmp_path: Path) -> None:
    networks, target = nelson(), tmp_path / "was_run"
    networks.teacher.forward = Evil(target)
    with pytest.raises(WeightsError, match=r"teacher_final\.pth is refused"):
        read(save(tmp_path / "m", networks), CONFIG, weights=None, progress=Silent())
    assert not target.exists()


def test_a_json_side_car_is_read_by_the_verb(nelson: Nelson, tmp_path: Path) -> None:
    from edgead.workflows.importing import import_checkpoint

    place = save(tmp_path / "out", nelson())
    file = tmp_path / "stats.json"
    file.write_text(json.dumps(side_car(tmp_path).values))
    made = import_checkpoint("efficientad", place, tmp_path / "m", calib=file)
    assert made.info.detector == "efficientad"
    assert set(made.info.provenance["checkpoint"]["files"]) == {
        "teacher_final.pth",
        "student_final.pth",
        "autoencoder_final.pth",
    }
    assert made.info.provenance["calibration_hashes"] == []


def test_good_images_are_read_and_named_by_the_verb(nelson: Nelson, tmp_path: Path) -> None:
    import cv2

    from edgead.data.folder import content_hash
    from edgead.workflows.importing import import_checkpoint

    (tmp_path / "good").mkdir()
    random = np.random.default_rng(0)
    for number in range(2):
        pixels = random.integers(0, 256, (40, 50, 3)).astype(np.uint8)
        assert cv2.imwrite(str(tmp_path / "good" / f"{number}.png"), pixels)
    place = save(tmp_path / "out", nelson())
    made = import_checkpoint("efficientad", place, tmp_path / "m", calib=tmp_path / "good")
    hashes = [content_hash(path) for path in sorted((tmp_path / "good").iterdir())]
    assert made.info.provenance["calibration_hashes"] == hashes
    with pytest.raises(UsageError, match="squeezes the whole frame"):
        import_checkpoint("efficientad", place, tmp_path / "n", calib=tmp_path / "good", resize=300)
