"""`edgead select`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from edgead.workflows.select import SelectReport

INTERRUPTED = "what was measured is kept in OUTPUT.partial; the same command goes on from there"


def command(
    data: Annotated[
        Path, typer.Argument(metavar="DATA", help="MVTec layout (its train/good) or a folder of good images.")
    ],
    p99: Annotated[str, typer.Option(help="99 of 100 images are answered within this: 10ms.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The winner's bundle, NAME.edgead.")],
    minutes: Annotated[float, typer.Option(help="Time for all of it.")] = 30.0,
    device: Annotated[str, typer.Option(help="Whose engines are tried.")] = "cpu",
    detectors: Annotated[
        str | None, typer.Option(help="Presets, with commas between. Default: all whose weights are here.")
    ] = None,
    sizes: Annotated[
        str | None,
        typer.Option(help="Height x width, with commas between: 256,192x512. Default: from the frames."),
    ] = None,
    target: Annotated[
        list[str] | None, typer.Option(help="<engine>:<precision>, repeatable. Default: the device's.")
    ] = None,
    validation: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Root with labelled test folders to judge by. Never your test images."
        ),
    ] = None,
    keep: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Keep every candidate's MODEL and bundle there.")
    ] = None,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a report with the picture.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of every random choice.")] = 0,
    threads: Annotated[int, typer.Option(min=0, help="Compute threads; 0 = the engine's choice.")] = 0,
    bit_depth: Annotated[
        int | None, typer.Option(metavar="BITS", help="Bits that 16-bit files really use: 10, 12 or 16.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a bundle at the output.")] = False,
    restart: Annotated[bool, typer.Option("--restart", help="Forget what an earlier call left.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Find the most accurate detector that keeps a latency budget on this machine.

    Accuracy is judged by held-out good images against the same with synthetic defects, or by --validation.

    Exit codes: 3 nothing keeps the budget, 4 the time ended before anything was decided.

    Example: edgead select photos --p99 10ms -o part.edgead
    """
    from edgead.cli._output import emit
    from edgead.cli._progress import RichProgress
    from edgead.cli._size import parse_size
    from edgead.workflows.select import select

    report = select(
        data,
        output,
        p99=p99,
        minutes=minutes,
        device=device,
        detectors=None if detectors is None else [name.strip() for name in detectors.split(",")],
        sizes=None if sizes is None else [parse_size(text.strip(), "--sizes") for text in sizes.split(",")],
        targets=target,
        validation=validation,
        keep=keep,
        seed=seed,
        threads=threads,
        bit_depth=bit_depth,
        overwrite=overwrite,
        restart=restart,
        html=html,
        progress=RichProgress(quiet=quiet),
    )
    emit(report, as_json=as_json, human=lambda: _text(report))


def _text(report: SelectReport) -> str:
    from edgead.cli._output import table

    def shown(value: float | None, digits: int) -> str:
        return "–" if value is None else f"{value:.{digits}f}"

    rows = [
        (
            "→" if one.name == report.winner else "",
            one.name,
            shown(one.accuracy, 4),
            shown(one.p50_ms, 2),
            shown(one.p99_ms if one.p99_ms is not None else one.trial_ms, 2),
            one.verdict or one.status,
            one.reason,
        )
        for one in report.candidates
    ]
    return "\n".join(
        [
            table(("", "candidate", "accuracy", "p50 ms", "p99 ms", "verdict", "why not"), rows),
            "",
            f"accuracy: {report.measure}",
            f"bundle     {report.bundle}",
        ]
    )
