"""`edgead export`: what it prints and its exit codes; what it writes is proven in unit/workflows."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from edgead.workflows import _gates

ORT = "onnxruntime:fp32"


def test_json_is_the_report_and_nothing_else(
    edgead: Any, spine: Any, tiny_model: Path, tmp_path: Path
) -> None:
    """One corrupt image among the good ones: it is said, the rest goes on, exit 8."""
    calib = tmp_path / "calib"
    shutil.copytree(spine.data / "train" / "good", calib)
    (calib / "bad.png").write_bytes((calib / "000.png").read_bytes()[:900])
    bundle = tmp_path / "b.edgead"
    result = edgead(
        "export", tiny_model, "--calib", calib, "-o", bundle, "--target", ORT, "--threads", 2, "--json"
    )
    assert result.exit_code == 8, result.stderr
    values = json.loads(result.stdout)
    assert (values["bundle"], values["held_out"], values["trained_on"]) == (str(bundle), 10, 14)
    assert list(values["targets"]) == [ORT]
    target = values["targets"][ORT]
    assert (target["flips"], target["failures"]) == (0, [])
    assert {"score_shift", "score_range", "thresholds", "size_bytes"} <= target.keys()
    assert [Path(item["path"]).name for item in values["skipped"]] == ["bad.png"]
    assert "bad.png" in result.stderr
    assert (bundle / "manifest.json").is_file()


def test_a_person_reads_thresholds_and_how_they_came_about(
    edgead: Any, spine: Any, tiny_model: Path, tmp_path: Path
) -> None:
    bundle = tmp_path / "b.edgead"
    arguments = ("export", tiny_model, "--calib", spine.data, "-o", bundle, "--target", ORT)
    result = edgead(*arguments, "--form", "zip", "--fpr", 0.2)
    assert result.exit_code == 0, result.stderr
    assert "threshold: 2 of 10 good images at or above it" in result.stdout
    assert "10 held-out good images; 14 were trained on and left aside" in result.stdout
    assert bundle.is_file()
    assert edgead(*arguments).exit_code == 2, "it exists"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--recall", 0.9), "a recall needs validation images (--validation)"),
        (("--target", ORT, "--target", ORT), "named twice"),
        (("--target", "openvino:int4"), "'int4' is unknown"),
        (("--target", "caffe:fp16"), "no exporter for engine 'caffe'"),
        (("--form", "tar"), "tar"),
        (("--fpr", "0"), "false-positive rate 0.0 must be above 0"),
        (("--fpr", "nan"), "false-positive rate nan must be above 0"),
        (("--validation", "x", "--recall", "1.5"), "recall 1.5 must be above 0"),
        (("--threads", -1), "--threads"),
        (("--int8-error", 0), "int8 error 0: above 0 is needed"),
        (("--int8-error", "nan"), "int8 error nan: above 0 is needed"),
    ],
)
def test_wrong_options_are_2(edgead: Any, tmp_path: Path, options: tuple[object, ...], told: str) -> None:
    result = edgead("export", tmp_path / "m", "--calib", tmp_path, "-o", tmp_path / "b", *options)
    assert (result.exit_code, result.stdout) == (2, "")
    assert told in result.stderr
    assert not list(tmp_path.iterdir())


def test_what_is_no_model_is_5(edgead: Any, spine: Any, tmp_path: Path) -> None:
    unfinished = tmp_path / "cut.model.partial"
    unfinished.mkdir()
    damaged = tmp_path / "damaged.model"
    shutil.copytree(spine.model, damaged)
    weights = damaged / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    for model, told in [
        (tmp_path / "none", "does not exist"),
        (tmp_path / "cut.model", "run the same `edgead train` command again"),
        (damaged, "is damaged: its hash is"),
        (spine.data, "is not a MODEL"),
    ]:
        result = edgead("export", model, "--calib", spine.data, "-o", tmp_path / "b.edgead", "--target", ORT)
        assert result.exit_code == 5, result.stderr
        assert told in " ".join(result.stderr.split())
    assert not (tmp_path / "b.edgead").exists()


def test_a_missed_gate_is_3_and_writes_nothing(
    edgead: Any, spine: Any, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(_gates.GATES, "fp32", _gates.Gate(flips=0.0, score_shift=-1.0, auroc_drop=0.0))
    result = edgead("export", tiny_model, "--calib", spine.data, "-o", tmp_path / "b.edgead", "--target", ORT)
    assert (result.exit_code, result.stdout) == (3, "")
    assert "so no bundle was written" in result.stderr
    assert not list(tmp_path.iterdir())
