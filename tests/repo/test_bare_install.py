"""The wheel of this tree, installed without extras into a fresh environment: what a device gets."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parents[2]
_BUNDLE = _ROOT / "tests" / "golden" / "bundle_v1.edgead"
_ENVIRONMENT = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}


def _call(*words: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [str(word) for word in words]
    return subprocess.run(command, cwd=cwd, env=_ENVIRONMENT, capture_output=True, text=True, check=False)


def _pip(python: object, *words: object, cwd: Path) -> None:
    options = ("--disable-pip-version-check", "--no-input", "-q")
    done = _call(python, "-m", "pip", *words, *options, cwd=cwd)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of the source tree; the build folder is elsewhere, the tree stays as it is."""
    work = tmp_path_factory.mktemp("wheel")
    _pip(
        *(sys.executable, "wheel", _ROOT, "--no-deps", "-w", work / "dist"),
        *("-C", f"build-dir={work / 'build'}", "-c", _ROOT / "constraints.txt"),
        cwd=work,
    )
    (found,) = (work / "dist").iterdir()
    return found


@pytest.mark.slow
def test_the_wheel_holds_what_runs_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if ".dist-info/" not in name]
    assert {Path(name).suffix for name in names} == {
        *(".py", ".so", ".h", ".hpp", ".md", ".typed"),
        *(".cu", ".cuh"),  # compiled for the GPU that is there
    }
    assert {name.split("/")[0] for name in names} == {"edgead"}
    folders = {name.split("/")[1] for name in names if name.count("/") > 1}
    assert {"cli", "exporters", "runtimes", "calibration", "benchmarks", "_native_lib"} <= folders
    for unwanted in ("tests", "suites", "native/", "examples"):
        assert not [name for name in names if f"/{unwanted}" in name], unwanted
    (library,) = (name for name in names if name.endswith(".so"))
    assert library == "edgead/_native_lib/libedgead.so"  # one plain file: a zip keeps no links
    headers = [name for name in names if Path(name).suffix in {".h", ".hpp"}]
    assert sorted(headers) == [f"edgead/_native_lib/include/edgead/edgead.{end}" for end in ("h", "hpp")]


@pytest.mark.slow
def test_a_device_runs_a_bundle_without_extras(wheel: Path, tmp_path: Path) -> None:
    venv, work = tmp_path / "venv", tmp_path / "elsewhere"
    work.mkdir()
    assert _call(sys.executable, "-m", "venv", venv, cwd=work).returncode == 0
    python, edgead = venv / "bin" / "python", venv / "bin" / "edgead"
    _pip(python, "install", wheel, "-c", _ROOT / "constraints.txt", cwd=work)

    listed = _call(python, "-m", "pip", "list", "--format", "json", cwd=work)
    packages = {entry["name"].lower() for entry in json.loads(listed.stdout)}
    assert {"edgead", "numpy", "onnxruntime", "opencv-python-headless"} <= packages
    assert (
        not {"torch", "openvino", "onnx", "onnxscript", "safetensors", "hdrhistogram", "matplotlib"}
        & packages
    )

    image = _BUNDLE / "golden" / "synthetic_defect.png"
    done = _call(edgead, "run", _BUNDLE, image, "-o", work / "out", cwd=work)
    assert done.returncode == 0, done.stderr
    assert "running onnxruntime:fp32" in done.stderr
    (line,) = (work / "out" / "predictions.jsonl").read_text().splitlines()
    expected = json.loads((_BUNDLE / "manifest.json").read_text())["golden"][1]["expected"][1]["score_raw"]
    assert json.loads(line)["score_raw"] == expected
    assert json.loads(line)["decision"] == "NG"

    done = _call(edgead, "doctor", "--json", cwd=work)
    assert done.returncode == 0, done.stderr
    runtimes = json.loads(done.stdout)["runtimes"]
    assert runtimes["onnxruntime"]["available"] is True
    assert runtimes["torch"]["available"] is runtimes["openvino"]["available"] is False
    assert "pip install" in runtimes["openvino"]["why"]

    done = _call(edgead, "train", "simplenet", work, "-o", work / "m", cwd=work)
    assert done.returncode == 7, done.stderr
    assert "pip install 'edgead[train]'" in done.stderr
