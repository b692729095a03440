"""`edgead select`: the most accurate detector that keeps a latency budget on this machine.

Latency comes first: each network is lowered, compiled and measured before it is trained, so that no time goes
into what is too slow. The rest is trained, the cheapest first, and judged. Test images are never looked at.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgead.benchmarks.histogram import Histogram
from edgead.benchmarks.targets import parse_duration
from edgead.bundle._storage import output_error, replace_file
from edgead.bundle.manifest import created_by
from edgead.data.folder import good_images
from edgead.data.split import reserve
from edgead.detectors import _registry
from edgead.detectors._presets import PRESETS
from edgead.errors import (
    DatasetError,
    EdgeadError,
    GateFailed,
    Inconclusive,
    OutputError,
    UsageError,
)
from edgead.imaging.frame import read_image
from edgead.progress import Progress, Silent, Task
from edgead.workflows import _select_measure as measuring
from edgead.workflows._evidence import ThresholdChoice
from edgead.workflows._images import hash_readable
from edgead.workflows._select_candidates import Network, fitting, networks, targets_of
from edgead.workflows.export import export
from edgead.workflows.train import train

_STATE = "select.json"
_BENCH_IMAGES = 64
_BENCH_SECONDS = 20.0
_LEAST_SHARE = 0.25  # of a preset's steps; with fewer a network is not itself
_BATCH = 32  # where a recipe names none
_SLACK = 2.0  # how much longer than expected a training may take


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A network in one target.

    Attributes:
        name: ``patchcore 192x512 openvino:int8``.
        network: ``patchcore 192x512``.
        target: "" where the network as a whole fell out.
        status: ``measured``, ``too slow``, ``skipped``, ``failed`` or ``no time``.
        reason: why it was not measured to the end, or what its gate says.
        trial_ms: p99 of the untrained network, or its p50 where the queries carry no p99.
        p50_ms, p99_ms: of the trained one; the p99 is None where the queries do not carry it.
        verdict: on the budget: pass, fail or inconclusive.
        accuracy: see `SelectReport.measure`.
        steps_share: of the preset's steps that there was time for.
        train_s: what training was expected to take, seconds.
    """

    name: str
    network: str
    target: str
    status: str
    reason: str = ""
    trial_ms: float | None = None
    p50_ms: float | None = None
    p99_ms: float | None = None
    verdict: str = ""
    accuracy: float | None = None
    steps_share: float = 1.0
    train_s: float = 0.0

    @property
    def holds(self) -> bool:
        """Whether it may be chosen: within the budget beyond doubt, and inside its gate."""
        usable = self.status == "measured" and not self.reason
        return usable and self.verdict == "pass" and self.accuracy is not None


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

    While it works, ``OUTPUT.partial`` beside the output keeps what is done; the same call goes on from there.

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
    state = _State(
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
    work = _Work(
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
    import statistics

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


def candidates_in(folder: Path) -> tuple[Candidate, ...]:
    """What `select` with ``keep=folder`` noted there so far.

    Raises:
        UsageError: there is nothing of it.
    """
    try:
        values = json.loads((folder / _STATE).read_text())["candidates"]
    except (OSError, ValueError, KeyError) as err:
        raise UsageError(f"{folder} holds no selection ({err}); name the folder given as --keep") from err
    return tuple(Candidate(**one) for one in values.values())


class _State:
    """What is done, one JSON file that is replaced as a whole."""

    def __init__(self, folder: Path, fingerprint: dict[str, Any], *, restart: bool) -> None:
        self.folder, self._fingerprint = folder, json.loads(json.dumps(fingerprint))
        if restart and (folder / _STATE).exists():
            self.remove()
        self._done: dict[str, dict[str, Any]] = {}
        path = folder / _STATE
        if path.exists():
            try:
                values = json.loads(path.read_text())
                begun, self._done = values["fingerprint"], values["candidates"]
            except (OSError, ValueError, KeyError, TypeError) as err:
                raise OutputError(f"{path} cannot be read ({err}); begin anew with --restart") from err
            differing = [key for key, value in self._fingerprint.items() if begun.get(key) != value]
            if differing:
                raise OutputError(
                    f"{folder} holds a selection that differs in {', '.join(differing)}; give another output "
                    "name, or begin anew with --restart"
                )
        try:
            folder.mkdir(exist_ok=True)
        except OSError as err:
            raise output_error(folder, err) from err

    def candidates(self) -> list[Candidate]:
        return [Candidate(**values) for values in self._done.values()]

    def of(self, network: Network) -> list[Candidate]:
        return [one for one in self.candidates() if one.network == network.name]

    def put(self, network: Network, candidates: Sequence[Candidate]) -> None:
        """Replace what is known of one network."""
        self._done = {key: one for key, one in self._done.items() if one["network"] != network.name}
        self._done |= {one.name: asdict(one) for one in candidates}
        values = {"fingerprint": self._fingerprint, "candidates": self._done}
        replace_file(self.folder / _STATE, json.dumps(values, indent=1).encode())

    def remove(self) -> None:
        import shutil

        shutil.rmtree(self.folder, ignore_errors=True)


class _OutOfTime(Exception):
    """A training takes longer than it may."""


class _Watched:
    """A progress that ends a training when its time is over."""

    def __init__(self, shown: Progress, end: float) -> None:
        self._shown, self._end = shown, end

    @contextmanager
    def task(self, name: str, total: int) -> Iterator[Task]:
        """A bar that raises `_OutOfTime`."""
        with self._shown.task(name, total) as task:
            yield _WatchedTask(task, self._end)

    def say(self, message: str) -> None:
        """Pass it on."""
        self._shown.say(message)


@dataclass(frozen=True, slots=True)
class _WatchedTask:
    task: Task
    end: float

    def advance(self, steps: int = 1, **status: object) -> None:
        self.task.advance(steps, **status)
        if time.monotonic() > self.end:
            raise _OutOfTime


@dataclass(frozen=True, slots=True)
class _Work:
    """One selection's arguments, and its two phases."""

    state: _State
    paths: list[Path]
    data: Path
    held_out: dict[str, Any]
    p99: str
    budget_ms: float
    end: float
    total: int
    seed: int
    threads: int
    bit_depth: int | None
    validation: Path | None
    show: Progress

    def trials(
        self, tried: Sequence[Network], device: str, targets: Sequence[str] | None
    ) -> list[tuple[float, Network]]:
        """Measure every network untrained: (seconds that training may take, network) of those left."""
        alive: list[tuple[float, Network]] = []
        slow: dict[str, Network] = {}
        with self.show.task("latency of untrained networks", len(tried)) as task:
            for network in tried:
                known = self.state.of(network)
                if not known or all(one.status == "no time" and not one.target for one in known):
                    self._try(network, slow.get(network.preset), device, targets)
                known = self.state.of(network)
                if any(one.status == "too slow" for one in known) and not _live(known):
                    slow.setdefault(network.preset, network)
                for one in _live(known):
                    alive.append((one.train_s, network))
                    break
                task.advance(network=network.name)
        return sorted(alive, key=lambda pair: pair[0])

    def _try(
        self, network: Network, slower: Network | None, device: str, targets: Sequence[str] | None
    ) -> None:
        def fallen(status: str, reason: str) -> None:
            self.show.say(f"{status}: {network.name}: {reason}")
            one = Candidate(name=network.name, network=network.name, target="", status=status, reason=reason)
            self.state.put(network, [one])

        if slower is not None:
            return fallen("too slow", f"{slower.name} is already too slow")
        if time.monotonic() > self.end:
            return fallen("no time", "its latency was not measured in time")
        try:
            detector = _registry.preset(network.preset)["detector"]
            named = fitting(targets, detector) if targets else targets_of(detector, device)
            with tempfile.TemporaryDirectory(prefix="edgead-select-") as folder:
                found = measuring.trial(
                    network,
                    named,
                    self.paths,
                    total=self.total,
                    budget=self.p99,
                    budget_s=self.budget_ms / 1e3,
                    work=Path(folder),
                    bit_depth=self.bit_depth,
                    threads=self.threads,
                )
        except OutputError:
            raise
        except EdgeadError as err:
            return fallen("skipped", str(err))
        if found.hopeless:
            return fallen("too slow", found.hopeless)
        seconds = found.pass_s * _passes(network, self.total)
        candidates = []
        for name, report in found.latency.items():
            late = report.verdict == "fail"
            reason = report.judgements[0].reason if late else ""
            candidates.append(
                Candidate(
                    name=f"{network.name} {name}",
                    network=network.name,
                    target=name,
                    status="too slow" if late else "no time",
                    reason=reason,
                    trial_ms=measuring.latency_of(report),
                    train_s=seconds,
                )
            )
        return self.state.put(network, candidates)

    def trainings(self, alive: Sequence[tuple[float, Network]]) -> None:
        """Train, export, judge and bench what may hold, the cheapest first."""
        for place, (seconds, network) in enumerate(alive):
            left = self.end - time.monotonic()
            allotted = left / (len(alive) - place)
            share = min(1.0, allotted / max(seconds, 1e-9)) if _stepped(network) else 1.0
            if left <= 0 or share < _LEAST_SHARE:
                self.show.say(f"no time: {network.name} takes about {seconds / 60:.1f} minutes to train")
                continue
            others = [one for one in self.state.of(network) if one not in _live(self.state.of(network))]
            wanted = _live(self.state.of(network))
            try:
                found = self._finish(network, wanted, share, self.end - left + max(_SLACK * allotted, 60.0))
            except _OutOfTime:
                self.show.say(f"no time: {network.name} took longer than expected; its state is kept")
                continue
            except OutputError:
                raise
            except EdgeadError as err:
                self.show.say(f"failed: {network.name}: {err}")
                found = [
                    Candidate(**{**asdict(one), "status": "failed", "reason": str(err), "steps_share": share})
                    for one in wanted
                ]
            self.state.put(network, [*others, *found])

    def _finish(
        self, network: Network, wanted: Sequence[Candidate], share: float, end: float
    ) -> list[Candidate]:
        model, bundle = (self.state.folder / f"{network.stem}.{kind}" for kind in ("model", "edgead"))
        if not model.exists():
            steps = (
                None if share == 1.0 else max(1, round(share * PRESETS[network.preset]["training"]["steps"]))
            )
            train(
                network.preset,
                self.data,
                model,
                size=network.asked_size,
                steps=steps,
                seed=self.seed,
                bit_depth=self.bit_depth,
                restart=steps is not None,
                progress=_Watched(self.show, end),
            )
        exported = export(
            model,
            bundle,
            calib=self.data,
            targets=[one.target for one in wanted],
            accept=True,
            overwrite=True,
            choice=ThresholdChoice(validation=self.validation),
            bit_depth=self.bit_depth,
            threads=self.threads,
            progress=self.show,
        )
        judged = measuring.gather(
            network.build().geometry,
            self.held_out,
            self.validation,
            bit_depth=self.bit_depth,
            progress=self.show,
        )
        found = []
        for one in wanted:
            report = measuring.measure(
                bundle,
                self.paths,
                one.target,
                self.p99,
                seconds=_BENCH_SECONDS,
                threads=self.threads,
                bit_depth=self.bit_depth,
                progress=self.show,
            )
            values = {
                "status": "measured",
                "reason": "; ".join(exported.targets[one.target].failures),
                "p50_ms": report.latency_ms["p50"],
                "p99_ms": report.latency_ms["p99"],
                "verdict": report.verdict,
                "accuracy": measuring.accuracy(
                    bundle, one.target, judged, threads=self.threads, progress=self.show
                ),
                "steps_share": share,
            }
            found.append(Candidate(**{**asdict(one), **values}))
        return found


def _live(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Those that were tried and wait for their training."""
    return [one for one in candidates if one.status == "no time" and one.target]


def _stepped(network: Network) -> bool:
    return "steps" in PRESETS[network.preset]["training"]


def _passes(network: Network, images: int) -> float:
    """About how many times training passes one image through the network; a backward pass counts twice."""
    recipe = PRESETS[network.preset]["training"]
    if "meta_epochs" in recipe or "steps" not in recipe:  # features once, then a head or nothing
        return float(images)
    steps: int = recipe["steps"]
    return images + 3.0 * steps * int(recipe.get("batch", _BATCH))
