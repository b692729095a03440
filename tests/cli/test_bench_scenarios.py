"""`edgead bench` beyond one query after the other: scenarios, targets.toml, comparison, summary, report."""

from __future__ import annotations

import json
import os
import platform
import shutil
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


def bench(photos: Path, *options: object, target: str | None = "onnxruntime:fp32") -> Result:
    chosen = () if target is None else ("--target", target)
    words = ["bench", BUNDLE, "--images", photos, *chosen, *options]
    return CliRunner().invoke(build(), list(map(str, words)), env={"NO_COLOR": "1"})


def as_json(photos: Path, *options: object, **given: Any) -> tuple[int, dict[str, Any]]:
    result = bench(photos, "--json", *options, **given)
    assert result.stdout, result.stderr
    return result.exit_code, json.loads(result.stdout)


def test_paced_with_jitter_and_the_fields_that_others_rely_on(photos: Path) -> None:
    code, found = as_json(
        photos, "--scenario", "paced", "--fps", 200, "--jitter", "1ms", "--queries", 60, "--deadline", "60s"
    )
    assert code == 4
    assert (found["report_version"], found["rate"], found["dropped"], found["queries"]) == (2, 200, 0, 60)
    assert found["bundle"] == "bundle_v1.edgead"
    assert found["latency_ms"]["p50"] >= found["service_ms"]["p50"] > 0
    assert found["fps"] == pytest.approx(200, rel=0.3)
    for field in ("verdict", "scenario", "target", "runtime", "fps", "deadline_misses", "environment"):
        assert field in found


def test_a_rate_that_cannot_be_held_ends_and_says_by_how_much(photos: Path) -> None:
    began = time.monotonic()
    options = ("--scenario", "paced", "--fps", 1e5, "--queue", 5, "--queries", 20_000)
    result = bench(photos, *options)
    assert time.monotonic() - began < 60  # 0.2 s of arrivals
    assert result.exit_code == 3
    assert "arrivals found the queue full" in result.stderr
    assert "% more images come than can be answered" in result.stderr
    code, found = as_json(photos, *options)
    assert code == 3
    assert found["dropped"] + found["queries"] == 20_000
    assert found["dropped"] > 10_000
    assert any("were dropped because 5 were waiting" in warning for warning in found["warnings"])


def test_idle_gap_has_a_group_per_pause(photos: Path) -> None:
    options = ("--scenario", "idle-gap", "--pauses", "0,1ms,20ms", "--queries", 60)
    code, found = as_json(photos, *options, "--deadline", "1us")
    assert code == 3
    assert {group["name"]: group["queries"] for group in found["groups"]} == {
        f"{pause} s{warm}": 10 for pause in ("0", "0.001", "0.02") for warm in ("", ", kept warm")
    }
    assert found["queries"] == 20  # those after a pause and left alone
    assert found["deadline_misses"] == 20
    _, warm = as_json(photos, *options, "--keep-warm", "2ms")
    assert warm["queries"] == 20


def test_several_cameras(photos: Path) -> None:
    options = ("--scenario", "multi-camera", "--fps", 50, "--streams", 3, "--queries", 20)
    code, found = as_json(photos, *options)
    assert code in (0, 3)  # 3 threads on a busy machine may fall behind
    assert found["streams"] == 3
    assert [group["name"] for group in found["groups"]] == ["camera 1", "camera 2", "camera 3"]
    assert found["queries"] + found["dropped"] == 60
    assert found["threads"] >= 1


def test_offline(photos: Path) -> None:
    code, found = as_json(photos, "--scenario", "offline", "--streams", 2, "--queries", 200, "--fps", 0.01)
    assert (code, found["verdict"]) == (0, "pass")
    assert 200 <= found["queries"] <= 202
    assert found["streams"] == 2


def test_soak(photos: Path) -> None:
    code, found = as_json(photos, "--scenario", "soak", "--seconds", 0.5, "--deadline", "60s")
    assert code in (0, 4)  # 459 queries in half a second are not for every machine
    assert found["soak"]["windows"][0]["queries"] == found["queries"] > 0
    assert found["soak"]["windows"][-1]["rss_bytes"] > 10**6
    assert {"rss_rises", "p99_rises", "rss_slope_mb_per_hour", "p99_slope_ms_per_hour"} <= set(found["soak"])
    assert found["images"] == 3


def test_decoding_can_be_a_stage(photos: Path) -> None:
    code, found = as_json(photos, "--decode", "--queries", 30)
    assert code == 0
    assert list(found["stages_ms"]) == ["decode", "preprocess", "engine", "post"]
    assert found["stages_ms"]["decode"]["p50"] > 0


def test_a_run_ends_when_its_targets_are_decided(photos: Path) -> None:
    code, found = as_json(photos, "--p99", "60s")
    assert (code, found["verdict"], found["queries"]) == (0, "pass", 1_000)
    code, found = as_json(photos, "--p99", "1us")
    assert (code, found["verdict"], found["queries"]) == (3, "fail", 1_000)


def test_p99_9_needs_more_than_500_queries(photos: Path) -> None:
    result = bench(photos, "--p999", "60s", "--queries", 500)
    assert result.exit_code == 4
    assert result.stdout.startswith("INCONCLUSIVE")
    assert "4603 queries carry a p99.9" in result.stderr
    assert bench(photos, "--p999", "60s", "--queries", 4_603).exit_code == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--jitter", "1ms"), "--jitter is for images that arrive at --fps"),
        (("--scenario", "soak", "--queue", "5"), "--queue is for images that arrive at --fps"),
        (("--streams", "2"), "--streams is for multi-camera or offline"),
        (("--pauses", "1s"), "--pauses is for idle-gap"),
        (("--scenario", "idle-gap", "--fps", "5"), "in idle-gap the pauses are the rate"),
        (("--scenario", "idle-gap", "--pauses", "1s,fast"), "--pauses 'fast' is not a duration"),
        (("--scenario", "multi-camera"), "needs the rate at which images arrive"),
        (("--scenario", "paced", "--fps", "100", "--jitter", "6ms"), "at most half of the period, 5 ms"),
        (("--scenario", "paced", "--fps", "100", "--queue", "0"), "at least 1 image"),
        (("--scenario", "offline", "--streams", "0"), "give 1 to 64"),
        (("--device", "x"), "--device names a row of --targets"),
        (("--all-targets",), "leave --target out"),
        (("--html", "/nowhere/r.html"), "cannot be written"),
        (("--against", str(BUNDLE), "--scenario", "offline"), "that is no offline"),
    ],
)
def test_what_does_not_fit_together(photos: Path, options: tuple[str, ...], message: str) -> None:
    result = bench(photos, *options)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stdout == ""


def test_targets_come_from_a_file(photos: Path, tmp_path: Path) -> None:
    file = tmp_path / "targets.toml"
    file.write_text(
        '[[target]]\nbundle = "bundle_v1"\ndevice = "line-7"\ntarget = "onnxruntime:fp32"\np99 = "1us"\n'
        f'queries = 20\n[[target]]\nbundle = "bundle_*"\ndevice = "{platform.node()}"\n'
        'target = "onnxruntime:fp32"\np99 = "60s"\nqueries = 459\n'
    )
    code, found = as_json(photos, "--targets", file, "--device", "line-7", target=None)
    assert (code, found["verdict"], found["queries"]) == (3, "fail", 20)
    code, found = as_json(photos, "--targets", file, target=None)
    assert (code, found["verdict"], found["target"]) == (0, "pass", "onnxruntime:fp32")
    result = bench(photos, "--targets", file, "--p99", "5ms", target=None)
    assert result.exit_code == 2
    assert "leave --p99 out" in result.stderr
    result = bench(photos, "--targets", file, "--device", "moon", target=None)
    assert result.exit_code == 2
    assert "bundle_v1 on line-7" in result.stderr
    file.write_text("[[target]]\nbundle = 'a'\nspeed = 3")
    result = bench(photos, "--targets", file, target=None)
    assert result.exit_code == 5
    assert "unknown key 'speed'" in result.stderr


def scaled(found: dict[str, Any], factor: float) -> str:
    """A result whose latencies were `factor` times as long."""
    latency = {name: value and value * factor for name, value in found["latency_ms"].items()}
    intervals = {
        name: [bound and bound * factor for bound in bounds]
        for name, bounds in found["latency_interval_ms"].items()
    }
    return json.dumps({**found, "latency_ms": latency, "latency_interval_ms": intervals})


def test_an_earlier_result_is_a_gate(photos: Path, tmp_path: Path) -> None:
    before = tmp_path / "before.json"
    _, found = as_json(photos, "--queries", 300)
    before.write_text(scaled(found, 100))
    assert bench(photos, "--queries", 300, "--against", before).exit_code == 0
    before.write_text(scaled(found, 0.01))
    result = bench(photos, "--queries", 300, "--against", before)
    assert result.exit_code == 3
    assert "not slower than before.json" in result.stderr
    before.write_text(json.dumps({**found, "report_version": 99}))
    result = bench(photos, "--queries", 300, "--against", before)
    assert result.exit_code == 5
    assert "report version 99" in result.stderr
    assert bench(photos, "--against", tmp_path / "none.json").exit_code == 5


def test_two_bundles_are_measured_in_turn(photos: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.edgead"
    shutil.copytree(BUNDLE, other)
    code, found = as_json(photos, "--queries", 400, "--against", other)
    assert found["comparison"]["kind"] == "bundle"
    # The same bundle twice: the ratio of pairs is 1, whatever the machine does.
    assert found["comparison"]["ratios"]["paired p50"]["ratio"] == pytest.approx(1, abs=0.15)
    assert found["judgements"][-1]["target"] == "not slower than other.edgead by more than 5 %"
    assert code == {"pass": 0, "fail": 3, "inconclusive": 4}[found["verdict"]]


def test_all_targets_are_ranked(photos: Path, tmp_path: Path) -> None:
    page = tmp_path / "r.html"
    options = ("--all-targets", "--queries", 100, "--html", page)
    code, found = as_json(photos, *options, target=None)
    assert code == 0
    measured = [report["target"] for report in found["targets"]]
    assert sorted([*measured, *found["unavailable"]]) == sorted(
        entry["target"] for entry in json.loads((BUNDLE / "manifest.json").read_text())["targets"]
    )
    medians = [report["latency_ms"]["p50"] for report in found["targets"]]
    assert medians == sorted(medians)  # 100 queries carry no p99
    text = page.read_text()
    assert all(name in text for name in measured)
    result = bench(photos, "--all-targets", "--queries", 60, "--deadline", "1us", target=None)
    assert result.exit_code == 3
    assert result.stdout.startswith("FAIL")
    assert all(name in result.stdout for name in measured)


def test_a_summary_is_appended(photos: Path, tmp_path: Path) -> None:
    file = tmp_path / "summary.md"
    file.write_text("# before\n")
    assert bench(photos, "--queries", 20, "--deadline", "1us", "--summary", file).exit_code == 3
    assert bench(photos, "--queries", 20, "--summary", file).exit_code == 0
    text = file.read_text()
    assert text.startswith("# before\n### bundle_v1.edgead: single-stream\n")
    assert text.count("### bundle_v1.edgead") == 2
    assert "❌ FAIL" in text


def test_the_report_shows_what_the_bundle_sees(photos: Path, tmp_path: Path) -> None:
    page, accuracy = tmp_path / "r.html", tmp_path / "verify.json"
    accuracy.write_text(json.dumps({"targets": {"onnxruntime:fp32": {"image_auroc": 0.97}}}))
    result = bench(photos, "--queries", 60, "--html", page, "--accuracy", accuracy)
    assert result.exit_code == 0, result.stderr
    text = page.read_text()
    assert text.count("data:image/jpeg;base64,") == 3
    assert "Image AUROC over the latency" in text
    assert "b.png" in text
    accuracy.write_text("{}")
    assert bench(photos, "--queries", 60, "--html", page, "--accuracy", accuracy).exit_code == 5


@pytest.mark.parametrize(
    "options",
    [
        ("--scenario", "paced", "--fps", "200", "--queries", "1000000"),
        ("--scenario", "multi-camera", "--fps", "50", "--queries", "1000000"),
        ("--scenario", "offline", "--queries", "100000000"),
        ("--scenario", "idle-gap", "--pauses", "1ms,5ms", "--queries", "1000000"),
        ("--scenario", "soak", "--seconds", "86400"),
    ],
    ids=lambda options: options[1],
)
def test_ctrl_c_keeps_what_was_measured_in_every_scenario(
    photos: Path, tmp_path: Path, options: tuple[str, ...]
) -> None:
    code = (
        "import signal\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a background job may ignore it
        "from edgead.cli.app import main\n"
        "main()\n"
    )
    page = tmp_path / "r.html"
    words = [str(BUNDLE), "--images", str(photos), "--json", "--target", "onnxruntime:fp32", "--p99", "60s"]
    process = subprocess.Popen(
        [sys.executable, "-c", code, "bench", *words, *options, "--html", str(page)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"NO_COLOR": "1"},
    )
    assert process.stderr is not None
    while options[1] not in (line := process.stderr.readline()):
        assert line, "it ended before it measured"
    time.sleep(1.0)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 130, stderr
    found = json.loads(stdout)
    assert not found["complete"]
    assert found["queries"] > 0
    assert found["verdict"] == "inconclusive"  # a part of a run passes nothing
    assert "Interrupted" in page.read_text()
