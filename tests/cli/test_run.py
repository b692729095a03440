from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
from typer.testing import Result

Edgead = Callable[..., Result]
Grey = Callable[..., Path]


def _lines(output: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (output / "predictions.jsonl").read_text().splitlines()]


def test_a_folder_gives_a_line_and_a_picture_for_each_image(
    edgead: Edgead, part: Path, grey: Grey, tmp_path: Path
) -> None:
    for name, value in (("b.png", 200), ("a.png", 40), ("deep/er/c.png", 168)):
        grey(f"images/{name}", value)
    out = tmp_path / "new" / "out"
    result = edgead("run", part, tmp_path / "images", "-o", out)
    assert result.exit_code == 0, result.stderr
    lines = _lines(out)
    assert [line["path"] for line in lines] == [
        str(tmp_path / "images" / name) for name in ("a.png", "b.png", "deep/er/c.png")
    ]
    assert [line["score_raw"] for line in lines] == [30.0, 150.0, 126.0]
    # 0.5 + 0.5 (s - 126) / (126 - 60.75)
    assert [line["score"] for line in lines] == pytest.approx([-0.235632, 0.683908, 0.5], abs=1e-6)
    assert [line["decision"] for line in lines] == ["OK", "NG", "NG"]
    assert lines[0]["regions"] == []
    assert lines[1]["regions"] == [{"box": [0, 0, 8, 8], "area": 64, "peak": 150.0}]
    assert {line["target"] for line in lines} == {"openvino:fp32"}
    assert lines[0]["timings_ms"].keys() == {"preprocess", "engine", "post"}
    assert "error" not in lines[0]
    pictures = sorted(str(path.relative_to(out / "overlays")) for path in out.rglob("*.jpg"))
    assert pictures == ["NG/b.jpg", "NG/deep/er/c.jpg", "OK/a.jpg"]
    assert [line["overlay"] for line in lines] == [
        str(out / "overlays" / name) for name in ("OK/a.jpg", "NG/b.jpg", "NG/deep/er/c.jpg")
    ]
    assert sorted(path.name for path in out.iterdir()) == ["overlays", "predictions.jsonl"]
    assert "3 images: 1 OK, 2 NG" in result.stdout
    assert "running openvino:fp32" in result.stderr, "a target that was not named is named on stderr"


def test_json_is_the_summary_and_nothing_else(edgead: Edgead, part: Path, grey: Grey, tmp_path: Path) -> None:
    good, bad = grey("a.png", 40), grey("b.png", 200)
    out = tmp_path / "out"
    result = edgead(
        "run", part, good, bad, "-o", out, "--json", "--target", "onnxruntime:fp32", "--overlays", "none"
    )
    assert result.exit_code == 0, result.stderr
    summary = json.loads(result.stdout)
    assert (summary["images"], summary["ok"], summary["ng"], summary["errors"]) == (2, 1, 1, [])
    assert summary["worst"][0]["path"] == str(bad)
    assert summary["target"] == "onnxruntime:fp32"
    assert summary["overlays"] is None
    assert not (out / "overlays").exists()
    assert "running" not in result.stderr


def test_only_pictures_that_are_not_ok(edgead: Edgead, part: Path, grey: Grey, tmp_path: Path) -> None:
    grey("images/a.png", 40)
    grey("images/b.png", 200)
    assert edgead("run", part, tmp_path / "images", "-o", tmp_path / "out", "--overlays", "ng").exit_code == 0
    assert [path.name for path in (tmp_path / "out").rglob("*.jpg")] == ["b.jpg"]


def test_pictures_of_images_with_the_same_name_do_not_meet(
    edgead: Edgead, part: Path, grey: Grey, tmp_path: Path
) -> None:
    for name in ("x/a.png", "x/a.bmp", "y/a.png", "z/x/a.png"):
        grey(name, 40)
    folders = [tmp_path / "x", tmp_path / "y", tmp_path / "z" / "x"]
    assert edgead("run", part, *folders, "-o", tmp_path / "out").exit_code == 0
    lines = _lines(tmp_path / "out")
    assert len(lines) == len({line["overlay"] for line in lines}) == 4
    assert all(Path(line["overlay"]).is_file() for line in lines)


def test_one_corrupt_image_among_good_ones(edgead: Edgead, part: Path, grey: Grey, tmp_path: Path) -> None:
    grey("images/a.png", 40)
    broken = tmp_path / "images" / "b.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n and then nothing")
    (tmp_path / "images" / "c.png").write_bytes(b"")
    grey("images/d.png", 200)
    result = edgead("run", part, tmp_path / "images", "-o", tmp_path / "out")
    assert result.exit_code == 8
    assert "2 of 4 images could not be used" in result.stderr
    assert str(broken) in result.stderr
    assert "4 images: 1 OK, 1 NG, 2 ERROR" in result.stdout
    lines = _lines(tmp_path / "out")
    assert [line["decision"] for line in lines] == ["OK", "ERROR", "ERROR", "NG"]
    assert (lines[1]["score_raw"], lines[1]["score"], lines[1]["regions"]) == (None, None, [])
    assert str(broken) in lines[1]["error"]
    assert "0 bytes" in lines[2]["error"]


def test_no_usable_image(edgead: Edgead, part: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.png").write_text("no image")
    for place, told in (
        ("empty", "no images in"),
        ("missing", "does not exist"),
        ("bad", "none of the 1 images"),
    ):
        result = edgead("run", part, tmp_path / place, "-o", tmp_path / f"out-{place}")
        assert result.exit_code == 5, place
        assert told in result.stderr
    assert _lines(tmp_path / "out-bad")[0]["decision"] == "ERROR"
    assert not (tmp_path / "out-empty").exists()


def test_files_of_every_kind(edgead: Edgead, part: Path, grey: Grey, tmp_path: Path) -> None:
    grey("images/bgra.png", 40, (8, 8, 4))
    grey("images/mono.png", 40, (8, 8))
    grey("images/one_pixel.png", 40, (1, 1, 3))
    wide = grey("images/wide.png", 40 << 4, (8, 8), "uint16")  # 12 bit: 640 >> 4 = 40
    result = edgead("run", part, tmp_path / "images", "-o", tmp_path / "a")
    assert result.exit_code == 8
    assert "--bit-depth" in _lines(tmp_path / "a")[3]["error"]
    result = edgead("run", part, tmp_path / "images", "-o", tmp_path / "b", "--bit-depth", 12)
    assert result.exit_code == 0
    assert [line["score_raw"] for line in _lines(tmp_path / "b")] == [30.0] * 4
    assert edgead("run", part, wide, "-o", tmp_path / "c", "--bit-depth", 9).exit_code == 2


def test_an_earlier_run_is_kept_unless_asked(edgead: Edgead, part: Path, grey: Grey, tmp_path: Path) -> None:
    out = tmp_path / "out"
    grey("images/a.png", 40)
    assert edgead("run", part, tmp_path / "images", "-o", out).exit_code == 0
    (out / "notes.txt").write_text("mine")
    before = (out / "predictions.jsonl").read_bytes()
    grey("images/a.png", 200)
    result = edgead("run", part, tmp_path / "images", "-o", out)
    assert result.exit_code == 2
    assert "--overwrite" in result.stderr
    assert (out / "predictions.jsonl").read_bytes() == before
    assert edgead("run", part, tmp_path / "images", "-o", out, "--overwrite").exit_code == 0
    assert [path.relative_to(out).as_posix() for path in out.rglob("*.jpg")] == ["overlays/NG/a.jpg"]
    assert (out / "notes.txt").read_text() == "mine"


def test_a_damaged_bundle_costs_no_earlier_results(
    edgead: Edgead, part: Path, grey: Grey, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    image = grey("a.png", 40)
    assert edgead("run", part, image, "-o", out).exit_code == 0
    graph = part / "graph.onnx"
    data = bytearray(graph.read_bytes())
    data[100] ^= 1
    graph.write_bytes(data)
    result = edgead("run", part, image, "-o", out, "--overwrite")
    assert result.exit_code == 6
    assert "graph.onnx is damaged" in result.stderr
    assert len(_lines(out)) == 1


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("--target", "openvino:int8"), 2, "no target openvino:int8"),
        (("--target", "openvino"), 2, "<engine>:<precision>"),
        (("--overlays", "some"), 2, "some"),
    ],
)
def test_wrong_options(
    edgead: Edgead, part: Path, grey: Grey, tmp_path: Path, arguments: tuple[str, str], code: int, told: str
) -> None:
    result = edgead("run", part, grey("a.png", 40), "-o", tmp_path / "out", *arguments)
    assert result.exit_code == code
    assert told in result.stderr
    assert not (tmp_path / "out").exists()


def test_what_is_no_bundle(edgead: Edgead, grey: Grey, tmp_path: Path) -> None:
    image = grey("a.png", 40)
    assert edgead("run", image, image, "-o", tmp_path / "out").exit_code == 6
    assert edgead("run", tmp_path / "missing", image, "-o", tmp_path / "out").exit_code == 2


def test_a_score_that_is_no_number_is_an_error_not_ok(
    edgead: Edgead, maker: ModuleType, grey: Grey, tmp_path: Path
) -> None:
    import onnx
    from onnx import numpy_helper

    model = onnx.load_from_string(maker.graph())
    model.graph.initializer[0].CopyFrom(
        numpy_helper.from_array(np.full((1, 3, 2, 2), np.nan, np.float32), "weights")
    )
    maker.graph = model.SerializeToString
    maker.build(tmp_path / "nan.edgead")
    image = grey("a.png", 40)
    result = edgead("run", tmp_path / "nan.edgead", image, "-o", tmp_path / "out")
    assert result.exit_code == 7
    assert "does not give on this machine what it gave at export" in result.stderr
    assert not (tmp_path / "out").exists(), "libedgead's self-test comes first"
    result = edgead("run", tmp_path / "nan.edgead", image, "-o", tmp_path / "out", "--runtime", "python")
    assert result.exit_code == 7
    assert "failed on 1 of 1 images" in result.stderr
    line = _lines(tmp_path / "out")[0]
    assert (line["decision"], line["score_raw"], line["score"]) == ("ERROR", None, None)
    assert "no number" in line["error"]
    picture = cv2.imread(line["overlay"])
    assert picture is not None
    assert Path(line["overlay"]).parent.name == "ERROR"


def test_an_output_place_that_cannot_be(edgead: Edgead, part: Path, grey: Grey, tmp_path: Path) -> None:
    image = grey("a.png", 40)
    result = edgead("run", part, image, "-o", image / "out")
    assert result.exit_code == 2
    assert "cannot be written" in result.stderr


def test_a_full_disk_is_said_and_leaves_no_finished_file(part: Path, grey: Grey, tmp_path: Path) -> None:
    out = tmp_path / "out"
    images = [grey(f"{index}.png", 40) for index in range(8)]
    limited = (  # no file may grow beyond 1 kB: what a full disk does, but for this process only
        "import resource, signal, sys\n"
        "from edgead.cli.app import main\n"
        "import edgead.runtimes._registry as registry\n"
        "registry.engines()\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024))\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", limited, "run", part, *images, "-o", out, "--overlays", "none", "-q"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert "cannot be written" in done.stderr
    assert not (out / "predictions.jsonl").exists()


def test_ctrl_c_keeps_whole_lines(part: Path, grey: Grey, tmp_path: Path) -> None:
    images = tmp_path / "many"
    images.mkdir()
    image = grey("a.png", 40)
    for index in range(20_000):
        os.link(image, images / f"{index:05}.png")
    out = tmp_path / "out"
    listening = (  # a background job may ignore SIGINT
        "import signal\n"
        "from edgead.cli.app import main\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "main()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", listening, "run", part, images, "-o", out, "--overlays", "none"],
        stderr=subprocess.PIPE,
        text=True,
    )
    partial = out / "predictions.jsonl.partial"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (partial.exists() and partial.stat().st_size > 1000):
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, talk = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "predictions.jsonl.partial" in talk
    assert "Traceback" not in talk
    assert not (out / "predictions.jsonl").exists()
    lines = partial.read_text().splitlines()
    assert len(lines) >= 3
    assert all(json.loads(line)["score_raw"] == 30.0 for line in lines)


def test_the_zip_form_runs_too(edgead: Edgead, part: Path, grey: Grey, tmp_path: Path) -> None:
    from edgead.bundle.writer import pack

    pack(part, tmp_path / "part.zip")
    shutil.rmtree(part)
    assert edgead("run", tmp_path / "part.zip", grey("a.png", 40), "-o", tmp_path / "out").exit_code == 0
    assert _lines(tmp_path / "out")[0]["score_raw"] == 30.0


def test_a_device_without_extras_runs_what_it_can(part: Path, grey: Grey, tmp_path: Path) -> None:
    """Only the base dependencies: the second target, ONNX Runtime, takes over, and stderr says so."""
    bare = (
        "import sys\n"
        "for name in ('torch', 'openvino', 'onnx', 'hdrh', 'scipy'):\n    sys.modules[name] = None\n"
        "from edgead.cli.app import main\n"
        "main()\n"
    )
    arguments = ["run", str(part), str(grey("a.png", 40)), "-o", str(tmp_path / "out")]
    done = subprocess.run(
        [sys.executable, "-c", bare, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "running onnxruntime:fp32" in done.stderr
    assert _lines(tmp_path / "out")[0]["score_raw"] == 30.0
    wanted = [*arguments, "--overwrite", "--target", "openvino:fp32"]
    done = subprocess.run([sys.executable, "-c", bare, *wanted], capture_output=True, text=True, check=False)
    assert done.returncode == 7, "a target that was named never falls back"
    assert "pip install 'edgead[openvino]'" in done.stderr
    assert len(_lines(tmp_path / "out")) == 1, "the earlier results are still there"
