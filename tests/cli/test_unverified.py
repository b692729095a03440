"""A target that was built and has not run, on the command line: what is said of it, and the exit codes."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import pytest

ORT, RTX = "onnxruntime:fp32", "tensorrt_rtx:fp16:cuda"


def test_it_is_built_with_its_options_and_called_not_verified_wherever_it_shows(
    edgead: Any, spine: Any, tiny_model: Path, tmp_path: Path
) -> None:
    if importlib.util.find_spec("tensorrt_rtx") is None:
        pytest.skip("TensorRT-RTX is not installed: pip install 'edgead[tensorrt-rtx]'")
    bundle = tmp_path / "b.edgead"
    common = ("export", tiny_model, "--calib", spine.data, "-o", bundle, "--accept", "--target", ORT)
    made = edgead(
        *common, "--unverified", RTX, "--cuda-arch", "8.6", "--cuda-arch", "8.9", "--workspace", 256
    )
    assert made.exit_code == 0, made.stderr
    assert "not verified here" in next(line for line in made.stdout.splitlines() if line.startswith(RTX))
    assert f"edgead verify BUNDLE DATA --target {RTX}" in made.stdout
    assert f"{RTX} cannot run here: not verified" in made.stderr
    (entry,) = json.loads((bundle / "manifest.json").read_text())["targets"][1:]
    assert entry["identity"]["features"] == ["sm_86", "sm_89"]

    inspected = edgead("inspect", bundle)
    assert inspected.exit_code == 0, inspected.stderr
    assert "not verified" in next(line for line in inspected.stdout.splitlines() if line.startswith(RTX))
    assert f"- {RTX}: not run" in inspected.stdout
    assert json.loads(edgead("inspect", bundle, "--json").stdout)["targets"][1]["verified"] is False

    verified = edgead("verify", bundle, spine.data)
    assert verified.exit_code == 0, verified.stderr
    assert "not verified here" in next(line for line in verified.stdout.splitlines() if line.startswith(RTX))
    for command in (
        ("verify", bundle, spine.data),
        ("run", bundle, spine.data / "test", "-o", tmp_path / "out"),
        ("bench", bundle, "--images", spine.data / "test"),
    ):
        refused = edgead(*command, "--target", RTX)
        assert (refused.exit_code, refused.stdout) == (7, ""), refused.stderr
        assert f"{RTX} (not verified where the bundle was made) cannot run here" in refused.stderr


@pytest.mark.parametrize(
    ("options", "code", "told"),
    [
        (("--target", RTX), 7, f"--unverified {RTX}"),
        (("--target", ORT, "--unverified", "onnxruntime:fp32:cpu"), 2, "named twice"),
        (("--target", ORT, "--unverified", "openvino:fp32"), 2, "cannot be built unverified"),
        (("--target", ORT, "--cuda-arch", "8.6"), 2, "options of TensorRT"),
        (("--target", ORT, "--timing-cache", "c"), 2, "options of TensorRT"),
        (("--target", ORT, "--cuda-compatibility", "ampere_plus"), 2, "options of TensorRT"),
        (("--target", ORT, "--workspace", "512"), 2, "options of TensorRT"),
        (
            ("--target", ORT, "--unverified", RTX, "--cuda-compatibility", "ampere_plus"),
            2,
            "instead of a comp",
        ),
        (("--target", ORT, "--unverified", RTX, "--cuda-arch", "1.0"), 2, "capability 1.0: this library"),
        (("--workspace", "0"), 2, "--workspace"),
    ],
)
def test_what_does_not_fit_costs_no_work(
    options: tuple[str, ...], code: int, told: str, edgead: Any, tmp_path: Path
) -> None:
    if RTX in options and importlib.util.find_spec("tensorrt_rtx") is None:
        pytest.skip("TensorRT-RTX is not installed: pip install 'edgead[tensorrt-rtx]'")
    result = edgead("export", tmp_path / "m", "--calib", tmp_path, "-o", tmp_path / "b", *options)
    assert (result.exit_code, result.stdout) == (code, ""), result.stderr
    assert told in " ".join(result.stderr.split())
    assert not list(tmp_path.iterdir())


def test_help_shows_how(edgead: Any) -> None:
    text = " ".join(edgead("export", "--help").stdout.replace("│", " ").split())
    assert "--unverified" in text
    for example in ("--cuda-arch 8.6", "ampere_plus.", "--timing-cache orin.cache", "--workspace 512"):
        assert example in text


def test_doctor_tells_where_plans_are_built_and_that_they_have_not_run(edgead: Any) -> None:
    states = json.loads(edgead("doctor", "--json").stdout)["runtimes"]
    assert re.search(r"not tensorrt \((not built: |built, not run)", states["native"]["why"])
    if importlib.util.find_spec("tensorrt_rtx") is not None and not states["tensorrt_rtx"]["available"]:
        assert f"not verified here: edgead export --unverified {RTX}" in states["tensorrt_rtx"]["why"]
    assert "--unverified" not in states["tensorrt"]["why"]
