"""`edgead select`: the most accurate detector that keeps a latency budget on this machine.

Latency comes first: each network is lowered, compiled and measured before it is trained, so that no time goes
into what is too slow. The rest is trained, the cheapest first, and judged. Test images are never looked at.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgead.benchmarks.histogram import Histogram
from edgead.benchmarks.targets import parse_duration
from edgead.bundle.manifest import created_by
from edgead.data.folder import good_images
from edgead.data.split import reserve
from edgead.errors import DatasetError, EdgeadError, GateFailed, Inconclusive, OutputError, UsageError
from edgead.imaging.frame import read_image
from edgead.progress import Progress, Silent
from edgead.workflows._evidence import ThresholdChoice
from edgead.workflows._images import hash_readable
from edgead.workflows._select_candidates import networks
from edgead.workflows._select_state import Candidate, State
from edgead.workflows._select_work import Work
from edgead.workflows.export import export

_BENCH_IMAGES = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectReport:
    """What `select` found.

    Attributes:
        bundle: the winner's.
        winner: its name.
        budget_ms: that was asked for.
        measure: what accuracy means.
        candidates: all, the most accurate first.
    """

    bundle: Path
    winner: str
    budget_ms: float
    measure: str
    candidates: tuple[Candidate, ...]


def select(
    data: Path,
    output: Path,
    *,
    p99: str,
    minutes: float = 30.0,
    device: str = "cpu",
    detectors: Sequence[str] | None = None,
    sizes: Sequence[tuple[int, int]] | None = None,
    targets: Sequence[str] | None = None,
    validation: Path | None = None,
    keep: Path | None = None,
    seed: int = 0,
    threads: int = 0,
    bit_depth: int | None = None,
    overwrite: bool = False,
    restart: bool = False,
    html: Path | None = None,
    progress: Progress | None = None,
) -> SelectReport:
    """Try detectors, input sizes and precisions; write the bundle of the most accurate one within the budget.

    While it works, ``OUTPUT.partial`` beside the output keeps what is done; the same call goes on from there,
    and measures again what was too slow while other programs took a part of the machine.

    Args:
        data: MVTec layout (its train/good) or a folder of good images.
        output: the bundle to write.
        p99: 99 of 100 images are to be answered within this, with its unit: ``10ms``.
        minutes: for all of it; what does not fit is named.
        device: engines of which device are tried.
        detectors: presets; None = all whose weights are here.
        sizes: (H, W) of the input; None = each preset's own and three sizes of the frames' aspect ratio.
        targets: instead of the device's own list.
        validation: MVTec-like root whose labelled ``test`` tells accuracy, never your test images; None =
            held-out good images against the same with synthetic defects.
        keep: folder for the state, and every MODEL and bundle, which stay there; None = ``OUTPUT.partial``.
        seed: of the split and of every training.
        threads: compute threads, 0 = the engine's choice.
        bit_depth: of 16-bit files.
        overwrite: replace a bundle at `output`.
        restart: forget what an earlier call left.
        html: where to write a report with the frontier's picture.
        progress: bars and messages.

    Raises:
        UsageError: an option cannot be read; a preset, a target or a device is unknown.
        OutputError: `output` cannot be written, or the state is that of other arguments.
        DatasetError: fewer than two different good images.
        GateFailed: nothing keeps the budget; the message names the nearest.
        Inconclusive: the time ended before anything was decided.
    """
    from edgead.benchmarks.html import check_writable

    show, end = progress or Silent(), time.monotonic() + 60 * minutes
    budget_ms = parse_duration(p99, "--p99") / 1e6
    if not minutes > 0:
        raise UsageError(f"--minutes {minutes:g}: give a time above 0")
    Histogram()  # a missing package is told before the work
    page = None if html is None else check_writable(html)
    if output.exists() and not overwrite:
        raise OutputError(f"{output} exists; choose another name or ask to overwrite it")
    items, hashes, _ = hash_readable(good_images(data), show)
    trained, reserved = reserve(hashes, seed=seed)
    held_out = {hashes[index]: items[index] for index in reserved}
    step = max(1, len(items) // _BENCH_IMAGES)
    paths = [item.path for item in items[::step]][:_BENCH_IMAGES]
    aspect = _aspect(paths, bit_depth)
    state = State(
        keep or output.with_name(output.name + ".partial"),
        {
            "data": sorted(hashes),
            "p99": p99,
            "seed": seed,
            "edgead": created_by(),
            "threads": threads,
            "validation": None if validation is None else str(validation.resolve()),
        },
        restart=restart,
    )
    measure = (
        "image AUROC on the labelled validation images"
        if validation is not None
        else "mean AUROC of held-out good images against the same with faint synthetic defects: it ranks "
        "candidates and is no measure of how many real defects are found"
    )
    work = Work(
        state,
        paths,
        data,
        held_out,
        p99,
        budget_ms,
        end,
        len(trained),
        seed,
        threads,
        bit_depth,
        validation,
        show,
    )
    alive = work.trials(networks(detectors, sizes, aspect), device, targets)
    work.trainings(alive)
    found = sorted(
        state.candidates(), key=lambda one: (-(one.accuracy or 0), one.p99_ms or one.trial_ms or 1e9)
    )
    doubtful = sum(one.doubtful for one in found)
    if doubtful:
        show.say(
            f"other programs took a part of the machine while {doubtful} candidates were found too slow; the "
            "same command, on a quiet machine, measures them again"
        )
    winner = next((one for one in found if one.holds), None)
    if winner is None:
        raise _nothing(found, budget_ms)
    show.say(f"writing {output}: {winner.name}")
    model = state.folder / f"{winner.network.replace(' ', '-')}.model"
    export(
        model,
        output,
        calib=data,
        targets=[winner.target],
        choice=ThresholdChoice(validation=validation),
        overwrite=overwrite,
        bit_depth=bit_depth,
        threads=threads,
        progress=show,
    )
    report = SelectReport(
        bundle=output, winner=winner.name, budget_ms=budget_ms, measure=measure, candidates=tuple(found)
    )
    if page is not None:
        from edgead.workflows._select_page import write

        write(page, report)
    if keep is None:
        state.remove()
    return report


def _aspect(paths: Sequence[Path], bit_depth: int | None) -> float:
    """Median height over width of the frames that can be read."""
    found = []
    for path in paths[:16]:
        try:
            frame = read_image(path, bit_depth=bit_depth)
        except EdgeadError:
            continue
        found.append(frame.height / frame.width)
    if not found:
        raise DatasetError(f"none of the first {len(paths[:16])} images can be read, {paths[0]} for instance")
    return statistics.median(found)


def _nothing(found: Sequence[Candidate], budget_ms: float) -> EdgeadError:
    """Why there is no winner."""
    timed = [(one.p99_ms or one.trial_ms, one) for one in found if (one.p99_ms or one.trial_ms) is not None]
    if any(one.status == "no time" for one in found):
        return Inconclusive(
            "the time ended before a candidate was proven to keep the budget; what is done is kept: run the "
            "same command again, with more --minutes"
        )
    if not timed:
        reasons = "; ".join(f"{one.name.strip()}: {one.reason}" for one in found[:4])
        return GateFailed(f"no candidate could be measured: {reasons}")
    value, nearest = min(timed, key=lambda pair: pair[0] or 0)
    why = nearest.reason or f"the verdict is {nearest.verdict or nearest.status}"
    return GateFailed(
        f"no candidate keeps a p99 of {budget_ms:g} ms; the nearest is {nearest.name} with {value:.2f} ms "
        f"({why}): give a larger --p99, smaller --sizes, or other --detectors"
    )
