"""`edgead quickstart`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from edgead.workflows.quickstart import QuickstartReport

INTERRUPTED = "the same command goes on with the training where it stopped"


def command(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for everything that is made.")
    ] = Path("edgead-quickstart"),
    seed: Annotated[int, typer.Option(help="Of the draw of the cells and of training.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier quickstart.")] = False,
    restart: Annotated[bool, typer.Option("--restart", help="Forget an unfinished training.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Everything once, on real solar cells: train, export, verify, bench, run. Offline, in minutes.

    Example: edgead quickstart -o first-try
    """
    from edgead.cli._output import emit
    from edgead.cli._progress import RichProgress
    from edgead.workflows.quickstart import quickstart

    report = quickstart(
        output, seed=seed, overwrite=overwrite, restart=restart, progress=RichProgress(quiet=quiet)
    )
    data = {
        "targets": report.rows(),
        "seconds": report.seconds,
        "bundle": report.bundle,
        "overlays": report.judged.overlays,
    }
    emit(data, as_json=as_json, human=lambda: _text(report))


def _text(report: QuickstartReport) -> str:
    from edgead.cli._output import table

    def ms(value: object) -> str:
        return f"{value:.1f} ms" if isinstance(value, float) else "–"

    rows = [
        (
            row["target"],
            f"{row['image_auroc']:.4f}",
            row["flips"],
            ms(row["p50_ms"]),
            ms(row["p99_ms"]),
            f"{row['fps']:.0f}",
            f"{row['size_bytes'] / 1e6:.1f} MB",  # type: ignore[operator]
            row["gate"],
        )
        for row in report.rows()
    ]
    verified, bundle = report.verified, report.bundle
    took = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in report.seconds.items())
    return "\n".join(
        [
            table(("target", "image AUROC", "flips", "p50", "p99", "FPS", "size", "gate"), rows),
            "",
            f"judged against torch on {verified.images} cells, {verified.good} of them good, none used for "
            "training or thresholds",
            f"took {sum(report.seconds.values()):.0f} s ({took})",
            "",
            f"pictures   {report.judged.overlays}",
            f"bundle     {bundle}",
            "",
            "next, with a folder of your own good images:",
            "  edgead train simplenet good-images/ -o part.model",
            "  edgead export part.model --calib good-images/ -o part.edgead",
            "  edgead run part.edgead new-images/ -o results",
        ]
    )
