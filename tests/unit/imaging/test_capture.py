"""Videos are written here and read back; a camera is a class in the place of cv2.VideoCapture."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edgead.errors import ImageError, InputError
from edgead.imaging.capture import Capture

GREYS = [0, 60, 120, 180, 240]


class Camera:
    """Camera 0 gives `frames` frames, one per `period` seconds; frame n is of the grey value n % 256."""

    frames = 50
    period = 0.0
    released = 0

    def __init__(self, number: int, *_: int) -> None:
        self.number, self.given = number, 0

    def isOpened(self) -> bool:
        return self.number == 0

    def read(self) -> tuple[bool, Any]:
        time.sleep(self.period)
        if self.given == self.frames:
            return False, None
        self.given += 1
        return True, np.full((8, 8, 3), (self.given - 1) % 256, np.uint8)

    def release(self) -> None:
        type(self).released += 1


@pytest.fixture
def camera(monkeypatch: pytest.MonkeyPatch) -> type[Camera]:
    kind = type("Camera", (Camera,), {"released": 0})
    monkeypatch.setattr(cv2, "VideoCapture", kind)
    return kind


@pytest.fixture
def clip(tmp_path: Path) -> Callable[..., Path]:
    def write(name: str = "clip.avi", greys: list[int] = GREYS, fps: float = 25.0) -> Path:
        path = tmp_path / name
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), fps, (32, 16))
        assert writer.isOpened()
        for grey in greys:
            writer.write(np.full((16, 32, 3), grey, np.uint8))
        writer.release()
        return path

    return write


def test_a_video_gives_every_frame_with_its_place_and_time(clip: Callable[..., Path]) -> None:
    with Capture(clip()) as capture:
        assert capture.total == 5
        shots = list(capture)
    assert [shot.index for shot in shots] == [0, 1, 2, 3, 4]
    assert [shot.timestamp_ms for shot in shots] == pytest.approx([0, 40, 80, 120, 160])
    for shot, grey in zip(shots, GREYS, strict=True):
        assert shot.frame.data.shape == (16, 32, 3)
        assert shot.frame.pixel_format == "BGR8"
        assert np.abs(shot.frame.data.astype(int) - grey).max() <= 3  # MJPG loses a little


def test_a_slow_consumer_loses_no_frame_of_a_video(clip: Callable[..., Path]) -> None:
    with Capture(clip(greys=[80] * 30), capacity=2) as capture:
        shots = []
        for shot in capture:
            time.sleep(0.01)
            shots.append(shot.index)
    assert shots == list(range(30))
    assert capture.dropped == 0


def test_a_video_can_be_left_early_and_its_thread_ends(clip: Callable[..., Path]) -> None:
    before = threading.active_count()
    with Capture(clip(greys=[80] * 300)) as capture:
        assert next(iter(capture)).index == 0
    deadline = time.monotonic() + 10
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() == before


def test_frames_that_find_the_queue_full_are_dropped_and_counted(camera: type[Camera]) -> None:
    camera.frames, camera.period = 60, 0.002
    indices: list[int] = []

    def consume(capture: Capture) -> None:
        for place, shot in enumerate(capture):
            time.sleep(0.01)  # five periods
            indices.append(shot.index)
            assert shot.frame.data[0, 0, 0] == shot.index % 256, "the pixels are those of the index"
            # every frame before it was handed over or dropped
            assert shot.index == place + shot.dropped

    with Capture(0, capacity=3) as capture, pytest.raises(InputError, match="stopped after 60 frames"):
        consume(capture)
    assert len(indices) + capture.dropped == 60
    assert capture.dropped >= 30
    assert all(left < right for left, right in itertools.pairwise(indices))
    assert camera.released == 1


def test_a_camera_that_is_slower_than_its_consumer_loses_nothing(camera: type[Camera]) -> None:
    camera.frames, camera.period = 10, 0.01
    with Capture(0) as capture:
        shots = list(itertools.islice(capture, 10))
    assert [(shot.index, shot.dropped) for shot in shots] == [(place, 0) for place in range(10)]
    assert abs(shots[-1].timestamp_ms - time.time() * 1e3) < 60_000


def test_stop_ends_a_camera_after_what_waits(camera: type[Camera]) -> None:
    camera.frames, camera.period = 10**9, 0.001
    with Capture(0, capacity=2) as capture:
        shots = iter(capture)
        judged = list(itertools.islice(shots, 3))
        time.sleep(0.2)  # two wait now
        capture.stop()
        time.sleep(0.2)
        dropped = capture.dropped
        judged += shots
    assert len(judged) == 5, "the two that waited still come"
    assert capture.dropped == dropped
    assert judged[-1].index < 5 + dropped


def test_seconds_end_a_camera_and_a_video(camera: type[Camera]) -> None:
    camera.frames, camera.period = 10**9, 0.01
    begin = time.monotonic()
    with Capture(0, seconds=0.2) as capture:
        count = sum(1 for _ in capture)
    assert 0.2 <= time.monotonic() - begin < 5
    assert 1 <= count <= 20


def test_a_camera_that_is_not_there(camera: type[Camera]) -> None:
    with pytest.raises(InputError, match=r"camera 7 cannot be opened: this machine has .*; check its number"):
        Capture(7)
    assert camera.released == 1


def test_no_camera_here_is_said_without_opencv_s_own_lines(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match="camera 97 cannot be opened"):
        Capture(97)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("content", [b"", b"RIFF no video" * 50], ids=["empty", "text"])
def test_what_is_no_video(tmp_path: Path, content: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "clip.avi"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=r"clip\.avi is damaged, .* not a video .*ffmpeg -i clip\.avi"):
        Capture(path)
    assert capfd.readouterr().err == ""


def test_a_video_that_lost_its_second_half_is_not_taken_for_a_shorter_one(clip: Callable[..., Path]) -> None:
    path = clip(greys=[80] * 40)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle:-1000] = bytes(len(content[middle:-1000]))
    path.write_bytes(content)
    indices = []
    with Capture(path) as capture, pytest.raises(ImageError, match=r"announces 40 frames and \d+ could be"):
        indices.extend(shot.index for shot in capture)
    assert indices == list(range(len(indices)))


def test_a_frame_that_is_no_8_bit_picture(camera: type[Camera], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(camera, "read", lambda self: (True, np.zeros((8, 8, 2), np.uint8)))
    with Capture(0) as capture, pytest.raises(ImageError, match=r"^camera 0 gives uint8"):
        next(iter(capture))


def test_an_error_inside_opencv_ends_the_stream_with_a_message(
    camera: type[Camera], monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(self: Camera) -> tuple[bool, Any]:
        raise cv2.error("no memory")

    monkeypatch.setattr(camera, "read", read)
    with Capture(0) as capture, pytest.raises(ImageError, match="camera 0 cannot be read further: no memory"):
        next(iter(capture))
