"""Judge images, a video or a camera with a bundle: a line of JSON and an overlay for each frame."""

from __future__ import annotations

import json
import math
import os
import shutil
from array import array
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TextIO

from edgead.errors import EngineError, InputError, OutputError
from edgead.progress import Progress, Silent
from edgead.types import Decision, Geometry, Prediction, Target

if TYPE_CHECKING:
    from edgead.imaging.frame import Frame
    from edgead.runtimes._driver import RuntimeName
    from edgead.runtimes.session import Session
    from edgead.workflows._sources import Shot

Overlays = Literal["all", "ng", "none"]
PREDICTIONS, OVERLAYS = "predictions.jsonl", "overlays"
WORST = 5


@dataclass(frozen=True, slots=True)
class Judged:
    """One image or frame of a run; `error` says why there is no decision."""

    path: Path
    decision: Decision
    score: float
    overlay: Path | None = None
    error: str = ""


@dataclass(slots=True, kw_only=True)
class RunSummary:
    """What `run` did.

    Attributes:
        target: the engine that ran.
        runtime: who drove it: native or python.
        predictions: the file with one JSON object per image, in the order of the images.
        overlays: the folder of the pictures, one folder per decision in it; None where there is none.
        ok: images decided OK.
        ng: images decided NG.
        unreadable: images that could not be decoded or did not fit: decision ERROR.
        failed: images on which the engine failed or gave no number: decision ERROR.
        dropped: frames that a camera gave faster than they were judged: nobody knows whether those are good.
        worst: the highest scores, highest first.
        errors: every image with decision ERROR.
        median_ms: median of the stages' sum, image file to decision without decoding; NaN without images.
    """

    target: str
    runtime: RuntimeName
    predictions: Path
    overlays: Path | None = None
    ok: int = 0
    ng: int = 0
    unreadable: int = 0
    failed: int = 0
    dropped: int = 0
    worst: list[Judged] = field(default_factory=list)
    errors: list[Judged] = field(default_factory=list)
    median_ms: float = math.nan

    @property
    def images(self) -> int:
        """All images and frames that have a line."""
        return self.ok + self.ng + self.unreadable + self.failed


def run(
    bundle: Path,
    images: Sequence[Path | str],
    output: Path,
    *,
    target: Target | None = None,
    bit_depth: int | None = None,
    overlays: Overlays = "all",
    overwrite: bool = False,
    threads: int = 0,
    runtime: RuntimeName | None = None,
    frames: int | None = None,
    seconds: float | None = None,
    progress: Progress | None = None,
) -> RunSummary:
    """Judge every image and write `output`/predictions.jsonl and `output`/overlays.

    An image that cannot be read, or on which the engine fails, gets the decision ERROR and an `error` in its
    line; the others go on. While it runs, the lines stand in predictions.jsonl.partial, flushed one by one.
    A camera's run ends with Ctrl-C, `frames` or `seconds`, and is then complete.

    Args:
        bundle: a bundle's directory or zip.
        images: image files, folders (searched with their subfolders) and video files; or one camera, as the
            string ``0`` or ``camera:0``.
        output: a folder, made where it is missing.
        target: which engine; None = the bundle's first that can run here.
        bit_depth: bits that 16-bit files really use: 10, 12 or 16.
        overlays: which images get a picture; ``ng`` means all that are not OK.
        overwrite: replace the predictions and overlays of an earlier run in `output`.
        threads: compute threads, 0 = the engine's own choice.
        runtime: who drives the engine, as for `Session.open`.
        frames: end after so many frames of videos or a camera; None = never.
        seconds: read each video, or the camera, for so long; None = to its end.
        progress: where to show progress.

    Raises:
        OutputError: `output` holds an earlier run, or cannot be written.
        DatasetError: a path does not exist, or there is no image at all.
        InputError: there is no such camera.
        BundleError: the bundle is damaged.
        RuntimeMissingError: the target cannot run here.
    """
    from edgead.bundle.reader import open_bundle
    from edgead.runtimes.session import Session
    from edgead.workflows._sources import Sources

    progress = progress if progress is not None else Silent()
    sources = Sources(images, bit_depth=bit_depth, frames=frames, seconds=seconds)
    earlier = _earlier_run(output, overwrite)
    with (
        open_bundle(bundle) as opened,
        Session.open(opened, target, threads=threads, runtime=runtime) as session,
        sources,
    ):
        if target is None:
            progress.say(f"running {session.target} ({session.runtime})")
        if session.warning:
            progress.say(session.warning)
        if sources.camera is not None and frames is None and seconds is None:
            progress.say(f"judging camera {sources.camera}; Ctrl-C ends the run")
        summary = RunSummary(
            target=str(session.target),
            runtime=session.runtime,
            predictions=output / PREDICTIONS,
        )
        _prepare(output, earlier)  # only now: a bundle that cannot run costs no earlier results
        judge = _Judge(session, overlays, output / OVERLAYS)
        totals_ms = array("d")
        with (
            _lines(output) as lines,
            progress.task("run", sources.total) as bar,
            closing(iter(sources)) as shots,
        ):
            for shot in shots:
                judged, record = judge(shot)
                lines.write(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n")
                lines.flush()
                _count(summary, judged, record)
                if record["timings_ms"]:
                    totals_ms.append(sum(record["timings_ms"].values()))
                status = {"NG": summary.ng} | ({"dropped": shot.dropped} if shot.dropped else {})
                bar.advance(**status)
        summary.dropped = sources.dropped
    summary.overlays = output / OVERLAYS if (output / OVERLAYS).is_dir() else None
    timed = sorted(totals_ms)
    summary.median_ms = timed[len(timed) // 2] if timed else math.nan
    return summary


def _earlier_run(output: Path, overwrite: bool) -> list[Path]:
    """What an earlier run left in `output`, to be replaced.

    Raises:
        OutputError: there is something, and it may not be replaced.
    """
    names = (PREDICTIONS, f"{PREDICTIONS}.partial", OVERLAYS)
    there = [output / name for name in names if (output / name).exists()]
    if there and not overwrite:
        raise OutputError(f"{there[0]} exists; choose another output folder, or replace it with --overwrite")
    return there


def _prepare(output: Path, earlier: list[Path]) -> None:
    try:
        output.mkdir(parents=True, exist_ok=True)
        for path in earlier:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    except OSError as err:
        raise OutputError(
            f"{output} cannot be written: {err.strerror}; choose another output folder"
        ) from err


@contextmanager
def _lines(output: Path) -> Iterator[TextIO]:
    """The predictions' file, which gets its name when it is complete."""
    partial = output / f"{PREDICTIONS}.partial"
    try:
        with partial.open("w", encoding="utf-8") as lines:
            yield lines
            os.fsync(lines.fileno())
        partial.replace(output / PREDICTIONS)
    except OSError as err:
        raise OutputError(
            f"{partial} cannot be written: {err.strerror}; free space or choose another place"
        ) from err


class _Judge:
    """Reads, judges and draws one image at a time."""

    def __init__(self, session: Session, overlays: Overlays, folder: Path) -> None:
        self._session = session
        self._overlays = overlays
        self._folder = folder

    def __call__(self, shot: Shot) -> tuple[Judged, dict[str, Any]]:
        """The judgement and its line; an image or engine error becomes the decision ERROR."""
        path = shot.path
        record: dict[str, Any] = {
            "path": str(path),
            **shot.stamp,
            "score_raw": None,
            "score": None,
            "decision": "ERROR",
            "regions": [],
            "target": str(self._session.target),
            "timings_ms": {},
        }
        try:
            frame = shot.read()
            prediction = self._session.predict(frame)
        except (InputError, EngineError) as error:
            record |= {"error": str(error), "cause": "engine" if isinstance(error, EngineError) else "image"}
            return Judged(path, "ERROR", math.nan, error=str(error)), record
        timings = record["timings_ms"] = {stage: round(ms, 4) for stage, ms in prediction.timings_ms.items()}
        tiles = self._session.geometry.tiles
        if tiles is not None:
            record |= {"tiles": tiles.count, "tile_ms": round(timings["engine"] / tiles.count, 4)}
        error_text = ""
        if prediction.decision == "ERROR":
            error_text = f"{prediction.target} gave the score {prediction.score_raw} for {path}: no number"
            record |= {"error": error_text, "cause": "engine"}
        else:
            record |= {
                "score_raw": prediction.score_raw,
                "score": prediction.score,
                "decision": prediction.decision,
                "regions": [
                    {"box": list(region.box), "area": region.area, "peak": region.peak}
                    for region in prediction.regions
                ],
            }
        overlay = None
        if self._overlays == "all" or (self._overlays == "ng" and prediction.decision != "OK"):
            overlay = self._folder / prediction.decision / shot.overlay
            self._draw(frame, prediction, shot.title, overlay)
            record["overlay"] = str(overlay)
        return Judged(path, prediction.decision, prediction.score, overlay, error_text), record

    def _draw(self, frame: Frame, prediction: Prediction, title: str, place: Path) -> None:
        from edgead.imaging.overlay import display_size, draw, map_area, save
        from edgead.imaging.preprocess import Preprocess

        size = frame.height, frame.width
        rows, columns = display_size(*size)
        pixels = Preprocess(Geometry(height=rows, width=columns))(frame)
        area = map_area(self._session.geometry, *size)
        save(place, draw(pixels, prediction, self._session.thresholds, title, area, size))


def _count(summary: RunSummary, judged: Judged, record: dict[str, Any]) -> None:
    if judged.decision == "ERROR":
        summary.errors.append(judged)
        if record["cause"] == "image":
            summary.unreadable += 1
        else:
            summary.failed += 1
        return
    if judged.decision == "OK":
        summary.ok += 1
    else:
        summary.ng += 1
    summary.worst = sorted([*summary.worst, judged], key=lambda one: -one.score)[:WORST]
