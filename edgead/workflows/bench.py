"""Measure what the line will see of a bundle, and hold it against the line's targets."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgead.errors import RuntimeMissingError, UsageError
from edgead.progress import Progress, Silent
from edgead.types import Target

if TYPE_CHECKING:
    from edgead.benchmarks.html import Measured
    from edgead.benchmarks.report import BenchReport
    from edgead.benchmarks.sut import SystemUnderTest
    from edgead.benchmarks.targets import Verdict
    from edgead.bundle.reader import Bundle
    from edgead.runtimes._driver import RuntimeName
    from edgead.runtimes.session import Session
    from edgead.workflows._bench_images import Images
    from edgead.workflows._bench_plan import Plan


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
    p999: str | None = None,
    jitter: str | None = None,
    streams: int | None = None,
    pauses: Sequence[str] | None = None,
    keep_warm: str | None = None,
    queue: int | None = None,
    decode: bool = False,
    against: Path | None = None,
    html: Path | None = None,
    accuracy: Path | None = None,
) -> BenchReport:
    """Measure the latency of one target of `bundle` on real images, decoded beforehand.

    Ctrl-C during the measurement ends it; the report holds what was measured and says so (`complete`).

    Args:
        bundle: a bundle's directory or zip.
        images: files and folders (searched with their subfolders), issued in rotation.
        target: which engine; None = the bundle's first that can run here.
        scenario: ``single-stream``, the next query when the one before is done; ``paced``, `fps` of them per
            second, latency counted from the planned start; ``idle-gap``, after each of several pauses, with
            and without keeping warm; ``multi-camera``, `fps` from each of `streams` cameras; ``offline``, as
            fast as `streams` workers can; ``soak``, for a long time, at `fps` or one after the other.
        fps: images per second: the arrival rate in ``paced``, ``multi-camera`` and ``soak``, else the
            throughput that is needed.
        p99: 99 of 100 images are to be answered within this, with its unit: ``5ms``.
        deadline: every image is, with its unit.
        queries: how many to measure (of each camera); None = until the targets are decided, at most 60 s, or
            1,000 where there is none.
        seconds: stop after this long even if there were fewer; how long a ``soak`` lasts.
        threads: compute threads of each stream, 0 = the engine's own choice, or its share of several streams.
        runtime: who drives the engine, as for `Session.open`.
        bit_depth: significant bits of 16-bit files: 10, 12 or 16.
        progress: where to show progress.
        p999: 999 of 1,000 images are to be answered within this, with its unit.
        jitter: planned arrivals move by a uniform draw from ± this, with its unit.
        streams: cameras in ``multi-camera`` (2), workers in ``offline`` (as many as cores).
        pauses: of ``idle-gap``, with their units.
        keep_warm: in ``idle-gap``, the time between queries that keep warm; given, the targets are for those.
        queue: arrivals that may wait; a further one is dropped.
        decode: decode each image from memory as the first stage.
        against: a bundle to measure in turn with this one, or a result file of `edgead bench --json`; being
            slower is a missed target.
        html: where to write a report with pictures.
        accuracy: what `edgead verify --json` said of the bundle, for that report.

    Raises:
        UsageError: an option cannot be read or does not fit the scenario.
        DatasetError: there is no image, or none can be read.
        InputError: `against` or `accuracy` is a file of something else, or of another version.
        BundleError: a bundle is damaged.
        RuntimeMissingError: the target cannot run here, or a package of the extra ``bench`` is not installed.
        EngineError: the engine fails on an image.
        OutputError: `html` cannot be written.
    """
    from edgead.workflows._bench_plan import Plan

    plan = Plan.of(
        scenario=scenario,
        fps=fps,
        p99=p99,
        p999=p999,
        deadline=deadline,
        queries=queries,
        seconds=seconds,
        jitter=jitter,
        streams=streams,
        pauses=pauses,
        keep_warm=keep_warm,
        queue=queue,
        decode=decode,
        threads=threads,
        runtime=runtime,
        bit_depth=bit_depth,
    )
    work = _Work(bundle, images, plan, against=against, html=html, accuracy=accuracy, progress=progress)
    [measured] = work.measure(lambda opened: [target])
    return measured.report


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """The targets of a bundle, the best first.

    Attributes:
        verdict: of the best target; none where nothing was asked.
        reports: passing targets before inconclusive and failing ones; by p99, or p50 where none is carried.
        unavailable: target → why it cannot run here.
    """

    verdict: Verdict
    reports: tuple[BenchReport, ...]
    unavailable: dict[str, str]

    def as_json(self) -> dict[str, object]:
        """Values that `json.dumps` takes."""
        return {
            "verdict": self.verdict,
            "targets": [report.as_json() for report in self.reports],
            "unavailable": self.unavailable,
        }


def bench_all_targets(
    bundle: Path,
    images: Sequence[Path],
    *,
    html: Path | None = None,
    accuracy: Path | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> Ranking:
    """Measure every target of `bundle` that can run here, one after the other, and rank them.

    Args:
        bundle: a bundle's directory or zip.
        images: as for `bench`.
        html: where to write a report on all of them.
        accuracy: as for `bench`.
        progress: where to show progress.
        **options: of `bench`, those that say how to measure; not `target` and `against`.

    Raises:
        As `bench`; EngineError only where no target at all could be measured.
    """
    from edgead.workflows._bench_plan import Plan

    work = _Work(bundle, images, Plan.of(**options), html=html, accuracy=accuracy, progress=progress)
    measured = work.measure(lambda opened: [Target.parse(name) for name in opened.targets])
    reports = [one.report for one in measured]
    order = {"pass": 0, "none": 0, "inconclusive": 1, "fail": 2}
    reports.sort(key=lambda report: (order[report.verdict], _figure(report)))
    return Ranking(
        verdict=reports[0].verdict,  # the best one's
        reports=tuple(reports),
        unavailable=work.unavailable,
    )


def _figure(report: BenchReport) -> tuple[bool, float]:
    """For ranking: p99 where carried; p50s come after all of those, and nothing last."""
    p99, p50 = report.latency_ms["p99"], report.latency_ms["p50"]
    return p99 is None, p99 if p99 is not None else p50 if p50 is not None else float("inf")


class _Work:
    """One call of `bench`: what was given is checked before anything is measured."""

    def __init__(
        self,
        bundle: Path,
        images: Sequence[Path],
        plan: Plan,
        *,
        against: Path | None = None,
        html: Path | None = None,
        accuracy: Path | None = None,
        progress: Progress | None = None,
    ) -> None:
        from edgead.benchmarks import compare, environment
        from edgead.benchmarks.histogram import Histogram
        from edgead.benchmarks.html import check_writable, read_accuracy
        from edgead.workflows import _bench_images

        Histogram()  # a missing package is told before the work, not after it
        self._html = None if html is None else check_writable(html)
        self._accuracy = {} if accuracy is None else read_accuracy(accuracy)
        self._bundle, self._plan = bundle, plan
        self._progress = progress if progress is not None else Silent()
        self._other = against if against is not None and _is_bundle(against) else None
        self._earlier = None
        if against is not None and self._other is None:
            self._earlier = compare.read_result(against)
        if self._other is not None and plan.scenario != "single-stream":
            raise UsageError(
                f"two bundles are measured in turn, one after the other; that is no {plan.scenario}: leave "
                "--scenario out, or compare with a result file"
            )
        self._against = "" if against is None else against.name
        most = _bench_images.MOST_IMAGES
        self._files = _bench_images.find(images, min(plan.limits.total or most, most))
        self._environment = environment.record()
        self.unavailable: dict[str, str] = {}

    def measure(self, targets: Callable[[Bundle], Sequence[Target | None]]) -> list[Measured]:
        """Measure each target that can run, and write the HTML report.

        Raises:
            RuntimeMissingError: none can.
        """
        from edgead.benchmarks.html import write
        from edgead.bundle.reader import open_bundle
        from edgead.workflows._bench_images import load

        found: list[Measured] = []
        with contextlib.ExitStack() as scope:
            opened = scope.enter_context(open_bundle(self._bundle))
            other = None if self._other is None else scope.enter_context(open_bundle(self._other))
            wanted = targets(opened)
            images = load(self._files, opened.manifest.geometry, self._plan.bit_depth, self._progress)
            for target in wanted:
                try:
                    found.append(self._one(opened, other, target, images))
                except RuntimeMissingError as error:
                    if len(wanted) == 1:
                        raise
                    self.unavailable[str(target)] = str(error)
                    self._progress.say(f"left out: {target}: {error}")
                if found and not found[-1].report.complete:
                    break
        if not found:
            told = "; ".join(f"{name}: {why}" for name, why in self.unavailable.items())
            raise RuntimeMissingError(f"no target of this bundle could be measured: {told}")
        if self._html is not None:
            write(self._html, found, self._accuracy)
        return found

    def _one(self, opened: Bundle, other: Bundle | None, target: Target | None, images: Images) -> Measured:
        from edgead.benchmarks import compare
        from edgead.benchmarks.activity import Activity
        from edgead.benchmarks.html import Measured
        from edgead.benchmarks.report import summarise
        from edgead.benchmarks.run import Run
        from edgead.benchmarks.sut import SampleLibrary
        from edgead.workflows._bench_images import thumbnails

        plan = self._plan
        with contextlib.ExitStack() as scope:
            sessions = [scope.enter_context(self._open(opened, target)) for _ in range(plan.streams)]
            session = sessions[0]
            if target is None:
                self._progress.say(f"measuring {session.target} ({session.runtime})")
            suts = [self._sut(one, images) for one in sessions]
            beside = None
            if other is not None:
                old = scope.enter_context(self._open(other, session.target))
                beside = self._sut(old, images)
            library: SampleLibrary[Any] = SampleLibrary(images.contents if plan.decode else images.frames)
            activity = Activity()
            run, old_run, doubt = plan.execute(suts, library, beside, self._progress)
            busy = activity.warnings()
            pictures = thumbnails(images, session) if self._html is not None else ()
        report = summarise(
            run,
            plan.targets,
            self._environment,
            target=str(session.target),
            runtime=session.runtime,
            threads=plan.threads,
            images=len(images.frames),
            skipped=images.skipped,
            bundle=self._bundle.name,
            streams=plan.streams,
            judged=plan.judged(run),
            doubt=doubt,
            warnings=[*busy, *images.warnings()],
        )
        if old_run is not None:
            assert isinstance(run, Run)
            report = compare.with_run(report, run, old_run, self._against)
        elif self._earlier is not None:
            report = compare.with_result(report, self._earlier, self._against)
        return Measured(report=report, run=run, targets=plan.targets, thumbnails=pictures)

    def _open(self, bundle: Bundle, target: Target | None) -> Session:
        from edgead.runtimes.session import Session

        return Session.open(bundle, target, threads=self._plan.threads, runtime=self._plan.runtime)

    def _sut(self, session: Session, images: Images) -> SystemUnderTest[Any]:
        from edgead.benchmarks.sut import DecodingSut, PredictorSut, stages_of
        from edgead.imaging.frame import decode

        stages = stages_of(session.predict(images.frames[0]))
        sut = PredictorSut(session, name=str(session.target), runtime=session.runtime, stages=stages)
        if not self._plan.decode:
            return sut
        return DecodingSut(sut, lambda content: decode(content, bit_depth=self._plan.bit_depth))


def _is_bundle(path: Path) -> bool:
    """Whether it is no result file: a folder, or a zip."""
    if path.is_dir():
        return True
    try:
        with path.open("rb") as file:
            return file.read(2) == b"PK"
    except OSError:
        return False
