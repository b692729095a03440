"""`edgead import`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="Who wrote it: simplenet, efficientad, cpr, anomalib.")
    ],
    checkpoint: Annotated[
        Path, typer.Argument(metavar="CHECKPOINT", help="The checkpoint's file or folder.")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="MODEL", help="Folder to write.")],
    preset: Annotated[
        str | None, typer.Option(help="Preset with the backbone and pixels. Default: the source's own.")
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="The backbone's weights file. Default: by name, see the README.")
    ] = None,
    calib: Annotated[
        Path | None,
        typer.Option(metavar="DIR|JSON", help="Good images, or values, for statistics that it lacks."),
    ] = None,
    resize: Annotated[int | None, typer.Option(help="Shorter side before the crop, in pixels.")] = None,
    input_size: Annotated[int | None, typer.Option(help="Side of what the network sees, in pixels.")] = None,
    tap_dim: Annotated[
        int | None, typer.Option(help="Values per position and tap (pretrain_embed_dimension).")
    ] = None,
    roi: Annotated[
        str | None, typer.Option(metavar="X,Y,W,H", help="Part of the frame to look at, in pixels.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing MODEL.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Make a MODEL of a checkpoint that another program wrote.

    Nothing that the checkpoint brings along is executed: tensors and plain values are read, all else is
    refused.

    Example: edgead import simplenet ckpt.pth -o solar.model --weights wide_resnet50_2-95faca4d.pth
    """
    from edgead.cli._output import emit
    from edgead.cli._progress import RichProgress
    from edgead.cli._roi import parse_roi
    from edgead.workflows.importing import import_checkpoint

    result = import_checkpoint(
        source,
        checkpoint,
        output,
        preset=preset,
        weights=weights,
        calib=calib,
        resize=resize,
        input_size=input_size,
        tap_dim=tap_dim,
        roi=parse_roi(roi),
        overwrite=overwrite,
        progress=RichProgress(),
    )
    info = result.info
    values = {"model": result.output, "detector": info.detector, "preset": info.preset, "config": info.config}
    emit(
        values,
        as_json=as_json,
        human=f"{result.output}: {info.detector} from {checkpoint}\nNext: edgead export {result.output} "
        f"--calib GOOD -o {result.output.with_suffix('.edgead')} (good images that it was not trained on)",
    )
