"""Images for a measurement: found, decoded, held in memory; a few are shown with what was predicted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgead.benchmarks.html import Thumbnail
from edgead.data.folder import list_images
from edgead.errors import DatasetError, ImageError
from edgead.imaging.frame import Frame, decode
from edgead.imaging.overlay import display_size, draw, map_area
from edgead.imaging.preprocess import Preprocess
from edgead.progress import Progress
from edgead.runtimes.session import Session
from edgead.types import Geometry

MEMORY_BYTES = 2**30
MOST_IMAGES = 1_000
THUMBNAILS = 6
_THUMBNAIL_WIDTH = 720


@dataclass(frozen=True, slots=True, eq=False)
class Images:
    """What is issued.

    Attributes:
        frames: decoded, at least one.
        contents: the same as files in memory.
        names: of the files.
        skipped: file → why it is not among them.
    """

    frames: tuple[Frame, ...]
    contents: tuple[bytes, ...]
    names: tuple[str, ...]
    skipped: dict[str, str]

    def warnings(self) -> list[str]:
        """What makes a measurement on them doubtful."""
        found = []
        if len(self.frames) == 1:
            found.append("one image over and over: caches know it; give a folder of distinct images")
        sizes = {(frame.height, frame.width) for frame in self.frames}
        if len(sizes) > 1:
            found.append(f"the images have {len(sizes)} different sizes; their latencies are mixed")
        return found


def find(images: Sequence[Path], at_most: int) -> list[Path]:
    """`at_most` of the images, evenly spread over all.

    Raises:
        DatasetError: there is none.
    """
    found = list(
        dict.fromkeys(
            path for given in images for path in ([given] if given.is_file() else list_images(given))
        )
    )
    if not found:
        raise DatasetError("no images were given; name files or folders of images")
    step = max(1.0, len(found) / at_most)
    return [found[int(i * step)] for i in range(min(at_most, len(found)))]


def load(files: Sequence[Path], geometry: Geometry, bit_depth: int | None, progress: Progress) -> Images:
    """Decode the files that fit `geometry`, up to the memory bound.

    Raises:
        DatasetError: not one can be used; the message says why the first one cannot.
    """
    preprocess = Preprocess(geometry)
    frames: list[Frame] = []
    contents: list[bytes] = []
    names: list[str] = []
    skipped: dict[str, str] = {}
    size = 0
    with progress.task("decode", len(files)) as task:
        for path in files:
            try:
                content = _read(path)
                frame = decode(content, name=str(path), bit_depth=bit_depth)
                preprocess(frame)
            except ImageError as error:
                skipped[str(path)] = str(error)
                progress.say(f"skipped: {error}")
            else:
                size += frame.data.nbytes + len(content)
                if frames and size > MEMORY_BYTES:
                    progress.say(f"{len(frames)} of {len(files)} images fill the memory that is set aside")
                    break
                frames.append(frame)
                contents.append(content)
                names.append(path.name)
            task.advance()
    if not frames:
        first = next(iter(skipped.values()))
        raise DatasetError(f"not one of {len(files)} images can be measured with; the first: {first}")
    return Images(tuple(frames), tuple(contents), tuple(names), skipped)


def thumbnails(images: Images, session: Session, count: int = THUMBNAILS) -> tuple[Thumbnail, ...]:
    """Some of the images as `session` judges them: boxes, heatmap, decision."""
    import cv2

    chosen = sorted({index * len(images.frames) // count for index in range(count)})
    found = []
    for index in chosen:
        frame, name = images.frames[index], images.names[index]
        prediction = session.predict(frame)
        size = frame.height, frame.width
        rows, columns = display_size(*size)
        pixels = Preprocess(Geometry(height=rows, width=columns))(frame)
        picture = draw(pixels, prediction, session.thresholds, name, map_area(session.geometry, *size), size)
        height = round(picture.shape[0] * _THUMBNAIL_WIDTH / picture.shape[1])
        small = cv2.resize(picture, (_THUMBNAIL_WIDTH, height), interpolation=cv2.INTER_AREA)
        encoded, data = cv2.imencode(".jpg", small[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 82])
        assert encoded
        caption = f"{name}: {prediction.decision}, score {prediction.score:.3f}"
        found.append(Thumbnail(jpeg=data.tobytes(), caption=caption))
    return tuple(found)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as err:
        raise ImageError(f"{path} cannot be read: {err.strerror}") from err
