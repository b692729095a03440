from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import Result

from edgead.bundle.hashes import sha256_file
from edgead.calibration.threshold import from_good

Edgead = Callable[..., Result]
Grey = Callable[..., Path]

OWN_IMAGE, OWN_PIXEL, MEDIAN = 126.0, 91.2890625, 60.75  # of the golden bundle


def _targets(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.stderr
    targets: dict[str, Any] = json.loads(result.stdout)["targets"]
    return targets


def _tree(bundle: Path) -> dict[str, str]:
    return {str(path): sha256_file(path) for path in sorted(bundle.rglob("*")) if path.is_file()}


def test_show(edgead: Edgead, part: Path) -> None:
    targets = _targets(edgead("threshold", part, "--json"))
    assert list(targets) == ["openvino:fp32", "onnxruntime:fp32"]
    shown = targets["onnxruntime:fp32"]
    assert (shown["image"], shown["pixel"], shown["origin"]) == (OWN_IMAGE, OWN_PIXEL, "bundle")
    assert list(_targets(edgead("threshold", part, "--target", "onnxruntime:fp32", "--json"))) == [
        "onnxruntime:fp32"
    ]
    assert "126" in edgead("threshold", part).stdout


def test_set_decides_from_now_on_and_the_bundle_stays(
    edgead: Edgead, part: Path, grey: Grey, tmp_path: Path
) -> None:
    before = _tree(part)
    image = grey("a.png", 200)  # scores 150
    result = edgead("threshold", part, "--set", "150.5", "--json")
    shown = _targets(result)["openvino:fp32"]
    assert (shown["image"], shown["pixel"], shown["origin"]) == (150.5, OWN_PIXEL, "site")
    assert shown["method"]["image"]["rule"] == "set_by_hand"
    assert "set for openvino:fp32" in result.stderr
    assert edgead("run", part, image, "-o", tmp_path / "a", "-q").stdout.startswith("1 images: 1 OK")
    other = ("--target", "onnxruntime:fp32")
    assert edgead("run", part, image, "-o", tmp_path / "b", "-q", *other).stdout.startswith(
        "1 images: 0 OK, 1 NG"
    )
    assert _tree(part) == before
    assert part.with_name("part.edgead.thresholds.json").is_file()


def test_pixel_alone_and_reset(edgead: Edgead, part: Path) -> None:
    target = ("--target", "onnxruntime:fp32")
    shown = _targets(edgead("threshold", part, "--pixel", "1e3", *target, "--json"))["onnxruntime:fp32"]
    assert (shown["image"], shown["pixel"]) == (OWN_IMAGE, 1000.0)
    edgead("threshold", part, "--set", "130", "--json")
    result = edgead("threshold", part, "--reset", *target)
    assert "removed" in result.stderr
    after = _targets(edgead("threshold", part, "--json"))
    assert [one["origin"] for one in after.values()] == ["site", "bundle"]
    assert {one["origin"] for one in _targets(edgead("threshold", part, "--reset", "--json")).values()} == {
        "bundle"
    }
    assert "no thresholds were set" in edgead("threshold", part, "--reset").stderr


def test_from_good_images(edgead: Edgead, part: Path, grey: Grey, tmp_path: Path) -> None:
    values = np.arange(60, 100)
    for value in values:
        grey(f"good/{value}.png", int(value))
    result = edgead("threshold", part, "--from", tmp_path / "good", "--fpr", "0.1", "--json")
    shown = _targets(result)["openvino:fp32"]
    # The score is 0.75 v, and so is the map of a flat frame: bilinear weights sum to one.
    expected = from_good(0.75 * values, false_positive_rate=0.1)
    assert shown["image"] == pytest.approx(expected.threshold)
    assert shown["pixel"] == pytest.approx(expected.threshold)
    assert shown["image_median"] == shown["pixel_median"] == 0.75 * 79.5
    assert shown["method"]["image"]["images"] == 40
    assert shown["method"]["image"]["good_above"] == 4
    # 40 held-out images: four lie at or above the limit, the fifth highest (95: 71.25) does not
    assert 71.25 < shown["image"] <= 72.0


def test_images_that_were_trained_on_are_left_out(
    edgead: Edgead, part: Path, grey: Grey, tmp_path: Path
) -> None:
    for value in range(60, 80):
        grey(f"good/{value}.png", value)
    trained = tmp_path / "trained"
    trained.mkdir()
    (trained / "x.png").write_bytes(b"image 1")  # its hash stands in the golden bundle's provenance.train
    result = edgead("threshold", part, "--from", trained)
    assert result.exit_code == 5
    assert "was trained on all 1 images" in result.stderr
    shutil.copy(trained / "x.png", tmp_path / "good" / "x.png")
    result = edgead("threshold", part, "--from", tmp_path / "good", "--json")
    assert _targets(result)["openvino:fp32"]["method"]["image"]["images"] == 20
    assert "left out 1 images" in result.stderr


def test_unreadable_good_images_are_skipped_and_said(
    edgead: Edgead, part: Path, grey: Grey, tmp_path: Path
) -> None:
    for value in range(60, 65):
        grey(f"good/{value}.png", value)
    (tmp_path / "good" / "bad.png").write_text("no image")
    result = edgead("threshold", part, "--from", tmp_path / "good", "--json")
    assert result.exit_code == 8
    assert json.loads(result.stdout)["targets"]["openvino:fp32"]["method"]["image"]["images"] == 5
    assert "1 images could not be used" in result.stderr
    assert "5 good images make an uncertain limit" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--set", "60.75"), "not above the median 60.75"),
        (("--set", "nan"), "not finite"),
        (("--pixel", "inf"), "not finite"),
        (("--set", "abc"), "--set"),
        (("--set", "130", "--reset"), "exclude each other"),
        (("--fpr", "0.1"), "belong to --from"),
        (("--set", "130", "--target", "openvino:int8"), "no target openvino:int8"),
    ],
)
def test_wrong_options_change_nothing(
    edgead: Edgead, part: Path, arguments: tuple[str, ...], told: str
) -> None:
    result = edgead("threshold", part, *arguments)
    assert result.exit_code == 2
    assert told in result.stderr
    assert [path.name for path in part.parent.iterdir()] == ["part.edgead"]


def test_a_side_car_of_another_bundle(edgead: Edgead, part: Path) -> None:
    assert edgead("threshold", part, "--set", "130").exit_code == 0
    sidecar = part.with_name("part.edgead.thresholds.json")
    content = json.loads(sidecar.read_text())
    content["bundle"] = "sha256:" + "0" * 64
    sidecar.write_text(json.dumps(content))
    result = edgead("threshold", part)
    assert result.exit_code == 6
    assert "another bundle" in result.stderr
    assert edgead("threshold", part, "--reset").exit_code == 0
    assert not sidecar.exists()


def test_a_missing_folder_of_good_images(edgead: Edgead, part: Path, tmp_path: Path) -> None:
    result = edgead("threshold", part, "--from", tmp_path / "missing")
    assert result.exit_code == 5
    assert "does not exist" in result.stderr
