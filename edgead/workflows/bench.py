"""Measure what the line will see of a bundle, and hold it against the line's targets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgead.progress import Progress
from edgead.types import Target

if TYPE_CHECKING:
    from edgead.benchmarks.report import BenchReport
    from edgead.benchmarks.targets import Verdict
    from edgead.runtimes._driver import RuntimeName


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
    from edgead.benchmarks.html import check_writable, read_accuracy, write
    from edgead.workflows._bench_plan import Plan
    from edgead.workflows._bench_work import Work

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
    accurate = {} if accuracy is None else read_accuracy(accuracy)
    page = None if html is None else check_writable(html)
    work = Work(bundle, images, plan, against=against, pictures=page is not None, progress=progress)
    measured = work.measure(lambda opened: [target])
    if page is not None:
        write(page, measured, accurate)
    return measured[0].report


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
    from edgead.benchmarks.html import check_writable, read_accuracy, write
    from edgead.workflows._bench_plan import Plan
    from edgead.workflows._bench_work import Work

    plan = Plan.of(**options)
    accurate = {} if accuracy is None else read_accuracy(accuracy)
    page = None if html is None else check_writable(html)
    work = Work(bundle, images, plan, pictures=page is not None, progress=progress)
    measured = work.measure(lambda opened: [Target.parse(name) for name in opened.targets])
    if page is not None:
        write(page, measured, accurate)
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
