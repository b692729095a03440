"""`edgead verify`: what it prints and its exit codes; the figures are proven in unit/workflows."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

ORT = ("--target", "onnxruntime:fp32", "--threads", 2)


@pytest.fixture
def tests(spine: Any, tmp_path: Path) -> Path:
    """A copy of the test half of the data, to be changed."""
    for part in ("test", "ground_truth"):
        shutil.copytree(spine.data / part, tmp_path / "data" / part)
    return tmp_path / "data"


def test_passing_is_0_for_a_person_and_for_a_script(edgead: Any, spine: Any) -> None:
    result = edgead("verify", spine.bundle, spine.data, *ORT, "--min-auroc", 0.99)
    assert result.exit_code == 0, result.stderr
    assert "reference (onnx)" in result.stdout
    assert "passed" in result.stdout
    assert "12 images, 6 good" in result.stdout
    result = edgead("verify", spine.bundle, spine.data, *ORT, "--json")
    values = json.loads(result.stdout)
    assert values["passed"] is True
    assert values["reference"]["kind"] == "onnx"
    assert values["targets"]["onnxruntime:fp32"]["score_shift"]["max"] == 0.0


def test_a_missed_bar_is_3_and_the_figures_are_still_printed(edgead: Any, spine: Any, tests: Path) -> None:
    (tests / "test" / "good").rename(tests / "test" / "was_good")
    (tests / "test" / "spot").rename(tests / "test" / "good")
    result = edgead("verify", spine.bundle, tests, *ORT, "--min-auroc", 0.9, "--json")
    assert result.exit_code == 3
    assert json.loads(result.stdout)["passed"] is False
    assert "onnxruntime:fp32: image AUROC is 0.0000, at least 0.9 was asked for" in result.stderr
    result = edgead("verify", spine.bundle, tests, *ORT, "--min-auroc", 0.9)
    assert result.exit_code == 3
    assert "FAILED" in result.stdout
    assert "6 defective images without a mask" in result.stdout


def test_a_corrupt_test_image_is_8_and_the_rest_is_judged(edgead: Any, spine: Any, tests: Path) -> None:
    (tests / "test" / "good" / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (tests / "test" / "spot" / "empty.png").write_bytes(b"")
    result = edgead("verify", spine.bundle, tests, *ORT, "--json")
    assert result.exit_code == 8
    values = json.loads(result.stdout)
    assert (values["images"], values["passed"]) == (12, True)
    assert sorted(Path(item["path"]).name for item in values["skipped"]) == ["bad.png", "empty.png"]


def test_images_that_were_trained_on_are_5(edgead: Any, spine: Any, tests: Path) -> None:
    for path in (spine.data / "train" / "good").iterdir():
        shutil.copy(path, tests / "test" / "good" / f"t{path.name}")
    result = edgead("verify", spine.bundle, tests, *ORT)
    assert (result.exit_code, result.stdout) == (5, "")
    assert "24 of 36 test images were used before" in " ".join(result.stderr.split())


def test_masks_of_another_size_are_5(edgead: Any, spine: Any, tests: Path) -> None:
    cv2.imwrite(str(tests / "ground_truth" / "spot" / "003_mask.png"), np.full((48, 96), 255, np.uint8))
    result = edgead("verify", spine.bundle, tests, *ORT)
    assert (result.exit_code, result.stdout) == (5, "")
    told = " ".join(result.stderr.split())
    assert "003_mask.png is 96x48 pixels, its image is 96x96" in told


def test_wrong_layouts_are_5(edgead: Any, spine: Any, tests: Path) -> None:
    flat = tests.parent / "flat"
    shutil.copytree(spine.data / "test" / "good", flat)
    for data in (flat, tests / "test", tests / "none"):
        result = edgead("verify", spine.bundle, data, *ORT)
        assert (result.exit_code, result.stdout) == (5, "")
        assert "test/good" in result.stderr


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--target", "openvino:fp16"), "has no target openvino:fp16"),
        (("--min-auroc", "99"), "from 0 to 1"),
        (("--min-auroc", "nan"), "from 0 to 1"),
    ],
)
def test_wrong_options_are_2(edgead: Any, spine: Any, options: tuple[str, ...], told: str) -> None:
    result = edgead("verify", spine.bundle, spine.data, *options)
    assert (result.exit_code, result.stdout) == (2, "")
    assert told in result.stderr


def test_the_model_must_be_the_bundles_own(edgead: Any, spine: Any, tiny_model: Path) -> None:
    result = edgead("verify", spine.bundle, spine.data, "--model", tiny_model, *ORT)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "was not made from" in result.stderr
    assert edgead("verify", spine.bundle, spine.data, "--model", spine.data, *ORT).exit_code == 5
