"""`edgead bench`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgead.cli._runtime import RuntimeOption

if TYPE_CHECKING:
    from edgead.benchmarks.report import BenchReport

INTERRUPTED = "nothing was measured yet"


def command(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="Bundle: directory or zip.")],
    images: Annotated[
        list[Path],
        typer.Option("--images", help="Folder of images, or a file; can be repeated. Decoded beforehand."),
    ],
    target: Annotated[
        str | None,
        typer.Option(help="Engine and precision, such as openvino:fp32. Default: the first available here."),
    ] = None,
    scenario: Annotated[
        str,
        typer.Option(
            help="single-stream: the next image when the one before is done. "
            "paced: --fps images per second as from a camera, latency from the planned start."
        ),
    ] = "single-stream",
    fps: Annotated[
        float | None,
        typer.Option(help="Images per second: required throughput; in paced, the rate of arrival."),
    ] = None,
    p99: Annotated[
        str | None, typer.Option(metavar="TIME", help="99 of 100 images answered within, such as 5ms.")
    ] = None,
    deadline: Annotated[
        str | None, typer.Option(metavar="TIME", help="Every image answered within, such as 20ms.")
    ] = None,
    queries: Annotated[
        int | None, typer.Option(min=1, help="Images to measure. Default: 1000, or what 60 s allow.")
    ] = None,
    seconds: Annotated[float | None, typer.Option(help="Stop after this long at the latest.")] = None,
    threads: Annotated[int, typer.Option(min=0, help="Compute threads; 0 = the engine's choice.")] = 0,
    runtime: RuntimeOption = None,
    bit_depth: Annotated[
        int | None, typer.Option(help="Significant bits of 16-bit files: 10, 12 or 16.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure latency on real images and hold it against targets.

    Without --fps, --p99 or --deadline it only reports.

    Exit codes: 3 a target is missed, 4 too few images or too near to say,
    8 otherwise fine, but some images could not be read,
    130 interrupted: what was measured until then is printed.

    Example: edgead bench solar.edgead --images photos --fps 200 --p99 5ms
    """
    from edgead.cli._output import emit
    from edgead.cli._progress import RichProgress
    from edgead.errors import GateFailed, ImagesSkipped, Inconclusive
    from edgead.types import Target
    from edgead.workflows.bench import bench

    report = bench(
        bundle,
        images,
        target=None if target is None else Target.parse(target),
        scenario=scenario,
        fps=fps,
        p99=p99,
        deadline=deadline,
        queries=queries,
        seconds=seconds,
        threads=threads,
        runtime=runtime.value if runtime is not None else None,
        bit_depth=bit_depth,
        progress=RichProgress(),
    )
    emit(report.as_json(), as_json=as_json, human=lambda: _text(report))
    if not report.complete:
        raise typer.Exit(130)
    if report.verdict == "fail":
        raise GateFailed(_reasons(report, "fail"))
    if report.verdict == "inconclusive":
        raise Inconclusive(_reasons(report, "inconclusive"))
    if report.skipped:
        raise ImagesSkipped(f"measured, but {len(report.skipped)} images could not be read")


def _reasons(report: BenchReport, verdict: str) -> str:
    return "; ".join(
        f"{judgement.target}: {judgement.reason}; {judgement.advice}"
        for judgement in report.judgements
        if judgement.verdict == verdict
    )


def _text(report: BenchReport) -> str:
    import sys

    from edgead.cli._output import colour

    colours = {"pass": "green", "fail": "red", "inconclusive": "yellow", "none": "bold"}
    verdict = "no target" if report.verdict == "none" else report.verdict.upper()
    rate = "" if report.rate is None else f" at {report.rate:g} images/s"
    lines = [
        f"{colour(verdict, colours[report.verdict], sys.stdout)}  {report.target}, {report.scenario}{rate}, "
        f"{report.queries} queries on {report.images} images, {report.fps:.4g} images/s"
    ]
    if not report.complete:
        lines.append(colour("interrupted: this is the part before", "yellow", sys.stdout))
    for judgement in report.judgements:
        mark = colour(f"{judgement.verdict:12}", colours[judgement.verdict], sys.stdout)
        advice = f"; {judgement.advice}" if judgement.advice else ""
        lines.append(f"  {mark}  {judgement.target}: {judgement.reason}{advice}")
    lines += ["", *_figures(report), ""]
    lines += [f"{colour('warning:', 'yellow', sys.stdout)} {warning}" for warning in report.warnings]
    where = report.environment
    threads = f"{report.threads} threads" if report.threads else "the engine's choice of threads"
    lines.append(
        f"{where.cpu}, {where.usable_cores} cores, {where.system}; driven by {report.runtime}, {threads}; "
        f"warm-up {report.warmup_queries} queries"
    )
    return "\n".join(lines)


def _figures(report: BenchReport) -> list[str]:
    """A row of percentiles for the latency and each stage, in ms."""
    rows = {"latency": report.latency_ms}
    if report.rate is not None:
        rows["service"] = report.service_ms
    rows |= {f"  {name}": stage for name, stage in report.stages_ms.items()}

    def cells(values: list[float | None]) -> str:
        return "".join(f"{'–' if value is None else f'{value:.3f}':>10}" for value in values)

    lines = [f"{'ms':12}" + "".join(f"{name:>10}" for name in report.latency_ms)]
    lines += [f"{name:12}" + cells(list(row.values())) for name, row in rows.items()]
    low, high = report.latency_interval_ms.get("p99", (None, None))
    if low is not None and high is not None:
        lines.append(f"99 % sure: the p99 of the latency lies between {low:.3f} and {high:.3f} ms")
    if None in report.latency_ms.values():
        lines.append("– = too few queries to carry this percentile at 99 % confidence")
    return lines
