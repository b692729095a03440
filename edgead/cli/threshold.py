"""`edgead threshold`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgead.workflows.threshold import Limits

INTERRUPTED = "the thresholds are as they were"


def command(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="A bundle: folder or zip.")],
    image: Annotated[
        float | None, typer.Option("--set", metavar="RAW", help="Image threshold, in the units of score_raw.")
    ] = None,
    pixel: Annotated[
        float | None, typer.Option("--pixel", metavar="RAW", help="Pixel threshold, in raw map units.")
    ] = None,
    good: Annotated[
        Path | None,
        typer.Option("--from", metavar="DIR", help="Choose both from this folder of good images."),
    ] = None,
    reset: Annotated[bool, typer.Option("--reset", help="Go back to the bundle's own thresholds.")] = False,
    target: Annotated[
        str | None,
        typer.Option(help="Whose thresholds. Default: the first that runs here; all to show and to reset."),
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(
            "--fpr", metavar="SHARE", help="With --from: wanted share of good parts called NG \\[0.01]."
        ),
    ] = None,
    bit_depth: Annotated[
        int | None,
        typer.Option(metavar="BITS", help="With --from: bits that 16-bit files really use: 10, 12 or 16."),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show the decision limits, or set them on site; the bundle itself stays as it is.

    Example: edgead threshold part.edgead --from good_parts/
    """
    from edgead.cli._output import emit
    from edgead.cli._progress import RichProgress
    from edgead.errors import ImagesSkipped, UsageError
    from edgead.types import Target
    from edgead.workflows import threshold as workflow

    by_hand = image is not None or pixel is not None
    if sum((by_hand, good is not None, reset)) > 1:
        raise UsageError("--set/--pixel, --from and --reset exclude each other; give one of them")
    if good is None and (rate is not None or bit_depth is not None):
        raise UsageError("--fpr and --bit-depth belong to --from DIR; give a folder of good images, too")
    chosen = Target.parse(target) if target is not None else None
    progress = RichProgress(quiet=quiet)
    skipped: Sequence[tuple[Path, str]] = ()
    if reset:
        done = workflow.reset(bundle, target=chosen)
        progress.say("thresholds set on site removed" if done else "no thresholds were set on site")
        limits: Sequence[Limits] = workflow.show(bundle, target=chosen)
    elif good is not None:
        choice = workflow.set_from_good(
            bundle, good, false_positive_rate=rate, target=chosen, bit_depth=bit_depth, progress=progress
        )
        limits, skipped = [choice.limits], choice.skipped
    elif by_hand:
        limits = [workflow.set_raw(bundle, image=image, pixel=pixel, target=chosen)]
    else:
        limits = workflow.show(bundle, target=chosen)
    if by_hand or good is not None:
        progress.say(f"set for {limits[0].target}, beside the bundle")
    emit(
        {"targets": {one.target: _data(one) for one in limits}}, as_json=as_json, human=lambda: _text(limits)
    )
    if skipped:
        raise ImagesSkipped(f"{len(skipped)} images could not be used; the first: {skipped[0][1]}")


def _data(limits: Limits) -> dict[str, object]:
    return {
        "origin": limits.origin,
        "changed": limits.changed or None,
        "image": limits.thresholds.image,
        "pixel": limits.thresholds.pixel,
        "image_median": limits.thresholds.image_median,
        "pixel_median": limits.thresholds.pixel_median,
        "method": limits.thresholds.method,
    }


def _text(limits: Sequence[Limits]) -> str:
    from edgead.cli._output import table

    rows = [
        (
            one.target,
            f"{one.thresholds.image:.6g}",
            f"{one.thresholds.image_median:.6g}",
            f"{one.thresholds.pixel:.6g}",
            f"{one.thresholds.pixel_median:.6g}",
            f"site, {one.changed}" if one.origin == "site" else "bundle",
        )
        for one in limits
    ]
    lines = [table(("target", "image", "good median", "pixel", "good median", "set by"), rows)]
    chosen: dict[str, list[str]] = {}  # targets often share a sentence: say it once
    for one in limits:
        for kind in ("image", "pixel"):
            how = one.thresholds.method.get(kind)
            if isinstance(how, dict) and how.get("text"):
                chosen.setdefault(str(how["text"]), []).append(f"{one.target} {kind}")
    lines += [f"{', '.join(names)}: {text}" for text, names in chosen.items()]
    return "\n".join(lines)
