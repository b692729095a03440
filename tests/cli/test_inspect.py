from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
from typer.testing import Result

from edgead.bundle.hashes import sha256_file
from edgead.bundle.writer import pack

Edgead = Callable[..., Result]


def test_json_is_the_manifest_and_the_self_test(edgead: Edgead, part: Path) -> None:
    result = edgead("inspect", part, "--json")
    assert result.exit_code == 0, result.stderr
    shown = json.loads(result.stdout)
    manifest = json.loads((part / "manifest.json").read_text())
    assert {key: shown[key] for key in manifest} == manifest
    assert shown["self_test"]["passed"] is True
    assert shown["self_test"]["targets"]["onnxruntime:fp32"]["score_shift_max"] == 0.0
    assert shown["form"] == "directory"
    graph = part / "graph.onnx"
    assert shown["files"]["graph.onnx"] == {"bytes": graph.stat().st_size, "hash": sha256_file(graph)}
    assert shown["digest"] == sha256_file(part / "MANIFEST.sha256")
    assert shown["limits"]["openvino:fp32"]["thresholds"]["image"] == 126.0


def test_a_zip_is_the_same_bundle(edgead: Edgead, part: Path, tmp_path: Path) -> None:
    pack(part, tmp_path / "part.zip")
    folder, archive = (
        json.loads(edgead("inspect", path, "--json", "--no-self-test").stdout)
        for path in (part, tmp_path / "part.zip")
    )
    assert archive["form"] == "zip"
    assert archive["self_test"] is None
    assert archive | {"form": "directory"} == folder


def test_a_person_sees_targets_limits_and_the_self_test(edgead: Edgead, part: Path) -> None:
    edgead("threshold", part, "--set", "130", "--target", "onnxruntime:fp32")
    result = edgead("inspect", part, "--files")
    assert result.exit_code == 0
    for told in ("every hash is right", "simplenet", "130", "site, ", "2 golden images", "sha256:"):
        assert told in result.stdout
    assert result.stdout.count("✓") == 2


def test_a_failed_self_test_is_3(edgead: Edgead, maker: ModuleType, tmp_path: Path) -> None:
    exact = maker.map_of

    def moved(grid: object) -> object:
        return exact(grid) + np.float32(1)

    maker.map_of = moved
    maker.build(tmp_path / "moved.edgead")
    result = edgead("inspect", tmp_path / "moved.edgead", "--json", "--target", "onnxruntime:fp32")
    assert result.exit_code == 3
    report = json.loads(result.stdout)["self_test"]
    assert report["passed"] is False
    assert report["targets"]["onnxruntime:fp32"]["map_shift_max"] == 1.0
    assert list(report["targets"]) == ["onnxruntime:fp32"]
    assert "self-test failed for onnxruntime:fp32" in result.stderr
    assert edgead("inspect", tmp_path / "moved.edgead", "--no-self-test").exit_code == 0


def test_targets_that_cannot_run_here_are_named_not_failed(
    edgead: Edgead, maker: ModuleType, tmp_path: Path
) -> None:
    maker.TARGETS = ("onnxruntime:fp32", "elsewhere:fp32")
    maker.build(tmp_path / "two.edgead")
    result = edgead("inspect", tmp_path / "two.edgead", "--json")
    assert result.exit_code == 0
    report = json.loads(result.stdout)["self_test"]
    assert (report["passed"], list(report["targets"]), list(report["not_run"])) == (
        True,
        ["onnxruntime:fp32"],
        ["elsewhere:fp32"],
    )
    maker.TARGETS = ("elsewhere:fp32",)
    maker.build(tmp_path / "one.edgead")
    result = edgead("inspect", tmp_path / "one.edgead", "--json")
    assert result.exit_code == 7
    assert json.loads(result.stdout)["self_test"]["passed"] is False
    assert "no target could be tested" in result.stderr


def test_damage(edgead: Edgead, part: Path, tmp_path: Path) -> None:
    pack(part, tmp_path / "part.zip")
    whole = (tmp_path / "part.zip").read_bytes()
    (tmp_path / "short.zip").write_bytes(whole[:-100])
    assert edgead("inspect", tmp_path / "short.zip").exit_code == 6
    golden = part / "golden" / "good.png"
    golden.write_bytes(golden.read_bytes()[:-1] + b"\0")
    result = edgead("inspect", part)
    assert result.exit_code == 6
    assert "golden/good.png is damaged" in result.stderr
    assert result.stdout == ""


def test_nothing_there(edgead: Edgead, tmp_path: Path) -> None:
    assert edgead("inspect", tmp_path / "missing").exit_code == 2
    (tmp_path / "empty").mkdir()
    assert edgead("inspect", tmp_path / "empty").exit_code == 6
