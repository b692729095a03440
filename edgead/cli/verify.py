"""`edgead verify`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgead.cli._runtime import RuntimeOption

if TYPE_CHECKING:
    from edgead.workflows.verify import VerifyReport


def command(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="A bundle: folder or zip.")],
    data: Annotated[
        Path, typer.Argument(metavar="DATA", help="Root with test/good, test/<defect> and ground_truth.")
    ],
    model: Annotated[
        Path | None,
        typer.Option(help="The MODEL, as reference in torch. Default: graph.onnx in ONNX Runtime, fp32."),
    ] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(
            help="Which target, repeatable. Default: all of the bundle's that were verified or can run."
        ),
    ] = None,
    min_auroc: Annotated[
        float | None, typer.Option(help="Image AUROC that every target must reach, 0 to 1.")
    ] = None,
    bit_depth: Annotated[
        int | None, typer.Option(metavar="BITS", help="Bits that 16-bit files really use: 10, 12 or 16.")
    ] = None,
    threads: Annotated[int, typer.Option(min=0, help="Compute threads; 0 = the engine's choice.")] = 0,
    runtime: RuntimeOption = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Hold every target against its reference on labelled test images: flips, score shift, AUROC, AU-PRO.

    Exit code 3 where a target is over its gate.

    Example: edgead verify bottle.edgead bottle/ --model bottle.model --min-auroc 0.99
    """
    from edgead.cli._errors import skipped
    from edgead.cli._output import emit
    from edgead.cli._progress import RichProgress
    from edgead.errors import GateFailed
    from edgead.workflows.verify import verify

    report = verify(
        bundle,
        data,
        model=model,
        targets=target,
        min_auroc=min_auroc,
        bit_depth=bit_depth,
        threads=threads,
        runtime=runtime.value if runtime is not None else None,
        progress=RichProgress(quiet=quiet),
    )
    emit(report.to_json(), as_json=as_json, human=lambda: _text(report))
    if not report.passed:
        failures = [
            f"{name}: {text}" for name, verdict in report.targets.items() for text in verdict.failures
        ]
        raise GateFailed("; ".join(failures))
    skipped(report.skipped)


def _text(report: VerifyReport) -> str:
    from edgead.cli._output import table

    def share(value: float | None) -> str:
        return "–" if value is None else f"{value:.4f}"

    reference = report.reference
    rows = [
        (
            f"reference ({report.kind})",
            share(reference.image_auroc),
            share(reference.pixel_auroc),
            share(reference.au_pro),
            share(reference.operating.recall),
            share(reference.operating.false_positive_rate),
            "",
            "",
            "",
        )
    ]
    for name, verdict in report.targets.items():
        accuracy, parity = verdict.accuracy, verdict.parity
        relative = (
            f"{parity.shift_max / parity.score_range:.1e}" if parity.shift_max and parity.score_range else "0"
        )
        rows.append(
            (
                name,
                share(accuracy.image_auroc),
                share(accuracy.pixel_auroc),
                share(accuracy.au_pro),
                share(accuracy.operating.recall),
                share(accuracy.operating.false_positive_rate),
                str(len(parity.flipped)),
                relative,
                "passed" if verdict.passed else "FAILED",
            )
        )
    rows += [(name, *"–––––––", "not verified here") for name in report.not_run]
    head = ("target", "image AUROC", "pixel AUROC", "AU-PRO", "recall", "FPR", "flips", "shift/range", "gate")
    lines = [table(head, rows), "", f"{report.images} images, {report.good} good"]
    if report.without_mask:
        lines.append(f"{report.without_mask} defective images without a mask are left out of pixel metrics")
    lines += [f"not verified here: {name}: {why}" for name, why in report.not_run.items()]
    for name, verdict in report.targets.items():
        lines.append(f"{name} driven by {verdict.runtime}")
        lines += [f"flipped by {name}: {path}" for path in verdict.flipped[:5]]
    return "\n".join(lines)
