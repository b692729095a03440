"""`--runtime`: native is the default where it can, an explicit one never falls back, results are equal."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

Edgead = Callable[..., Result]
Grey = Callable[..., Path]
OPENVINO = ("--target", "openvino:fp32", "--threads", 1)


@pytest.fixture
def images(grey: Grey, tmp_path: Path) -> Path:
    for name, value in (("a.png", 40), ("b.png", 200), ("c.png", 169)):
        grey(f"images/{name}", value)
    grey("images/d.png", 90, (61, 47, 4))
    return tmp_path / "images"


def _lines(output: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (output / "predictions.jsonl").read_text().splitlines()]
    for line in lines:
        assert line.pop("timings_ms").keys() == {"preprocess", "engine", "post"}
        del line["overlay"]
    return lines


def test_run_gives_the_same_lines(edgead: Edgead, part: Path, images: Path, tmp_path: Path) -> None:
    outputs = {}
    for runtime in ("native", "python"):
        out = tmp_path / runtime
        result = edgead("run", part, images, "-o", out, "--runtime", runtime, "--json", *OPENVINO)
        assert result.exit_code == 0, result.stderr
        assert json.loads(result.stdout)["runtime"] == runtime
        outputs[runtime] = out
    assert _lines(outputs["native"]) == _lines(outputs["python"])
    pictures = [sorted(path.relative_to(out) for path in out.rglob("*.jpg")) for out in outputs.values()]
    assert pictures[0] == pictures[1]
    assert len(pictures[0]) == 4


def test_native_is_the_default_where_it_can(edgead: Edgead, part: Path, images: Path, tmp_path: Path) -> None:
    result = edgead("run", part, images, "-o", tmp_path / "a")
    assert "running openvino:fp32 (native)" in result.stderr
    assert "(openvino:fp32, native, median" in result.stdout


def test_an_explicit_runtime_never_falls_back(
    edgead: Edgead, part: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEAD_OPENVINO_LIBRARY", "/none/libopenvino_c.so")
    for verb, *words in (("run", images, "-o", tmp_path / "a"), ("bench", "--images", images)):
        result = edgead(verb, part, *words, "--runtime", "native", *OPENVINO)
        assert result.exit_code == 7, verb
        assert "/none/libopenvino_c.so" in result.stderr
    result = edgead("run", part, images, "-o", tmp_path / "b", "--json", *OPENVINO)
    assert json.loads(result.stdout)["runtime"] == "python"
    assert edgead("run", part, images, "-o", tmp_path / "c", "--runtime", "java").exit_code == 2
    result = edgead("run", part, images, "-o", tmp_path / "d", "--runtime", "cuda", *OPENVINO)
    assert result.exit_code == 2
    assert "openvino:fp32 runs on no NVIDIA GPU" in result.stderr
    assert edgead("run", part, images, "-o", tmp_path / "e", "--runtime", "cuda").exit_code == 7


@pytest.mark.parametrize("runtime", ["native", "python"])
def test_bench_measures_the_driver_that_was_asked_for(
    edgead: Edgead, part: Path, images: Path, runtime: str
) -> None:
    words = ("--images", images, "--queries", 50, "--runtime", runtime, "--json")
    result = edgead("bench", part, *words, *OPENVINO)
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    assert (report["runtime"], report["queries"]) == (runtime, 50)
    stages = report["stages_ms"]
    assert stages.keys() == {"preprocess", "engine", "post"}
    assert all(stage["p50"] > 0 for stage in stages.values())
    whole = sum(stage["p50"] for stage in stages.values())
    assert whole <= 1.05 * report["latency_ms"]["p50"] + 0.05


def test_verify_gives_the_same_figures(edgead: Edgead, spine: Any) -> None:
    reports = {}
    for runtime in ("native", "python"):
        words = ("verify", spine.bundle, spine.data, "--runtime", runtime, *OPENVINO)
        result = edgead(*words, "--json")
        assert result.exit_code == 0, result.stderr
        reports[runtime] = json.loads(result.stdout)
        assert reports[runtime]["targets"]["openvino:fp32"].pop("runtime") == runtime
    assert reports["native"] == reports["python"]
    assert f"openvino:fp32 driven by {runtime}" in edgead(*words).stdout


def test_inspect_shows_the_same_self_test(edgead: Edgead, part: Path) -> None:
    reports = [
        json.loads(
            edgead("inspect", part, "--target", "openvino:fp32", "--runtime", runtime, "--json").stdout
        )
        for runtime in ("native", "python")
    ]
    assert reports[0]["self_test"] == reports[1]["self_test"]
    assert reports[0]["self_test"]["passed"]


def test_doctor_says_what_libedgead_opens(edgead: Edgead, monkeypatch: pytest.MonkeyPatch) -> None:
    native = json.loads(edgead("doctor", "--json").stdout)["runtimes"]["native"]
    assert native["available"]
    assert "opens openvino 20" in native["why"]
    assert "kernels" in native["why"]
    monkeypatch.setenv("EDGEAD_OPENVINO_LIBRARY", "/none/libopenvino_c.so")
    native = json.loads(edgead("doctor", "--json").stdout)["runtimes"]["native"]
    assert "not openvino (" in native["why"]
    assert "/none/libopenvino_c.so" in native["why"]


def test_inspect_leaves_out_what_the_runtime_cannot_open(
    edgead: Edgead, part: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEAD_ONNXRUNTIME_LIBRARY", "/none/libonnxruntime.so")
    result = edgead("inspect", part, "--runtime", "native", "--json")
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)["self_test"]
    assert list(report["targets"]) == ["openvino:fp32"]
    assert list(report["not_run"]) == ["onnxruntime:fp32"]
    result = edgead("inspect", part, "--runtime", "native", "--target", "onnxruntime:fp32")
    assert result.exit_code == 3, "one that is named and missing fails"
