"""What a run says, as plain values: the JSON of `edgead bench` and the source of every table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from edgead.benchmarks.environment import Environment
from edgead.benchmarks.histogram import Histogram
from edgead.benchmarks.scenarios import Run
from edgead.benchmarks.targets import Judgement, Targets, Verdict, exceedances, judge, overall

VERSION = 1

Percentiles = dict[str, "float | None"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchReport:
    """One run, judged. Times in ms; a percentile that the samples cannot carry is None.

    Attributes:
        report_version: of this set of fields.
        verdict: over all `judgements`; none where no target was given.
        complete: False when the run was interrupted: the figures are those of the part before.
        runtime: who drove the engine: native, python or null.
        queries: measured, without the `warmup_queries`.
        images: distinct images issued in rotation.
        fps: answers per second, achieved.
        rate: planned arrivals per second; None where a query starts when the one before is done.
        latency_ms: planned start → answer.
        latency_interval_ms: bounds of the true percentiles at 99 % confidence, None = not bounded.
        service_ms: actual start → answer; differs from latency only where arrivals are planned.
        stages_ms: the same per stage.
        deadline_misses: queries over the deadline; None where none was given.
        skipped: image files that could not be used, and why.
        warnings: why the figures may mislead.
    """

    report_version: int = VERSION
    verdict: Verdict
    complete: bool
    scenario: str
    target: str
    runtime: str
    threads: int
    queries: int
    warmup_queries: int
    images: int
    fps: float
    rate: float | None
    latency_ms: Percentiles
    latency_interval_ms: dict[str, tuple[float | None, float | None]]
    service_ms: Percentiles
    stages_ms: dict[str, Percentiles]
    deadline_misses: int | None
    judgements: tuple[Judgement, ...]
    skipped: dict[str, str]
    warnings: tuple[str, ...]
    environment: Environment

    def as_json(self) -> dict[str, object]:
        """Values that `json.dumps` takes."""
        return asdict(self)


def summarise(
    run: Run,
    targets: Targets,
    environment: Environment,
    *,
    target: str,
    runtime: str,
    threads: int,
    images: int,
    skipped: Mapping[str, str],
    warnings: Sequence[str] = (),
) -> BenchReport:
    """Judge `run` and put its figures together.

    Args:
        run: the raw times.
        targets: what was asked for.
        environment: taken before the run.
        target: the engine that ran, `Target` as text.
        runtime: who drove it.
        threads: compute threads asked for, 0 = the engine's own choice.
        images: distinct samples in the library.
        skipped: samples that were to be in it, and why they are not.
        warnings: added to those of the environment.

    Raises:
        RuntimeMissingError: hdrhistogram is not installed.
    """
    latency = Histogram(run.latency_ns.tolist())
    service = latency if run.rate is None else Histogram(run.service_ns.tolist())
    stages = {
        name: Histogram(run.times[:, 3 + column].tolist()).summary() for column, name in enumerate(run.stages)
    }
    judgements = judge(run, targets)
    misses = None if targets.deadline_ns is None else exceedances(run.latency_ns, targets.deadline_ns)
    return BenchReport(
        verdict=overall(judgements),
        complete=run.complete,
        scenario=run.scenario,
        target=target,
        runtime=runtime,
        threads=threads,
        queries=len(run),
        warmup_queries=run.warmup_queries,
        images=images,
        fps=run.fps,
        rate=run.rate,
        latency_ms=latency.summary(),
        latency_interval_ms=latency.intervals(),
        service_ms=service.summary(),
        stages_ms=stages,
        deadline_misses=misses,
        judgements=tuple(judgements),
        skipped=dict(skipped),
        warnings=(*environment.warnings, *warnings),
        environment=environment,
    )
