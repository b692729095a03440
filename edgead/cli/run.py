"""`edgead run`."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgead.cli._runtime import RuntimeOption

if TYPE_CHECKING:
    from edgead.workflows.run import Judged, RunSummary


class Overlays(str, Enum):
    """Which images get a picture."""

    ALL = "all"
    NG = "ng"
    NONE = "none"


INTERRUPTED = "what was judged so far stands in predictions.jsonl.partial in the output folder"
MOST_ERRORS = 5


def command(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="A bundle: folder or zip.")],
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGES",
            help="Image files, folders of images, video files; or one camera: 0, 1, or camera:0.",
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.")],
    target: Annotated[
        str | None, typer.Option(help="Engine and precision. Default: the bundle's first that runs here.")
    ] = None,
    overlays: Annotated[Overlays, typer.Option(help="Which images get a picture.")] = Overlays.ALL,
    bit_depth: Annotated[
        int | None, typer.Option(metavar="BITS", help="Bits that 16-bit files really use: 10, 12 or 16.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an earlier run in the output folder.")
    ] = False,
    threads: Annotated[int, typer.Option(min=0, help="Compute threads; 0 = the engine's choice.")] = 0,
    runtime: RuntimeOption = None,
    frames: Annotated[
        int | None, typer.Option(min=1, help="End after so many frames of a video or a camera.")
    ] = None,
    seconds: Annotated[
        float | None, typer.Option(help="End a camera, or each video, after so many seconds.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Judge images, videos or a camera: a line of predictions.jsonl and a picture for each frame.

    A camera's run ends with Ctrl-C, --frames or --seconds; the results are then complete. What it gives
    faster than it is judged is dropped, counted, and answered with code 8. Of a video nothing is dropped.

    Example: edgead run part.edgead images/ -o results --overlays ng

    Example: edgead run part.edgead camera:0 -o results --overlays ng --seconds 60
    """
    from edgead.cli._output import emit
    from edgead.cli._progress import RichProgress
    from edgead.errors import EngineError, ImagesSkipped, InputError
    from edgead.types import Target
    from edgead.workflows.run import run

    summary = run(
        bundle,
        images,
        output,
        target=Target.parse(target) if target is not None else None,
        bit_depth=bit_depth,
        overlays=overlays.value,
        overwrite=overwrite,
        threads=threads,
        runtime=runtime.value if runtime is not None else None,
        frames=frames,
        seconds=seconds,
        progress=RichProgress(quiet=quiet),
    )
    emit(_data(summary), as_json=as_json, human=lambda: _text(summary))
    if summary.failed:
        raise EngineError(
            f"{summary.target} failed on {summary.failed} of {summary.images} images; {_first(summary)}"
        )
    if summary.unreadable and summary.unreadable == summary.images:
        raise InputError(f"none of the {summary.images} images could be used; {_first(summary)}")
    if summary.unreadable:
        raise ImagesSkipped(
            f"{summary.unreadable} of {summary.images} images could not be used; {_first(summary)}"
        )
    if summary.dropped:
        given = summary.images + summary.dropped
        raise ImagesSkipped(
            f"{summary.dropped} of {given} frames were dropped: the camera is faster than {summary.target}, "
            "nobody knows whether their parts are good; let it give fewer frames, or draw fewer overlays"
        )


def _first(summary: RunSummary) -> str:
    return f"the first: {summary.errors[0].error}"


def _data(summary: RunSummary) -> dict[str, Any]:
    def one(judged: Judged) -> dict[str, object]:
        return {
            "path": judged.path,
            "decision": judged.decision,
            "score": judged.score,
            "error": judged.error,
        }

    return {
        "target": summary.target,
        "runtime": summary.runtime,
        "images": summary.images,
        "ok": summary.ok,
        "ng": summary.ng,
        "unreadable": summary.unreadable,
        "failed": summary.failed,
        "dropped": summary.dropped,
        "median_ms": summary.median_ms,
        "predictions": summary.predictions,
        "overlays": summary.overlays,
        "worst": [one(judged) for judged in summary.worst],
        "errors": [one(judged) for judged in summary.errors],
    }


def _text(summary: RunSummary) -> str:
    import math
    import sys

    from edgead.cli._output import colour, table

    counts = f"{summary.images} images: {summary.ok} OK, {summary.ng} NG"
    if summary.errors:
        counts += f", {len(summary.errors)} ERROR"
    if summary.dropped:
        counts += f"; {summary.dropped} frames dropped"
    speed = "" if math.isnan(summary.median_ms) else f", median {summary.median_ms:.1f} ms per image"
    lines = [f"{counts} ({summary.target}, {summary.runtime}{speed})"]
    if summary.worst:
        rows = [
            (f"{one.score:.4f}", one.decision, one.overlay if one.overlay is not None else one.path)
            for one in summary.worst
        ]
        lines += ["", "highest scores (limit 0.5)", table(("score", "decision", "see"), rows)]
    for one in summary.errors[:MOST_ERRORS]:
        lines.append(f"{colour('ERROR', 'red', sys.stdout)} {one.error}")
    if len(summary.errors) > MOST_ERRORS:
        lines.append(f"… and {len(summary.errors) - MOST_ERRORS} more ERROR")
    lines += ["", f"predictions  {summary.predictions}"]
    if summary.overlays is not None:
        lines.append(f"overlays     {summary.overlays}")
    return "\n".join(lines)
