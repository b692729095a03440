"""`edgead run` on videos and cameras: nothing of a video is lost, what a camera loses is counted."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from typer.testing import Result

Edgead = Callable[..., Result]
Grey = Callable[..., Path]

# A camera in the place of cv2.VideoCapture, for this process and as text for another one.
CAMERA = """
import time
import cv2
import numpy as np

class Camera:
    period, frames = 0.01, 10**9
    def __init__(self, number, *rest):
        self.number, self.given = number, 0
    def isOpened(self):
        return self.number == 1
    def get(self, what):
        return 0.0
    def read(self):
        time.sleep(self.period)
        if self.given == self.frames:
            return False, None
        self.given += 1
        return True, np.full((8, 8, 3), 200 if self.given % 2 else 40, np.uint8)
    def release(self):
        pass
"""


def _lines(output: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (output / "predictions.jsonl").read_text().splitlines()]


@pytest.fixture
def camera(monkeypatch: pytest.MonkeyPatch) -> Any:
    names: dict[str, Any] = {}
    exec(CAMERA, names)
    monkeypatch.setattr(cv2, "VideoCapture", names["Camera"])
    return names["Camera"]


@pytest.fixture
def clip(tmp_path: Path) -> Callable[..., Path]:
    def write(name: str, greys: list[int]) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25.0, (32, 32))
        for grey in greys:
            writer.write(np.full((32, 32, 3), grey, np.uint8))
        writer.release()
        return path

    return write


def test_a_video_gives_a_line_and_a_picture_for_each_frame(
    edgead: Edgead, part: Path, clip: Callable[..., Path], tmp_path: Path
) -> None:
    video, out = clip("line/clip.avi", [40, 200, 40, 200]), tmp_path / "out"
    result = edgead("run", part, video, "-o", out)
    assert result.exit_code == 0, result.stderr
    lines = _lines(out)
    assert [line["path"] for line in lines] == [f"{video}#{index:06}" for index in range(4)]
    assert [line["frame"] for line in lines] == [0, 1, 2, 3]
    assert [line["timestamp_ms"] for line in lines] == [0.0, 40.0, 80.0, 120.0]
    assert [line["decision"] for line in lines] == ["OK", "NG", "OK", "NG"]
    assert [line["score_raw"] for line in lines] == pytest.approx([30, 150, 30, 150], abs=3)  # MJPG
    pictures = sorted(str(path.relative_to(out / "overlays")) for path in out.rglob("*.jpg"))
    assert pictures == [
        f"{decision}/clip.avi/{index:06}.jpg"
        for decision, index in (("NG", 1), ("NG", 3), ("OK", 0), ("OK", 2))
    ]
    assert "dropped" not in result.stdout


def test_videos_and_images_together(
    edgead: Edgead, part: Path, clip: Callable[..., Path], grey: Grey, tmp_path: Path
) -> None:
    one, two = clip("a/clip.avi", [40, 40]), clip("b/clip.avi", [200])
    image = grey("images/x.png", 40)
    out = tmp_path / "out"
    result = edgead("run", part, one, image, two, "-o", out, "--json")
    assert result.exit_code == 0, result.stderr
    summary = json.loads(result.stdout)
    assert (summary["images"], summary["ok"], summary["ng"], summary["dropped"]) == (4, 3, 1, 0)
    lines = _lines(out)
    paths = [f"{one}#000000", f"{one}#000001", str(image), f"{two}#000000"]
    assert [line["path"] for line in lines] == paths
    assert "frame" not in lines[2], "an image's line is as it always was"
    assert len({line["overlay"] for line in lines}) == 4


def test_frames_and_seconds_end_a_video(
    edgead: Edgead, part: Path, clip: Callable[..., Path], tmp_path: Path
) -> None:
    video = clip("clip.avi", [40] * 50)
    assert edgead("run", part, video, "-o", tmp_path / "a", "--frames", 7).exit_code == 0
    assert [line["frame"] for line in _lines(tmp_path / "a")] == list(range(7))


def test_an_undecodable_video_is_an_error_line_and_the_others_go_on(
    edgead: Edgead, part: Path, clip: Callable[..., Path], tmp_path: Path
) -> None:
    bad, good = tmp_path / "bad.mp4", clip("good.avi", [40])
    bad.write_bytes(b"no video at all")
    result = edgead("run", part, bad, good, "-o", tmp_path / "out")
    assert result.exit_code == 8
    assert "1 of 2 images could not be used" in result.stderr
    broken, fine = _lines(tmp_path / "out")
    assert (broken["path"], broken["decision"], broken["cause"]) == (str(bad), "ERROR", "image")
    assert "ffmpeg -i bad.mp4" in broken["error"]
    assert fine["decision"] == "OK"
    assert edgead("run", part, bad, "-o", tmp_path / "alone").exit_code == 5


def test_the_frame_at_which_a_video_breaks_off_is_an_error(
    edgead: Edgead, part: Path, clip: Callable[..., Path], tmp_path: Path
) -> None:
    video = clip("clip.avi", [40] * 40)
    content = bytearray(video.read_bytes())
    middle = len(content) // 2
    content[middle:-1000] = bytes(len(content[middle:-1000]))
    video.write_bytes(content)
    result = edgead("run", part, video, "-o", tmp_path / "out", "--overlays", "none")
    assert result.exit_code == 8
    *judged, last = _lines(tmp_path / "out")
    assert last["decision"] == "ERROR"
    assert (last["path"], last["frame"]) == (f"{video}#{len(judged):06}", len(judged))
    assert "announces 40 frames" in last["error"]


@pytest.mark.parametrize("name", ["1", "camera:1"])
def test_a_camera_is_judged_until_its_number_of_frames(
    edgead: Edgead, part: Path, camera: Any, tmp_path: Path, name: str
) -> None:
    camera.period = 0.2  # slow: nothing is dropped
    before = time.time() * 1e3
    result = edgead("run", part, name, "-o", tmp_path / "out", "--frames", 4)
    assert result.exit_code == 0, result.stderr
    lines = _lines(tmp_path / "out")
    assert [line["path"] for line in lines] == [f"camera:1#{index:06}" for index in range(4)]
    assert [line["decision"] for line in lines] == ["NG", "OK", "NG", "OK"]
    moments = [line["timestamp_ms"] for line in lines]
    assert moments == sorted(moments)
    assert before <= moments[0]
    assert moments[-1] <= time.time() * 1e3
    assert {path.parent.name for path in (tmp_path / "out").rglob("*.jpg")} == {"camera-1"}


def test_dropped_frames_are_counted_said_and_no_success(
    edgead: Edgead, part: Path, camera: Any, tmp_path: Path
) -> None:
    camera.period = 0.0
    result = edgead("run", part, "camera:1", "-o", tmp_path / "out", "--frames", 20, "--json")
    assert result.exit_code == 8, "finished, but nobody looked at some of the parts"
    lines = _lines(tmp_path / "out")
    summary = json.loads(result.stdout)
    assert (summary["images"], len(lines)) == (20, 20)
    assert summary["dropped"] == lines[-1]["frame"] + 1 - 20 > 0
    assert f"{summary['dropped']} of {lines[-1]['frame'] + 1} frames were dropped" in result.stderr
    result = edgead("run", part, "1", "-o", tmp_path / "out", "--frames", 20, "--overwrite")
    assert "frames dropped" in result.stdout


def test_seconds_end_a_camera_and_every_frame_is_accounted_for(
    edgead: Edgead, part: Path, camera: Any, tmp_path: Path
) -> None:
    made: list[Any] = []
    start = camera.__init__

    def remember(self: Any, *arguments: Any) -> None:
        start(self, *arguments)
        made.append(self)

    camera.__init__ = remember
    camera.period = 0.001
    result = edgead("run", part, "1", "-o", tmp_path / "out", "--seconds", 0.5, "--json")
    summary = json.loads(result.stdout)
    assert summary["images"] + summary["dropped"] == made[0].given
    assert result.exit_code == (8 if summary["dropped"] else 0)


def test_a_camera_that_breaks_off_leaves_a_finished_file_and_an_error(
    edgead: Edgead, part: Path, camera: Any, tmp_path: Path
) -> None:
    camera.frames, camera.period = 3, 0.2
    result = edgead("run", part, "1", "-o", tmp_path / "out")
    assert result.exit_code == 8
    assert "camera 1 stopped after 3 frames" in result.stderr
    assert [line["decision"] for line in _lines(tmp_path / "out")] == ["NG", "OK", "NG", "ERROR"]


def test_ctrl_c_is_the_normal_end_of_a_camera(part: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code = CAMERA + (
        "import signal\n"
        "cv2.VideoCapture = Camera\n"
        "Camera.period = 0.05\n"
        "from edgead.cli.app import main\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "main()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, "run", part, "1", "-o", out, "--overlays", "none"],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    partial = out / "predictions.jsonl.partial"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (partial.exists() and partial.stat().st_size > 1000):
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    said, talk = process.communicate(timeout=60)
    assert process.returncode == 0, talk
    assert "Ctrl-C ends the run" in talk
    lines = _lines(out)
    assert len(lines) >= 3
    assert [line["frame"] for line in lines] == list(range(len(lines)))
    assert f"{len(lines)} images" in said
    assert not partial.exists()


def test_ctrl_c_interrupts_a_video_and_keeps_whole_lines(
    part: Path, clip: Callable[..., Path], tmp_path: Path
) -> None:
    video, out = clip("long.avi", [40] * 3000), tmp_path / "out"
    code = (
        "import signal\n"
        "from edgead.cli.app import main\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "main()\n"
    )
    words = [sys.executable, "-c", code, "run", part, video, "-o", out]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    partial = out / "predictions.jsonl.partial"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (partial.exists() and partial.stat().st_size > 1000):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, talk = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "predictions.jsonl.partial" in talk
    assert "Traceback" not in talk
    lines = [json.loads(line) for line in partial.read_text().splitlines()]
    assert [line["frame"] for line in lines] == list(range(len(lines)))
    assert 3 <= len(lines) < 3000


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("0",), 5, "camera 0 cannot be opened"),
        (("camera:x",), 2, "a camera is a number, such as camera:0"),
        (("1", "camera:1"), 2, "give it alone"),
        (("1", "--seconds", "0"), 2, "--seconds 0"),
        (("picture.png", "--frames", "3"), 2, "images end by themselves"),
    ],
)
def test_what_cannot_be_asked_of_streams(
    edgead: Edgead, part: Path, camera: Any, grey: Grey, tmp_path: Path, words: Any, code: int, told: str
) -> None:
    image = str(grey("picture.png", 40))
    given = [image if word == "picture.png" else word for word in words]
    result = edgead("run", part, *given, "-o", tmp_path / "out")
    assert result.exit_code == code
    assert told in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_number_that_is_a_folder_too_is_not_guessed(
    edgead: Edgead, part: Path, camera: Any, grey: Grey, tmp_path: Path
) -> None:
    here = Path.cwd() / "1"
    here.mkdir()
    shutil.copy(grey("a.png", 40), here)
    try:
        result = edgead("run", part, "1", "-o", tmp_path / "out")
        assert result.exit_code == 2
        assert "write ./1 or camera:1" in result.stderr
        assert edgead("run", part, "./1", "-o", tmp_path / "out").exit_code == 0
        assert _lines(tmp_path / "out")[0]["decision"] == "OK"
    finally:
        shutil.rmtree(here)


def test_the_api_takes_a_path_for_a_file_and_a_string_for_a_camera(
    part: Path, camera: Any, grey: Grey, tmp_path: Path
) -> None:
    from edgead import run

    camera.period = 0.1
    summary = run(part, ["camera:1"], tmp_path / "out", frames=2, overlays="none")
    assert (summary.images, summary.dropped) == (2, 0)
    assert run(part, [str(grey("a.png", 40))], tmp_path / "other", overlays="none").ok == 1
