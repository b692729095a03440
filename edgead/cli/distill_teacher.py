"""`edgead distill-teacher`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

INTERRUPTED = "what was learned is kept in OUTPUT.partial; the same command goes on from there"


def command(
    size: Annotated[str, typer.Argument(metavar="SIZE", help="small, medium or edge.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FILE", help="NAME.safetensors to write.")
    ],
    images: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Images to learn from, never test images. Default: drawn ones."),
    ] = None,
    drawn: Annotated[float, typer.Option(help="Share of drawn images among the folder's, 0 to 1.")] = 0.0,
    backbone: Annotated[str, typer.Option(help="Which backbone to imitate.")] = "efficientnet_lite0",
    weights: Annotated[
        Path | None, typer.Option(help="The backbone's weights file. Default: by name, see the README.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="Steps to train. Default: 60000. Below 10000: a short run, for a CPU.")
    ] = None,
    batch: Annotated[int | None, typer.Option(help="Images per step. Default: 16; short run: 8.")] = None,
    rate: Annotated[
        float | None, typer.Option(help="The optimiser's learning rate. Default: 1e-4; short run: 2e-3.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of every random choice.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")] = False,
    restart: Annotated[bool, typer.Option("--restart", help="Forget an unfinished distillation.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Make a teacher for EfficientAD out of a backbone.

    A network of the size learns to say what the backbone says of the images. Without the published teachers,
    or for the edge size, this is what `edgead train efficientad` takes as its weights. Interrupted, the same
    command goes on where it stopped.

    Example: edgead distill-teacher edge --images photos -o edge.safetensors
    """
    from edgead.cli._output import emit
    from edgead.cli._progress import RichProgress
    from edgead.workflows.distill import distill_teacher

    result = distill_teacher(
        size,
        output,
        backbone=backbone,
        images=images,
        drawn=drawn,
        weights=weights,
        steps=steps,
        batch=batch,
        rate=rate,
        seed=seed,
        overwrite=overwrite,
        restart=restart,
        progress=RichProgress(),
    )
    preset = {"small": "efficientad", "medium": "efficientad_m"}.get(size, "efficientad_edge")
    emit(
        {"teacher": result.output, "size": size, "loss": result.loss, "seconds": result.seconds},
        as_json=as_json,
        human=f"{result.output}: loss {result.loss:.3f} (1 = nothing learned) after {result.seconds:.0f} s\n"
        f"Next: edgead train {preset} DATA -o MODEL --weights {result.output}",
    )
