"""Measure what the line will see of a bundle, and hold it against the line's targets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgead.errors import DatasetError, ImageError, UsageError
from edgead.progress import Progress, Silent
from edgead.types import Geometry, Target

if TYPE_CHECKING:
    from edgead.benchmarks.report import BenchReport
    from edgead.benchmarks.scenarios import Limits
    from edgead.imaging.frame import Frame
    from edgead.runtimes._driver import RuntimeName

SCENARIOS = ("single-stream", "paced")
QUERIES = 1_000  # carries a p99 with up to two queries over the limit
SECONDS = 60.0  # where no number of queries is asked for
FRAMES_BYTES = 2**30


def bench(
    bundle: Path,
    images: Sequence[Path],
    *,
    target: Target | None = None,
    scenario: str = "single-stream",
    fps: float | None = None,
    p99: str | None = None,
    deadline: str | None = None,
    queries: int | None = None,
    seconds: float | None = None,
    threads: int = 0,
    runtime: RuntimeName | None = None,
    bit_depth: int | None = None,
    progress: Progress | None = None,
) -> BenchReport:
    """Measure the latency of one target of `bundle` on real images, decoded beforehand, one after the other.

    Ctrl-C during the measurement ends it; the report holds what was measured and says so (`complete`).

    Args:
        bundle: a bundle's directory or zip.
        images: files and folders (searched with their subfolders), issued in rotation.
        target: which engine; None = the bundle's first that can run here.
        scenario: ``single-stream``, the next query when the one before is done; ``paced``, `fps` of them per
            second, latency counted from the planned start.
        fps: images per second: the arrival rate in ``paced``, else the throughput that is needed.
        p99: 99 of 100 images are to be answered within this, with its unit: ``5ms``.
        deadline: every image is, with its unit.
        queries: how many to measure; None = 1,000, or what 60 s allow.
        seconds: stop after this long even if there were fewer.
        threads: compute threads, 0 = the engine's own choice.
        runtime: who drives the engine, as for `Session.open`.
        bit_depth: significant bits of 16-bit files: 10, 12 or 16.
        progress: where to show progress.

    Raises:
        UsageError: a target cannot be read, or ``paced`` has no rate.
        DatasetError: there is no image, or none can be read.
        BundleError: the bundle is damaged.
        RuntimeMissingError: the target cannot run here, or hdrhistogram is not installed.
        EngineError: the engine fails on an image.
    """
    from edgead.benchmarks import environment, scenarios
    from edgead.benchmarks.histogram import Histogram
    from edgead.benchmarks.report import summarise
    from edgead.benchmarks.sut import PredictorSut, SampleLibrary
    from edgead.benchmarks.targets import Targets, parse_duration
    from edgead.bundle.reader import open_bundle
    from edgead.runtimes.session import Session

    progress = progress if progress is not None else Silent()
    targets = Targets(
        fps=fps,
        p99_ns=None if p99 is None else parse_duration(p99, "--p99"),
        deadline_ns=None if deadline is None else parse_duration(deadline, "--deadline"),
    )
    limits = _limits(queries, seconds)
    if scenario not in SCENARIOS:
        raise UsageError(f"unknown scenario {scenario!r}; there is {', '.join(SCENARIOS)}")
    if scenario == "paced" and fps is None:
        raise UsageError("scenario paced needs the rate at which images arrive; add for instance --fps 30")
    Histogram()  # a missing package is told before the work, not after it
    files = _find(images, limits.min_queries)
    where = environment.record()
    with (
        open_bundle(bundle) as opened,
        Session.open(opened, target, threads=threads, runtime=runtime) as session,
    ):
        if target is None:
            progress.say(f"measuring {session.target} ({session.runtime})")
        frames, skipped = _frames(files, session.geometry, bit_depth, progress)
        sut = PredictorSut(session, name=str(session.target), runtime=session.runtime)
        library = SampleLibrary(frames)
        if scenario == "paced" and fps is not None:
            run = scenarios.paced(sut, library, fps=fps, limits=limits, progress=progress)
        else:
            run = scenarios.single_stream(sut, library, limits=limits, progress=progress)
    return summarise(
        run,
        targets,
        where,
        target=sut.name,
        runtime=sut.runtime,
        threads=threads,
        images=len(library),
        skipped=skipped,
        warnings=_warnings(frames),
    )


def _limits(queries: int | None, seconds: float | None) -> Limits:
    from edgead.benchmarks import scenarios

    if seconds is not None and not 0 < seconds <= 86_400 * 31:
        raise UsageError(f"--seconds {seconds:g} is out of range; give a time above 0, at most a month")
    if seconds is None:
        seconds = SECONDS if queries is None else 0.0
    wanted = QUERIES if queries is None else queries
    return scenarios.Limits(min_queries=wanted, max_duration_ns=round(seconds * 1e9))


def _find(images: Sequence[Path], at_most: int) -> list[Path]:
    """`at_most` of the images, evenly spread over all."""
    from edgead.data.folder import list_images

    found = list(
        dict.fromkeys(
            path for given in images for path in ([given] if given.is_file() else list_images(given))
        )
    )
    if not found:
        raise DatasetError("no images were given; name files or folders of images")
    step = max(1.0, len(found) / at_most)
    return [found[int(i * step)] for i in range(min(at_most, len(found)))]


def _frames(
    files: Sequence[Path], geometry: Geometry, bit_depth: int | None, progress: Progress
) -> tuple[list[Frame], dict[str, str]]:
    """Decoded frames that fit `geometry`, up to the memory bound, and why others were left out."""
    from edgead.imaging.frame import read_image
    from edgead.imaging.preprocess import Preprocess

    preprocess = Preprocess(geometry)
    frames: list[Frame] = []
    skipped: dict[str, str] = {}
    size = 0
    with progress.task("decode", len(files)) as task:
        for path in files:
            try:
                frame = read_image(path, bit_depth=bit_depth)
                preprocess(frame)
            except ImageError as error:
                skipped[str(path)] = str(error)
                progress.say(f"skipped: {error}")
            else:
                size += frame.data.nbytes
                if frames and size > FRAMES_BYTES:
                    progress.say(f"{len(frames)} of {len(files)} images fill the memory that is set aside")
                    break
                frames.append(frame)
            task.advance()
    if not frames:
        first = next(iter(skipped.values()))
        raise DatasetError(f"not one of {len(files)} images can be measured with; the first: {first}")
    return frames, skipped


def _warnings(frames: Sequence[Frame]) -> list[str]:
    warnings = []
    if len(frames) == 1:
        warnings.append("one image over and over: caches know it; give a folder of distinct images")
    sizes = {(frame.height, frame.width) for frame in frames}
    if len(sizes) > 1:
        warnings.append(f"the images have {len(sizes)} different sizes; their latencies are mixed")
    return warnings
