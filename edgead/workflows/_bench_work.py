"""From a plan, a bundle and images to reports: what `bench` and `bench_all_targets` share."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from edgead.benchmarks import compare, environment
from edgead.benchmarks.activity import Activity
from edgead.benchmarks.histogram import Histogram
from edgead.benchmarks.html import Measured
from edgead.benchmarks.report import summarise
from edgead.benchmarks.run import Run
from edgead.benchmarks.sut import DecodingSut, PredictorSut, SampleLibrary, SystemUnderTest, stages_of
from edgead.bundle.reader import Bundle, open_bundle
from edgead.errors import RuntimeMissingError, UsageError
from edgead.imaging.frame import decode
from edgead.progress import Progress, Silent
from edgead.runtimes.session import Session
from edgead.types import Target
from edgead.workflows._bench_images import MOST_IMAGES, Images, find, load, thumbnails
from edgead.workflows._bench_plan import Plan


class Work:
    """One plan on one bundle: what was given is checked before anything is measured.

    Args:
        bundle: a bundle's directory or zip.
        images: files and folders.
        plan: what to measure.
        against: a bundle or a result file to compare with.
        pictures: show some of the images as the bundle judges them.
        progress: where to report; None = nowhere.

    Attributes:
        unavailable: target → why it could not be measured.
    """

    def __init__(
        self,
        bundle: Path,
        images: Sequence[Path],
        plan: Plan,
        *,
        against: Path | None = None,
        pictures: bool = False,
        progress: Progress | None = None,
    ) -> None:
        Histogram()  # a missing package is told before the work, not after it
        self._bundle, self._plan, self._pictures = bundle, plan, pictures
        self._progress = progress if progress is not None else Silent()
        self._other = against if against is not None and _is_bundle(against) else None
        self._earlier = None
        if against is not None and self._other is None:
            self._earlier = compare.read_result(against)
        if self._other is not None and plan.scenario != "single-stream":
            raise UsageError(
                f"two bundles are measured in turn, one after the other; that is no {plan.scenario}: leave "
                "--scenario out, or compare with a result file"
            )
        self._against = "" if against is None else against.name
        self._files = find(images, min(plan.limits.total or MOST_IMAGES, MOST_IMAGES))
        self._environment = environment.record()
        self.unavailable: dict[str, str] = {}

    def measure(self, targets: Callable[[Bundle], Sequence[Target | None]]) -> list[Measured]:
        """Measure each of the targets that can run here.

        Raises:
            RuntimeMissingError: none can.
        """
        found: list[Measured] = []
        with contextlib.ExitStack() as scope:
            opened = scope.enter_context(open_bundle(self._bundle))
            other = None if self._other is None else scope.enter_context(open_bundle(self._other))
            wanted = targets(opened)
            images = load(self._files, opened.manifest.geometry, self._plan.bit_depth, self._progress)
            for target in wanted:
                try:
                    found.append(self._one(opened, other, target, images))
                except RuntimeMissingError as error:
                    if len(wanted) == 1:
                        raise
                    self.unavailable[str(target)] = str(error)
                    self._progress.say(f"left out: {target}: {error}")
                if found and not found[-1].report.complete:
                    break
        if not found:
            told = "; ".join(f"{name}: {why}" for name, why in self.unavailable.items())
            raise RuntimeMissingError(f"no target of this bundle could be measured: {told}")
        return found

    def _one(self, opened: Bundle, other: Bundle | None, target: Target | None, images: Images) -> Measured:
        plan = self._plan
        with contextlib.ExitStack() as scope:
            sessions = [scope.enter_context(self._open(opened, target)) for _ in range(plan.streams)]
            session = sessions[0]
            if target is None:
                self._progress.say(f"measuring {session.target} ({session.runtime})")
            suts = [self._sut(one, images) for one in sessions]
            beside = None
            if other is not None:
                old = scope.enter_context(self._open(other, session.target))
                beside = self._sut(old, images)
            library: SampleLibrary[Any] = SampleLibrary(images.contents if plan.decode else images.frames)
            activity = Activity()
            run, old_run, doubt = plan.execute(suts, library, beside, self._progress)
            busy = activity.warnings()
            pictures = thumbnails(images, session) if self._pictures else ()
        report = summarise(
            run,
            plan.targets,
            self._environment,
            target=str(session.target),
            runtime=session.runtime,
            threads=plan.threads,
            images=len(images.frames),
            skipped=images.skipped,
            bundle=self._bundle.name,
            streams=plan.streams,
            tiles=1 if (found := session.geometry.tiles) is None else found.count,
            judged=plan.judged(run),
            doubt=doubt,
            warnings=[*busy, *images.warnings(), *filter(None, [session.warning])],
        )
        if old_run is not None:
            assert isinstance(run, Run)
            report = compare.with_run(report, run, old_run, self._against)
        elif self._earlier is not None:
            report = compare.with_result(report, self._earlier, self._against)
        return Measured(report=report, run=run, targets=plan.targets, thumbnails=pictures)

    def _open(self, bundle: Bundle, target: Target | None) -> Session:
        return Session.open(bundle, target, threads=self._plan.threads, runtime=self._plan.runtime)

    def _sut(self, session: Session, images: Images) -> SystemUnderTest[Any]:
        stages = stages_of(session.predict(images.frames[0]))
        sut = PredictorSut(session, name=str(session.target), runtime=session.runtime, stages=stages)
        if not self._plan.decode:
            return sut
        return DecodingSut(sut, lambda content: decode(content, bit_depth=self._plan.bit_depth))


def _is_bundle(path: Path) -> bool:
    """Whether it is no result file: a folder, or a zip."""
    if path.is_dir():
        return True
    try:
        with path.open("rb") as file:
            return file.read(2) == b"PK"
    except OSError:
        return False
