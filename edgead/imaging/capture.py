"""Frames of a video or a camera: OpenCV reads them in a thread of its own, a bounded queue holds them."""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from edgead.errors import ImageError, InputError
from edgead.imaging.frame import Frame

VIDEO_SUFFIXES = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv")
QUEUE = 4
"""Frames that wait at most: a longer queue would only make a camera's answers older."""

# FFmpeg's own lines on stderr say less than the errors here. It reads the variable when a file is opened.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

_POLL_S = 0.1


@dataclass(frozen=True, slots=True, eq=False)
class Captured:
    """One frame of a stream.

    Attributes:
        frame: its pixels.
        index: its place in the stream, from 0; dropped frames count.
        timestamp_ms: of a video, its place in it; of a camera, when it came, since 1970 (UTC).
        dropped: frames of the stream that were dropped before it.
    """

    frame: Frame
    index: int
    timestamp_ms: float
    dropped: int


class Capture:
    """An opened video or camera, to be iterated over once, by one thread.

    A video's reader waits where the queue is full. A camera cannot wait: a frame that finds the queue full is
    dropped and counted.

    Args:
        source: a video file, or a camera's number.
        seconds: stop reading after so long; None = at the end of the stream.
        capacity: frames that wait at most.

    Raises:
        ImageError: the file is no video that OpenCV decodes.
        InputError: there is no such camera.
    """

    def __init__(self, source: Path | int, *, seconds: float | None = None, capacity: int = QUEUE) -> None:
        self._source = source
        self._live = isinstance(source, int)
        self._device = _open(source)
        self._seconds = seconds
        self._queue: queue.Queue[Captured | InputError | None] = queue.Queue(capacity)
        self._stopping = False  # a plain attribute, so that a signal handler may set it
        self._thread: threading.Thread | None = None
        self.total = 0 if self._live else _frame_count(self._device)
        """Frames that the file says it has; 0 where that is not known, as of a camera."""
        self.dropped = 0
        """Frames that were dropped until now."""

    def stop(self) -> None:
        """Read no further; what is in the queue still comes. May be called from a signal handler."""
        self._stopping = True

    def __iter__(self) -> Iterator[Captured]:
        """The frames, in their order.

        Raises:
            ImageError: the video ends before it should.
            InputError: the camera stops giving frames.
        """
        self._thread = threading.Thread(target=self._read, name="edgead-capture", daemon=True)
        self._thread.start()
        while True:
            try:
                item = self._queue.get(timeout=_POLL_S)
            except queue.Empty:
                continue
            if item is None:
                return
            if isinstance(item, InputError):
                raise item
            yield item

    def close(self) -> None:
        """Stop reading and free the device; what waits in the queue is lost."""
        self._stopping = True
        if self._thread is None:
            self._release()
            return
        while self._thread.is_alive():
            try:
                self._queue.get(timeout=_POLL_S)
            except queue.Empty:
                # A camera that hangs inside its driver keeps the thread; it frees the device when it returns.
                if self._live:
                    self._thread.join(2.0)
                    return

    def __enter__(self) -> Capture:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _read(self) -> None:
        """The reader's thread."""
        end: InputError | None = None
        try:
            end = self._read_frames()
        except InputError as err:
            end = err
        except Exception as err:
            end = ImageError(f"{self._name} cannot be read further: {err}")
        finally:
            self._release()
            self._put(end)

    def _read_frames(self) -> InputError | None:
        """Read to the end; what is wrong with the end, if anything is."""
        device, total, index = self._device, self.total, 0
        begin = time.monotonic()
        while not self._stopping and (self._seconds is None or time.monotonic() - begin < self._seconds):
            came, pixels = device.read()
            if not came:
                return None if self._stopping else self._end(index, total)
            moment = time.time() * 1e3 if self._live else _position_ms(device)
            captured = Captured(_frame(pixels, self._name), index, moment, self.dropped)
            index += 1
            if not self._live:
                self._put(captured)
                continue
            try:
                self._queue.put_nowait(captured)
            except queue.Full:
                self.dropped += 1
        return None

    def _end(self, index: int, total: int) -> InputError | None:
        if self._live:
            return InputError(
                f"{self._name} stopped after {index} frames; check its cable, its power, "
                "and that no other program uses it"
            )
        if index == 0:
            return ImageError(_undecodable(self._name))
        # A container states its length exactly, or rounds it from the duration.
        if total - index > max(1, total // 100):
            return ImageError(
                f"{self._name} announces {total} frames and {index} could be decoded; "
                "it is damaged or cut off, copy it again"
            )
        return None

    def _put(self, item: Captured | InputError | None) -> None:
        """Wait for room, but not for a consumer that has left."""
        while True:
            try:
                self._queue.put(item, timeout=_POLL_S)
            except queue.Full:
                if self._stopping and not self._live and isinstance(item, Captured):
                    return
            else:
                return

    def _release(self) -> None:
        device, self._device = self._device, None
        if device is not None:
            device.release()

    @property
    def _name(self) -> str:
        return f"camera {self._source}" if self._live else str(self._source)


def _open(source: Path | int) -> Any:
    import cv2

    with _quiet():
        if isinstance(source, int):
            device = cv2.VideoCapture(source)
        else:
            device = cv2.VideoCapture(str(source), cv2.CAP_FFMPEG)
    if device.isOpened():
        if not isinstance(source, int):
            device.set(cv2.CAP_PROP_ORIENTATION_AUTO, 0)  # the pixels of the file, as of an image
        return device
    device.release()
    if not isinstance(source, int):
        raise ImageError(_undecodable(str(source)))
    there = sorted(str(path) for path in Path("/dev").glob("video*"))
    found = ", ".join(there) or "no camera (/dev/video*)"
    raise InputError(
        f"camera {source} cannot be opened: this machine has {found}; "
        "check its number, its cable, and that no other program uses it"
    )


def _undecodable(name: str) -> str:
    return (
        f"{name} is damaged, cut off, or not a video that OpenCV decodes; open it in a player, copy it "
        f"again, or convert it: ffmpeg -i {Path(name).name} -c:v mjpeg -q:v 2 converted.avi"
    )


def _frame_count(device: Any) -> int:
    import cv2

    return max(0, int(device.get(cv2.CAP_PROP_FRAME_COUNT)))


def _position_ms(device: Any) -> float:
    """Of the frame that was read last."""
    import cv2

    return float(device.get(cv2.CAP_PROP_POS_MSEC))


def _frame(pixels: Any, name: str) -> Frame:
    if pixels.dtype != np.uint8 or (pixels.ndim == 3 and pixels.shape[2] != 3):
        raise ImageError(
            f"{name} gives {pixels.dtype} {pixels.shape}; edgead takes 8-bit grey or colour frames"
        )
    return Frame(pixels, "BGR8" if pixels.ndim == 3 else "MONO8")


@contextmanager
def _quiet() -> Iterator[None]:
    """OpenCV's warnings about every backend that cannot open a source say nothing that the error does not."""
    import cv2

    before = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(before)
