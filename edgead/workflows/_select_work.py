"""The two phases of a selection: the latency of untrained networks; training of those that may hold."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgead.benchmarks.activity import Activity
from edgead.detectors import _registry
from edgead.detectors._presets import PRESETS
from edgead.errors import EdgeadError, OutputError
from edgead.progress import Progress, Task
from edgead.workflows import _select_measure as measuring
from edgead.workflows._evidence import ThresholdChoice
from edgead.workflows._select_candidates import Network, fitting, targets_of
from edgead.workflows._select_state import Candidate, State
from edgead.workflows.export import export
from edgead.workflows.train import train

_BENCH_SECONDS = 20.0
_LEAST_SHARE = 0.25  # of a preset's steps; with fewer a network is not itself
_BATCH = 32  # where a recipe names none
_SLACK = 2.0  # how much longer than expected a training may take


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
class Work:
    """One selection's arguments, and its two phases."""

    state: State
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
                again = [one.target for one in known if one.doubtful and one.target]
                if again:
                    self._try(network, slow.get(network.preset), device, again)
                elif all(not one.target and (one.doubtful or one.status == "no time") for one in known):
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
        known = self.state.of(network)
        activity = Activity()

        def fallen(status: str, reason: str) -> None:
            self.show.say(f"{status}: {network.name}: {reason}")
            one = Candidate(
                name=network.name,
                network=network.name,
                target="",
                status=status,
                reason=reason,
                busy=bool(activity.warnings())
                or (slower is not None and any(other.busy for other in self.state.of(slower))),
            )
            if not any(one.target for one in known):
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
        seconds, busy = found.pass_s * _passes(network, self.total), bool(activity.warnings())
        candidates = [one for one in known if one.target and one.target not in found.latency]
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
                    busy=busy,
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
        measured = [one.target for one in self.state.of(network) if one.status == "measured"]
        exported = export(
            model,
            bundle,
            calib=self.data,
            targets=[*measured, *(one.target for one in wanted)],  # the bundle shall keep them
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
