from __future__ import annotations

import functools
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from safetensors import safe_open
from typer.testing import CliRunner

from edgead.cli.app import build
from edgead.detectors.efficientad import EfficientAd
from edgead.training._distillation import DistillationRecipe
from edgead.training._teacher import load_teacher


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    small = functools.partial(DistillationRecipe.of_steps, side=64, scene=64, statistics_images=2)
    monkeypatch.setattr(DistillationRecipe, "of_steps", small)


def run(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(build(), [str(argument) for argument in arguments])
    return result.exit_code, result.stdout, result.stderr


def test_a_folder_becomes_a_teacher_that_training_takes(tmp_path: Path) -> None:
    folder, teacher = tmp_path / "photos", tmp_path / "edge.safetensors"
    folder.mkdir()
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 256, (40, 50, 3)).astype(np.uint8)
        cv2.imwrite(str(folder / f"{number}.png"), pixels)
    options = ("--images", folder, "--drawn", 0.5, "--steps", 2, "--batch", 2, "--json")
    code, out, err = run("distill-teacher", "edge", "-o", teacher, *options)
    assert code == 0, err
    assert "3 images of" in err
    assert "50 % procedurally drawn" in err
    assert "a short run of 2 steps" in err
    assert json.loads(out)["teacher"] == str(teacher)
    detector = EfficientAd.from_config({"size": "edge", "geometry": {"height": 64, "width": 64}})
    load_teacher(detector, teacher)
    with safe_open(teacher, "pt") as file:
        assert file.metadata()["backbone"] == "efficientnet_lite0"
    assert not (tmp_path / "edge.safetensors.partial").exists()
    assert run("distill-teacher", "edge", "-o", teacher, *options)[0] == 2


def test_bad_input_has_the_documented_codes(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for code, words, arguments in [
        (2, "size 'huge' is unknown", ("huge", "-o", tmp_path / "t.safetensors")),
        (2, "NAME.safetensors", ("edge", "-o", tmp_path / "t.pth")),
        (2, "make it first", ("edge", "-o", tmp_path / "no" / "t.safetensors")),
        (2, "unknown backbone 'vgg'", ("edge", "-o", tmp_path / "t.safetensors", "--backbone", "vgg")),
        (2, "at least 1", ("edge", "-o", tmp_path / "t.safetensors", "--steps", 0)),
        (2, "0 … 1", ("edge", "-o", tmp_path / "t.safetensors", "--drawn", 2)),
        (5, "no images", ("edge", "-o", tmp_path / "t.safetensors", "--images", tmp_path / "empty")),
    ]:
        found, out, err = run("distill-teacher", *arguments)
        assert (found, out) == (code, ""), err
        assert words in err
    assert not (tmp_path / "t.safetensors").exists()
