"""What a run says, as plain values: the JSON of `edgead bench` and the source of every table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from edgead.benchmarks import stability
from edgead.benchmarks.environment import Environment
from edgead.benchmarks.histogram import Histogram
from edgead.benchmarks.run import Run
from edgead.benchmarks.soak import Soak, Window
from edgead.benchmarks.targets import DOUBT, Judgement, Targets, Verdict, judge, overall

VERSION = 2

Percentiles = dict[str, "float | None"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """The queries of one camera, or after one pause. Times in ms."""

    name: str
    queries: int
    latency_ms: Percentiles
    latency_interval_ms: dict[str, tuple[float | None, float | None]]
    service_ms: Percentiles


@dataclass(frozen=True, slots=True, kw_only=True)
class SoakReport:
    """How a soak went over time; see `edgead.benchmarks.soak`."""

    windows: tuple[Window, ...]
    rss_slope_mb_per_hour: float
    rss_rises: bool
    p99_slope_ms_per_hour: float
    p99_rises: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchReport:
    """One run, judged. Times in ms; a percentile that the samples cannot carry is None.

    Attributes:
        report_version: of this set of fields.
        verdict: over all `judgements`; none where no target was given.
        complete: False when the run was interrupted: the figures are those of the part before.
        bundle: the name of the bundle's folder or zip.
        runtime: who drove the engine: native, python or null.
        queries: answered, without the `warmup_queries`; in idle-gap, those that `latency_ms` is about.
        dropped: arrivals that found the queue full. They have no latency, and count as over every limit.
        images: distinct images issued in rotation.
        fps: answers per second, achieved.
        rate: planned arrivals per second and stream; None where a query starts when the one before is done.
        streams: cameras, or workers, at the same time.
        latency_ms: planned start → answer.
        latency_interval_ms: bounds of the true percentiles at 99 % confidence, None = not bounded.
        service_ms: actual start → answer; differs from latency only where starts are planned.
        stages_ms: the same per stage.
        tiles: how often the engine runs for one image.
        tile_ms: the engine's stage by `tiles`, joining included; None where it sees the whole image.
        groups: per camera, or per pause.
        soak: how it went over time; None in other scenarios.
        latency_histogram: all latencies in ns, an HdrHistogram in base64.
        deadline_misses: queries over the deadline or dropped; None where none was given.
        comparison: with an earlier result or another bundle; see `edgead.benchmarks.compare`.
        skipped: image files that could not be used, and why.
        warnings: why the figures may mislead.
    """

    report_version: int = VERSION
    verdict: Verdict
    complete: bool
    scenario: str
    bundle: str
    target: str
    runtime: str
    threads: int
    queries: int
    dropped: int
    warmup_queries: int
    images: int
    fps: float
    rate: float | None
    streams: int
    latency_ms: Percentiles
    latency_interval_ms: dict[str, tuple[float | None, float | None]]
    service_ms: Percentiles
    stages_ms: dict[str, Percentiles]
    tiles: int
    tile_ms: Percentiles | None
    groups: tuple[Group, ...]
    soak: SoakReport | None
    latency_histogram: str
    deadline_misses: int | None
    judgements: tuple[Judgement, ...]
    comparison: dict[str, object] | None
    skipped: dict[str, str]
    warnings: tuple[str, ...]
    environment: Environment

    def as_json(self) -> dict[str, object]:
        """Values that `json.dumps` takes."""
        return asdict(self)


def summarise(
    run: Run | Soak,
    targets: Targets,
    environment: Environment,
    *,
    target: str,
    runtime: str,
    threads: int,
    images: int,
    skipped: Mapping[str, str],
    bundle: str = "",
    streams: int = 1,
    tiles: int = 1,
    judged: Run | None = None,
    doubt: float = DOUBT,
    warnings: Sequence[str] = (),
) -> BenchReport:
    """Judge `run` and put its figures together.

    Args:
        run: the raw times, or the counts of a soak.
        targets: what was asked for.
        environment: taken before the run.
        target: the engine that ran, `Target` as text.
        runtime: who drove it.
        threads: compute threads of each stream, 0 = the engine's own choice.
        images: distinct samples in the library.
        skipped: samples that were to be in it, and why they are not.
        bundle: its name.
        streams: systems that ran at the same time.
        tiles: in which the engine sees an image.
        judged: the part of the run that the figures and verdicts are about; None = all of it.
        doubt: for the verdicts, see `judge`.
        warnings: added to those of the environment and the run.

    Raises:
        RuntimeMissingError: hdrhistogram is not installed.
    """
    part = judged if judged is not None else run
    latency, service, stages = part.histograms()
    stages_ms = {name: histogram.summary() for name, histogram in stages.items()}
    judgements = judge(part, targets, doubt)
    misses = None if targets.deadline_ns is None else part.over(targets.deadline_ns) + run.dropped
    return BenchReport(
        verdict=overall(judgements),
        complete=run.complete,
        scenario=run.scenario,
        bundle=bundle,
        target=target,
        runtime=runtime,
        threads=threads,
        queries=len(part),
        dropped=run.dropped,
        warmup_queries=run.warmup_queries,
        images=images,
        fps=run.fps,
        rate=run.rate,
        streams=streams,
        latency_ms=latency.summary(),
        latency_interval_ms=latency.intervals(),
        service_ms=service.summary(),
        stages_ms=stages_ms,
        tiles=tiles,
        tile_ms=_share(stages_ms["engine"], tiles) if tiles > 1 and "engine" in stages_ms else None,
        groups=_groups(run) if isinstance(run, Run) else (),
        soak=_soak(run) if isinstance(run, Soak) else None,
        latency_histogram=latency.encoded(),
        deadline_misses=misses,
        judgements=tuple(judgements),
        comparison=None,
        skipped=dict(skipped),
        warnings=(*environment.warnings, *_warnings(run), *warnings),
        environment=environment,
    )


def _share(figures: Percentiles, parts: int) -> Percentiles:
    return {name: None if value is None else value / parts for name, value in figures.items()}


def _groups(run: Run) -> tuple[Group, ...]:
    found = []
    for name in run.groups:
        part = run.select((name,))
        latency, service = Histogram(part.latency_ns.tolist()), Histogram(part.service_ns.tolist())
        found.append(
            Group(
                name=name,
                queries=len(part),
                latency_ms=latency.summary(),
                latency_interval_ms=latency.intervals(),
                service_ms=service.summary(),
            )
        )
    return tuple(found)


def _soak(run: Soak) -> SoakReport:
    trends = run.trends()
    return SoakReport(
        windows=tuple(run.windows),
        rss_slope_mb_per_hour=float(trends["rss_slope_mb_per_hour"]),
        rss_rises=bool(trends["rss_rises"]),
        p99_slope_ms_per_hour=float(trends["p99_slope_ms_per_hour"]),
        p99_rises=bool(trends["p99_rises"]),
    )


def _warnings(run: Run | Soak) -> list[str]:
    found = []
    if not run.settled:
        found.append(
            f"the warm-up ended after {run.warmup_queries} queries while the service time still fell; the "
            "first queries may be slower than the rest"
        )
    if run.dropped:
        found.append(
            f"{run.dropped} arrivals were dropped because {run.queue} were waiting already; percentiles are "
            "those of the answered ones"
        )
    if isinstance(run, Soak):
        trends = run.trends()
        if trends["rss_rises"]:
            found.append(f"memory grows by {trends['rss_slope_mb_per_hour']:.3g} MB per hour")
        if trends["p99_rises"]:
            found.append(f"the p99 rises by {trends['p99_slope_ms_per_hour']:.3g} ms per hour")
    elif run.scenario in ("single-stream", "paced"):
        found += stability.warnings(run.latency_ns)
    return found
