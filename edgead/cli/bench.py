"""`edgead bench`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgead.cli._runtime import RuntimeOption

if TYPE_CHECKING:
    from edgead.benchmarks.report import BenchReport

INTERRUPTED = "nothing was measured yet"
_ARRIVALS = "Arrivals, pauses, streams"
_RESULTS = "Results"


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
    all_targets: Annotated[
        bool, typer.Option("--all-targets", help="Measure every target of the bundle, and rank them.")
    ] = False,
    scenario: Annotated[
        str | None,
        typer.Option(
            help="single-stream (default): the next image when the one before is done. "
            "paced: --fps images per second as from a camera, latency from the planned start. "
            "idle-gap: after pauses, left alone and kept warm. "
            "multi-camera: --fps from each of --streams cameras, triggered together. "
            "offline: as fast as --streams workers can. "
            "soak: for --seconds, watching memory and p99."
        ),
    ] = None,
    fps: Annotated[
        float | None,
        typer.Option(
            help="Images per second: required throughput; in paced, multi-camera, soak the rate of arrival."
        ),
    ] = None,
    p99: Annotated[
        str | None, typer.Option(metavar="TIME", help="99 of 100 images answered within, such as 5ms.")
    ] = None,
    p999: Annotated[
        str | None, typer.Option("--p999", metavar="TIME", help="999 of 1,000 images answered within.")
    ] = None,
    deadline: Annotated[
        str | None, typer.Option(metavar="TIME", help="Every image answered within, such as 20ms.")
    ] = None,
    targets: Annotated[
        Path | None,
        typer.Option(help="targets.toml: takes the options from its row for this bundle and device."),
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="This machine's name in --targets. Default: its host name.")
    ] = None,
    queries: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Images to measure (of each camera). Default: until the targets are decided, at most 60 s; "
            "without a target 1000.",
        ),
    ] = None,
    seconds: Annotated[
        float | None, typer.Option(help="Stop after this long at the latest; how long a soak lasts.")
    ] = None,
    threads: Annotated[
        int, typer.Option(min=0, help="Compute threads; 0 = the engine's choice, or its share of the cores.")
    ] = 0,
    runtime: RuntimeOption = None,
    bit_depth: Annotated[
        int | None, typer.Option(help="Significant bits of 16-bit files: 10, 12 or 16.")
    ] = None,
    decode: Annotated[
        bool, typer.Option("--decode", help="Decode each image from memory, too, as the first stage.")
    ] = False,
    jitter: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Arrivals move by up to ± this.", rich_help_panel=_ARRIVALS),
    ] = None,
    queue: Annotated[
        int | None,
        typer.Option(
            help="Arrivals that may wait (100); a further one is dropped.", rich_help_panel=_ARRIVALS
        ),
    ] = None,
    streams: Annotated[
        int | None,
        typer.Option(
            help="Cameras in multi-camera (2), workers in offline (as many as cores).",
            rich_help_panel=_ARRIVALS,
        ),
    ] = None,
    pauses: Annotated[
        str | None,
        typer.Option(metavar="TIMES", help="Of idle-gap, such as 0,100ms,2s.", rich_help_panel=_ARRIVALS),
    ] = None,
    keep_warm: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="In idle-gap, a query so often in a pause; the targets are then for those kept warm. "
            "Default: 50ms, and the targets are for those left alone.",
            rich_help_panel=_ARRIVALS,
        ),
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(
            help="Also fail where this bundle is slower than another one, measured in turn with it, "
            "or than an earlier result (a file of --json).",
            rich_help_panel=_RESULTS,
        ),
    ] = None,
    html: Annotated[
        Path | None, typer.Option(help="Write a report with pictures.", rich_help_panel=_RESULTS)
    ] = None,
    accuracy: Annotated[
        Path | None,
        typer.Option(
            help="What edgead verify --json said, for the report's picture of accuracy over latency.",
            rich_help_panel=_RESULTS,
        ),
    ] = None,
    summary: Annotated[
        Path | None,
        typer.Option(
            help="Append a summary in Markdown, for instance to $GITHUB_STEP_SUMMARY.",
            rich_help_panel=_RESULTS,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure latency on real images and hold it against targets.

    Without --fps, --p99, --p999 or --deadline it only reports.

    Exit codes: 3 a target is missed, 4 too few images or too near to say,
    8 otherwise fine, but some images could not be read,
    130 interrupted: what was measured until then is printed.
    With --all-targets, 3 and 4 say that of the best target.

    Example: edgead bench solar.edgead --images photos --fps 200 --p99 5ms
    """
    from edgead.cli._bench_text import ranking_text, report_text
    from edgead.cli._output import emit
    from edgead.cli._progress import RichProgress
    from edgead.errors import UsageError
    from edgead.types import Target
    from edgead.workflows.bench import bench, bench_all_targets

    given: dict[str, Any] = {
        "scenario": scenario,
        "fps": fps,
        "p99": p99,
        "p999": p999,
        "deadline": deadline,
        "queries": queries,
        "seconds": seconds,
        "jitter": jitter,
        "queue": queue,
        "streams": streams,
        "pauses": None if pauses is None else pauses.split(","),
        "keep_warm": keep_warm,
        "threads": threads or None,
        "runtime": runtime.value if runtime is not None else None,
    }
    options = {name: value for name, value in given.items() if value is not None}
    if targets is not None:
        target, options = _from_file(targets, device, bundle, target, options)
    elif device is not None:
        raise UsageError("--device names a row of --targets; give that, too")
    common: dict[str, Any] = {
        "bit_depth": bit_depth,
        "decode": decode,
        "html": html,
        "accuracy": accuracy,
        "progress": RichProgress(),
        **options,
    }
    if all_targets:
        for name, value in (("--target", target), ("--against", against)):
            if value is not None:
                raise UsageError(f"--all-targets measures every one of this bundle; leave {name} out")
        ranking = bench_all_targets(bundle, images, **common)
        reports = ranking.reports
        emit(ranking.as_json(), as_json=as_json, human=lambda: ranking_text(ranking))
    else:
        wanted = None if target is None else Target.parse(target)
        report = bench(bundle, images, target=wanted, against=against, **common)
        reports = (report,)
        emit(report.as_json(), as_json=as_json, human=lambda: report_text(report))
    if summary is not None:
        _append(summary, reports)
    _end(reports)


def _from_file(
    path: Path, device: str | None, bundle: Path, target: str | None, options: dict[str, Any]
) -> tuple[str | None, dict[str, Any]]:
    """The target and options of the row of `path` for this bundle and device."""
    import platform

    from edgead.benchmarks.targets_file import choose, read_targets
    from edgead.errors import UsageError

    if options:
        names = ", ".join("--" + name.replace("_", "-") for name in options)
        raise UsageError(f"{path} says what to measure; leave {names} out, or leave --targets out")
    row = choose(read_targets(path), path, bundle.stem, device or platform.node(), target)
    return row.options.get("target", target), {
        name: value for name, value in row.options.items() if name != "target"
    }


def _append(path: Path, reports: tuple[BenchReport, ...]) -> None:
    from edgead.benchmarks.summary import markdown
    from edgead.errors import OutputError

    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(markdown(reports))
    except OSError as err:
        raise OutputError(f"{path} cannot be written: {err.strerror}") from err


def _end(reports: tuple[BenchReport, ...]) -> None:
    """Exit with the code that the best report asks for; there is one, or they are ranked."""
    from edgead.errors import GateFailed, ImagesSkipped, Inconclusive

    best = reports[0]
    if not all(report.complete for report in reports):
        raise typer.Exit(130)
    if best.verdict == "fail":
        raise GateFailed(_reasons(best, "fail"))
    if best.verdict == "inconclusive":
        raise Inconclusive(_reasons(best, "inconclusive"))
    if best.skipped:
        raise ImagesSkipped(f"measured, but {len(best.skipped)} images could not be read")


def _reasons(report: BenchReport, verdict: str) -> str:
    return "; ".join(
        f"{judgement.target}: {judgement.reason}; {judgement.advice}"
        for judgement in report.judgements
        if judgement.verdict == verdict
    )
