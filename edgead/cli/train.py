"""`edgead train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

INTERRUPTED = "what was trained is kept in MODEL.partial; the same command goes on from there"


def command(
    detector: Annotated[str, typer.Argument(metavar="DETECTOR", help="A preset, such as simplenet.")],
    data: Annotated[
        Path, typer.Argument(metavar="DATA", help="MVTec layout (its train/good) or a folder of good images.")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="MODEL", help="Folder to write.")],
    seed: Annotated[int, typer.Option(help="Of every random choice.")] = 0,
    reserve: Annotated[
        float, typer.Option(help="Share of the good images to hold out for early stop and thresholds.")
    ] = 0.2,
    weights: Annotated[
        Path | None, typer.Option(help="The backbone's or teacher's file. Default: by name, see the README.")
    ] = None,
    penalty: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="efficientad: images that are not of the product. Default: drawn."),
    ] = None,
    textures: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="cpr: textures for synthetic anomalies. Default: drawn."),
    ] = None,
    foreground: Annotated[
        str | None,
        typer.Option(
            metavar="auto|on|off", help="cpr: look at the object only. Default: auto, off for textures."
        ),
    ] = None,
    bank_budget: Annotated[
        float | None,
        typer.Option(metavar="MIB", help="cpr: memory for reference images. Default: all are kept."),
    ] = None,
    bank_type: Annotated[
        str | None,
        typer.Option(
            metavar="fp32|fp16|int8", help="cpr: how references are stored. Default: the preset's, fp16."
        ),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Steps to train. Default: the preset's.")] = None,
    size: Annotated[
        str | None,
        typer.Option(
            metavar="HEIGHTxWIDTH",
            help="Of the network's input in pixels: 192x512, or 320 for a square. Default: the preset's.",
        ),
    ] = None,
    tiles: Annotated[
        str | None,
        typer.Option(
            metavar="ROWSxCOLUMNS",
            help="See large frames in so many overlapping tiles, each of the size above: 2x3.",
        ),
    ] = None,
    overlap: Annotated[
        int | None,
        typer.Option(
            metavar="PIXELS", help="That neighbouring tiles share: 64. Default: a quarter of a tile's side."
        ),
    ] = None,
    roi: Annotated[
        str | None, typer.Option(metavar="X,Y,W,H", help="Part of the frame to look at, in pixels.")
    ] = None,
    bit_depth: Annotated[
        int | None, typer.Option(help="Bits that 16-bit files really use: 10, 12 or 16.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing MODEL.")] = False,
    restart: Annotated[bool, typer.Option("--restart", help="Forget an unfinished training.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Train a detector on good images.

    A share of them is held out: it decides when to stop and sets thresholds later; test images are never
    looked at. Interrupted, the same command goes on where it stopped.

    Exit codes: 8 trained, but some images could not be read.

    Example: edgead train simplenet photos -o solar.model

    Large frames: edgead train patchcore photos -o sheet.model --size 256 --tiles 2x3
    """
    from edgead.cli._output import emit
    from edgead.cli._progress import RichProgress
    from edgead.cli._roi import parse_roi
    from edgead.cli._size import parse_size, parse_tiles
    from edgead.errors import ImagesSkipped
    from edgead.workflows.train import train

    result = train(
        detector,
        data,
        output,
        seed=seed,
        reserve_share=reserve,
        weights=weights,
        penalty=penalty,
        textures=textures,
        foreground=foreground,
        bank_budget=bank_budget,
        bank_type=bank_type,
        steps=steps,
        size=None if size is None else parse_size(size),
        tiles=None if tiles is None else parse_tiles(tiles),
        overlap=overlap,
        roi=parse_roi(roi),
        bit_depth=bit_depth,
        overwrite=overwrite,
        restart=restart,
        progress=RichProgress(),
    )
    values = {
        "model": result.output,
        "detector": result.info.detector,
        "preset": result.info.preset,
        "trained": result.trained,
        "reserved": result.reserved,
        "skipped": [{"path": item.path, "reason": item.reason} for item in result.skipped],
        "seconds": result.seconds,
    }
    emit(
        values,
        as_json=as_json,
        human=f"{result.output}: {result.info.preset} trained on {result.trained} images in "
        f"{result.seconds:.0f} s, {result.reserved} held out\nNext: edgead export {result.output} "
        f"--calib {data} -o {result.output.with_suffix('.edgead')}",
    )
    if result.skipped:
        names = ", ".join(str(item.path) for item in result.skipped)
        raise ImagesSkipped(f"trained, but {len(result.skipped)} images could not be read: {names}")
