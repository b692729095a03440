"""What `run` is given: image files, folders, videos or a camera, one shot after the other."""

from __future__ import annotations

import math
import re
import signal
import threading
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from edgead.errors import DatasetError, InputError, UsageError

if TYPE_CHECKING:
    from edgead.imaging.capture import Capture, Captured
    from edgead.imaging.frame import Frame

_CAMERA = re.compile(r"(?P<said>camera:)?(?P<number>\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shot:
    """One image, or one frame of a stream.

    Attributes:
        path: what its line calls it.
        title: what its picture calls it.
        overlay: where its picture goes, below the folder of its decision.
        read: gives the pixels; an InputError where there are none.
        stamp: fields of its line that an image has not: frame, timestamp_ms.
        dropped: frames of this run's camera that were dropped until then.
    """

    path: Path
    title: str
    overlay: Path
    read: Callable[[], Frame]
    stamp: dict[str, int | float] = field(default_factory=dict)
    dropped: int = 0


class Sources:
    """Checks what was given, and goes through all of it once. Entering it opens the camera.

    Args:
        given: a `Path` is an image, a folder (searched with its subfolders) or a video; a string may also be
            a camera: ``0`` or ``camera:0``.
        bit_depth: bits that 16-bit files really use.
        frames: end after so many shots; None = never.
        seconds: read a stream for so long; None = to its end.

    Raises:
        DatasetError: a path does not exist, or there is no image at all.
        InputError: there is no such camera (by entering).
        UsageError: `given` or a limit makes no sense.
    """

    def __init__(
        self,
        given: Sequence[Path | str],
        *,
        bit_depth: int | None = None,
        frames: int | None = None,
        seconds: float | None = None,
    ) -> None:
        self._bit_depth = bit_depth
        self._frames = frames
        self._seconds = seconds
        self.dropped = 0
        """Frames that the camera gave during the run and that were not judged."""
        self.camera = _camera_among(given)
        self._files = [] if self.camera is not None else _find([Path(one) for one in given])
        self._check_limits()
        self._live: Capture | None = None

    def _check_limits(self) -> None:
        if self._frames is not None and self._frames < 1:
            raise UsageError(f"--frames {self._frames}: at least 1 frame is to be judged")
        if self._seconds is not None and not 0 < self._seconds < math.inf:
            raise UsageError(f"--seconds {self._seconds:g}: give a time above 0")
        limited = self._frames is not None or self._seconds is not None
        if limited and self.camera is None and not any(_is_video(path) for path, _ in self._files):
            raise UsageError("--frames and --seconds end a camera or a video; images end by themselves")

    @property
    def total(self) -> int:
        """Shots to come; 0 where that is not known."""
        if self._frames is not None or self.camera is not None:
            return self._frames or 0
        return 0 if any(_is_video(path) for path, _ in self._files) else len(self._files)

    def __iter__(self) -> Generator[Shot, None, None]:
        """The shots, in the order given. Ctrl-C ends a camera's after those that it has given.

        To be closed where it is left early.
        """
        with closing(self._shots()) as shots:
            for count, shot in enumerate(shots, start=1):
                self.dropped = shot.dropped
                yield shot
                if count == self._frames:
                    return
        if self._live is not None:
            self.dropped = self._live.dropped

    def _shots(self) -> Generator[Shot, None, None]:
        if self._live is not None:
            name = Path(f"camera:{self.camera}")
            # a camera's thread begins here: what came while the engine was compiled is old
            with _ctrl_c_ends(self._live):
                yield from _stream(self._live, name, name, Path(f"camera-{self.camera}"))
            return
        for (path, shown), overlay in zip(self._files, _overlay_names(self._files), strict=True):
            if _is_video(path):
                yield from self._video(path, shown, overlay)
            else:
                yield Shot(path=path, title=str(shown), overlay=overlay, read=self._reader(path))

    def _reader(self, path: Path) -> Callable[[], Frame]:
        from edgead.imaging.frame import read_image

        return lambda: read_image(path, bit_depth=self._bit_depth)

    def _video(self, path: Path, shown: Path, overlay: Path) -> Iterator[Shot]:
        from edgead.imaging.capture import Capture

        try:
            capture = Capture(path, seconds=self._seconds)
        except InputError as error:
            yield _broken(path, shown, error, {}, 0)
            return
        with capture:
            yield from _stream(capture, path, shown, overlay)

    def close(self) -> None:
        """Free the camera."""
        if self._live is not None:
            self._live.close()

    def __enter__(self) -> Sources:
        from edgead.imaging.capture import Capture

        if self.camera is not None:
            self._live = Capture(self.camera, seconds=self._seconds)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _stream(capture: Capture, path: Path, shown: Path, overlay: Path) -> Iterator[Shot]:
    """A shot for each frame, and one more that cannot be read where the stream breaks off."""
    following = 0
    try:
        for captured in capture:
            following = captured.index + 1
            yield _shot(captured, path, shown, overlay)
    except InputError as error:
        yield _broken(
            _frame_name(path, following) if following else path,
            shown,
            error,
            {"frame": following},
            capture.dropped,
        )


def _shot(captured: Captured, path: Path, shown: Path, overlay: Path) -> Shot:
    return Shot(
        path=_frame_name(path, captured.index),
        title=str(_frame_name(shown, captured.index)),
        overlay=overlay / f"{captured.index:06}.jpg",
        read=lambda: captured.frame,
        stamp={"frame": captured.index, "timestamp_ms": round(captured.timestamp_ms, 3)},
        dropped=captured.dropped,
    )


def _broken(path: Path, shown: Path, error: InputError, stamp: dict[str, int | float], dropped: int) -> Shot:
    def read() -> Frame:
        raise error

    return Shot(path=path, title=str(shown), overlay=Path(), read=read, stamp=stamp, dropped=dropped)


def _frame_name(path: Path, index: int) -> Path:
    return path.with_name(f"{path.name}#{index:06}")


@contextmanager
def _ctrl_c_ends(capture: Capture) -> Iterator[None]:
    """The first Ctrl-C lets the camera's stream end, the second one interrupts as ever."""
    if threading.current_thread() is not threading.main_thread():
        yield  # no signal arrives there
        return
    before = signal.getsignal(signal.SIGINT)
    if before in (signal.SIG_IGN, None):
        yield
        return

    def end(number: int, frame: object) -> None:
        signal.signal(signal.SIGINT, before)
        capture.stop()

    signal.signal(signal.SIGINT, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _camera_among(given: Sequence[Path | str]) -> int | None:
    """The camera that is meant; None = files.

    Raises:
        UsageError: a camera among other things, or a number that is a file here, too.
    """
    for one in given:
        match = _CAMERA.fullmatch(one) if isinstance(one, str) else None
        if match is None:
            if isinstance(one, str) and one.startswith("camera:") and not Path(one).exists():
                raise UsageError(f"{one!r}: a camera is a number, such as camera:0")
            continue
        if not match["said"] and Path(one).exists():
            raise UsageError(f"{one} is a file or folder here, and a camera; write ./{one} or camera:{one}")
        if len(given) > 1:
            raise UsageError(f"camera {match['number']} never ends: give it alone, without other images")
        return int(match["number"])
    return None


def _is_video(path: Path) -> bool:
    from edgead.imaging.capture import VIDEO_SUFFIXES

    return path.suffix.lower() in VIDEO_SUFFIXES


def _find(given: Sequence[Path]) -> list[tuple[Path, Path]]:
    """(path as given, name to show) of every image and video, each once.

    The name is the path below the folder that was given; where several were given, it begins with the folder.
    """
    from edgead.data.folder import list_images

    found: dict[Path, Path] = {}
    for one in given:
        if one.is_file():
            # a file that was named is taken whatever its suffix: the decoder has the last word
            found.setdefault(one, Path(one.name))
            continue
        root = Path(one.resolve().name) if len(given) > 1 else Path()
        for path in list_images(one):
            found.setdefault(path, root / path.relative_to(one))
    if not found:
        raise DatasetError("no images were given; name files or folders of images, videos, or a camera")
    return list(found.items())


def _overlay_names(files: Sequence[tuple[Path, Path]]) -> list[Path]:
    """Each image's name with .jpg for its picture; names that would meet keep the suffix too.

    A video's is a folder of that name, for a picture per frame.
    """
    short = Counter(shown.with_suffix(".jpg") for path, shown in files if not _is_video(path))
    taken: dict[Path, None] = {}
    for path, shown in files:
        plain, tail = shown.with_suffix(".jpg"), "" if _is_video(path) else ".jpg"
        name = plain if tail and short[plain] == 1 else shown.with_name(f"{shown.name}{tail}")
        again = 2
        while name in taken:
            name = shown.with_name(f"{shown.name}-{again}{tail}")
            again += 1
        taken[name] = None
    return list(taken)
