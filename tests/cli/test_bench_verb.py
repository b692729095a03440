"""`edgead bench` on the recorded bundle: real engines on 8×8 images, so that the harness is what is slow."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner, Result

from edgead.cli.app import build

BUNDLE = Path(__file__).resolve().parents[1] / "golden" / "bundle_v1.edgead"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    random = np.random.default_rng(7)
    for name in ("a.png", "b.png", "c.png"):
        assert cv2.imwrite(str(folder / name), random.integers(0, 256, (12, 10, 3), np.uint8))
    return folder


def bench(photos: Path, *options: str) -> Result:
    arguments = ["bench", str(BUNDLE), "--images", str(photos), "--target", "onnxruntime:fp32", *options]
    return CliRunner().invoke(build(), arguments, env={"NO_COLOR": "1"})


def as_json(photos: Path, *options: str) -> tuple[int, dict[str, Any]]:
    result = bench(photos, "--json", *options)
    return result.exit_code, json.loads(result.stdout)


def test_without_targets_it_reports(photos: Path) -> None:
    code, found = as_json(photos, "--queries", "60", "--threads", "1")
    assert code == 0
    assert (found["verdict"], found["complete"], found["queries"], found["images"]) == ("none", True, 60, 3)
    assert (found["scenario"], found["target"], found["runtime"]) == (
        "single-stream",
        "onnxruntime:fp32",
        "python",
    )
    assert 0 < found["latency_ms"]["p50"] <= found["latency_ms"]["p90"] <= found["latency_ms"]["max"]
    assert found["latency_ms"]["p99"] is None
    assert set(found["stages_ms"]) == {"preprocess", "engine", "post"}
    stages = sum(stage["p50"] for stage in found["stages_ms"].values())
    assert 0 < stages < 2 * found["latency_ms"]["p50"]
    assert found["fps"] > 0
    assert found["deadline_misses"] is None
    assert found["warmup_queries"] >= 10
    assert found["environment"]["packages"]["onnxruntime"]


@pytest.mark.parametrize(
    ("options", "code", "verdict"),
    [
        (("--p99", "60s", "--queries", "459"), 0, "pass"),
        (("--p99", "60s", "--queries", "458"), 4, "inconclusive"),
        (("--p99", "1us", "--queries", "20"), 3, "fail"),
        (("--deadline", "1us", "--queries", "20"), 3, "fail"),
        (("--deadline", "60s", "--queries", "20"), 4, "inconclusive"),
        (("--fps", "0.01", "--queries", "20"), 0, "pass"),
        (("--fps", "1e9", "--queries", "20"), 3, "fail"),
        (("--fps", "0.01", "--p99", "1us", "--deadline", "60s", "--queries", "20"), 3, "fail"),
        (("--scenario", "paced", "--fps", "1000", "--p99", "60s", "--queries", "459"), 0, "pass"),
    ],
)
def test_the_verdict_is_the_exit_code(
    photos: Path, options: tuple[str, ...], code: int, verdict: str
) -> None:
    found_code, found = as_json(photos, *options)
    assert (found_code, found["verdict"]) == (code, verdict)


def test_a_person_reads_how_sure_the_p99_is(photos: Path) -> None:
    assert "the p99 of the latency lies between" in bench(photos, "--queries", "1000").stdout
    assert "too few queries" in bench(photos, "--queries", "50").stdout


def test_deadline_misses_are_counted(photos: Path) -> None:
    assert as_json(photos, "--deadline", "1us", "--queries", "20")[1]["deadline_misses"] == 20


def test_a_person_reads_the_verdict_first(photos: Path) -> None:
    result = bench(photos, "--p99", "1us", "--queries", "20")
    assert result.exit_code == 3
    assert result.stdout.startswith("FAIL  onnxruntime:fp32, single-stream, 20 queries on 3 images")
    assert "20 of 20 queries over 0.001 ms" in result.stdout
    assert "p99 ≤ 0.001 ms" in result.stderr
    rows = [line.split()[0] for line in result.stdout.splitlines() if line.strip()]
    assert {"latency", "preprocess", "engine", "post"} <= set(rows)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--p99", "5"), "--p99 5ms"),
        (("--deadline", "5parsec"), "'parsec' is unknown"),
        (("--fps", "-3"), "not a rate"),
        (("--scenario", "paced"), "needs the rate"),
        (("--scenario", "dance"), "there is single-stream, paced"),
        (("--seconds", "0"), "out of range"),
        (("--target", "openvino:int8"), "openvino:int8"),
        (("--target", "onnxruntime"), "openvino:fp32"),
    ],
)
def test_what_cannot_be_asked(photos: Path, options: tuple[str, ...], message: str) -> None:
    result = bench(photos, *options)
    assert result.exit_code == 2
    assert message in result.stderr


def test_no_image_at_all(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    result = bench(tmp_path / "empty")
    assert result.exit_code == 5
    assert "no images" in result.stderr


def test_no_readable_image(tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "x.png").write_bytes(b"")
    result = bench(tmp_path / "broken")
    assert result.exit_code == 5
    assert "x.png" in result.stderr


def test_a_corrupt_image_is_skipped_and_said(photos: Path) -> None:
    (photos / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    result = bench(photos, "--queries", "20")
    assert result.exit_code == 8
    assert "broken.png" in result.stderr
    assert "on 3 images" in result.stdout
    code, found = as_json(photos, "--queries", "20", "--p99", "1us")
    assert code == 3  # a verdict comes first
    assert [Path(path).name for path in found["skipped"]] == ["broken.png"]


def test_one_image_over_and_over_is_warned_of(photos: Path) -> None:
    result = bench(photos / "a.png", "--queries", "20")
    assert result.exit_code == 0
    assert "warning: one image over and over" in result.stdout


def test_mixed_sizes_are_warned_of(photos: Path) -> None:
    assert cv2.imwrite(str(photos / "large.png"), np.zeros((40, 40, 3), np.uint8))
    assert any(
        "2 different sizes" in warning for warning in as_json(photos, "--queries", "20")[1]["warnings"]
    )


def test_seconds_end_a_run_early(photos: Path) -> None:
    code, found = as_json(photos, "--seconds", "0.2", "--queries", "100000000")
    assert code == 0
    assert found["complete"]
    assert 0 < found["queries"] < 100_000_000


def test_ctrl_c_prints_what_was_measured(photos: Path) -> None:
    code = (
        "import signal\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a background job may ignore it
        "from edgead.cli.app import main\n"
        "main()\n"
    )
    arguments = [str(BUNDLE), "--images", str(photos), "--json", "--target", "onnxruntime:fp32"]
    process = subprocess.Popen(
        [sys.executable, "-c", code, "bench", *arguments, "--queries", "100000000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"NO_COLOR": "1"},
    )
    assert process.stderr is not None
    while "single-stream" not in (line := process.stderr.readline()):
        assert line, "it ended before it measured"
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    stdout, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    found = json.loads(stdout)
    assert not found["complete"]
    assert 0 < found["queries"] < 100_000_000
