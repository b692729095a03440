"""The options of `bench` as checked values, and which scenario they make."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgead.benchmarks._issue import QUEUE
from edgead.benchmarks.interleaved import interleaved
from edgead.benchmarks.parallel import multi_camera, offline
from edgead.benchmarks.run import OPEN_END, Limits, Run
from edgead.benchmarks.scenarios import KEEP_WARM_NS, PAUSES_NS, idle_gap, paced, single_stream
from edgead.benchmarks.schedule import check_rate
from edgead.benchmarks.soak import Soak, soak
from edgead.benchmarks.targets import DOUBT, EarlyStopping, Targets, parse_duration
from edgead.errors import UsageError

if TYPE_CHECKING:
    from edgead.benchmarks.sut import SampleLibrary, SystemUnderTest
    from edgead.progress import Progress
    from edgead.runtimes._driver import RuntimeName

SCENARIOS = ("single-stream", "paced", "idle-gap", "multi-camera", "offline", "soak")
QUERIES = 1_000  # carries a p99 with up to two queries over the limit
SECONDS = 60.0  # where no number of queries is asked for
SOAK_SECONDS = 600.0
ROUNDS = 7  # of idle-gap: as few as carry a median
_PLANNED = ("paced", "multi-camera")  # --fps is when images arrive, and has to be said
_STREAMS = ("multi-camera", "offline")
_LONGEST_S = 86_400 * 31.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to measure and what to hold it against; the attributes are the options of `bench`."""

    scenario: str
    targets: Targets
    limits: Limits
    early: bool
    jitter_ns: int
    streams: int
    pauses_ns: tuple[int, ...]
    keep_warm_ns: int
    judge_warm: bool
    queue: int
    decode: bool
    threads: int
    runtime: RuntimeName | None
    bit_depth: int | None

    @classmethod
    def of(
        cls,
        *,
        scenario: str = "single-stream",
        fps: float | None = None,
        p99: str | None = None,
        p999: str | None = None,
        deadline: str | None = None,
        queries: int | None = None,
        seconds: float | None = None,
        jitter: str | None = None,
        streams: int | None = None,
        pauses: Sequence[str] | None = None,
        keep_warm: str | None = None,
        queue: int | None = None,
        decode: bool = False,
        threads: int = 0,
        runtime: RuntimeName | None = None,
        bit_depth: int | None = None,
    ) -> Plan:
        """Check the options, and that they fit the scenario.

        Raises:
            UsageError: one is out of range, or says nothing in this scenario.
        """
        if scenario not in SCENARIOS:
            raise UsageError(f"unknown scenario {scenario!r}; there is {', '.join(SCENARIOS)}")
        targets = Targets(
            fps=fps,
            p99_ns=None if p99 is None else parse_duration(p99, "--p99"),
            p999_ns=None if p999 is None else parse_duration(p999, "--p999"),
            deadline_ns=None if deadline is None else parse_duration(deadline, "--deadline"),
        )
        if scenario in _PLANNED and fps is None:
            raise UsageError(
                f"scenario {scenario} needs the rate at which images arrive; add for instance --fps 30"
            )
        arrives = scenario in _PLANNED or (scenario == "soak" and fps is not None)
        _only(jitter, "--jitter", arrives, "images that arrive at --fps")
        _only(queue, "--queue", arrives, "images that arrive at --fps")
        _only(streams, "--streams", scenario in _STREAMS, " or ".join(_STREAMS))
        _only(pauses, "--pauses", scenario == "idle-gap", "idle-gap")
        _only(keep_warm, "--keep-warm", scenario == "idle-gap", "idle-gap")
        _only(
            fps, "--fps", scenario != "idle-gap", "the other scenarios; in idle-gap the pauses are the rate"
        )
        jitter_ns = 0 if jitter is None else parse_duration(jitter, "--jitter")
        if arrives and fps is not None:
            check_rate(fps, jitter_ns)
        if queue is not None and queue < 1:
            raise UsageError(f"--queue {queue}: at least 1 image has to find room")
        pauses_ns = PAUSES_NS if pauses is None else tuple(_pause(text) for text in pauses)
        count = _streams(scenario, streams)
        cores = _cores()
        return cls(
            scenario=scenario,
            targets=targets,
            limits=_limits(scenario, queries, seconds, 2 * len(set(pauses_ns)), bool(targets.limits_ns)),
            early=queries is None and bool(targets.limits_ns) and scenario in ("single-stream", "paced"),
            jitter_ns=jitter_ns,
            streams=count,
            pauses_ns=pauses_ns,
            keep_warm_ns=KEEP_WARM_NS if keep_warm is None else parse_duration(keep_warm, "--keep-warm"),
            judge_warm=keep_warm is not None,
            queue=QUEUE if queue is None else queue,
            decode=decode,
            # Several engines that each take all cores would only wait for each other.
            threads=max(1, cores // count) if count > 1 and threads == 0 else threads,
            runtime=runtime,
            bit_depth=bit_depth,
        )

    def execute(
        self,
        suts: Sequence[SystemUnderTest[Any]],
        library: SampleLibrary[Any],
        beside: SystemUnderTest[Any] | None,
        progress: Progress,
    ) -> tuple[Run | Soak, Run | None, float]:
        """Run the scenario.

        Args:
            suts: as many as `streams`.
            library: what is issued.
            beside: measured in turn with the first of `suts`; `single-stream` only.
            progress: where it is shown.

        Returns:
            The run, that of `beside`, and the doubt that is left for the verdicts.
        """
        sut, fps = suts[0], self.targets.fps
        paced_by: dict[str, Any] = {"jitter_ns": self.jitter_ns, "queue": self.queue}
        common: dict[str, Any] = {"limits": self.limits, "progress": progress}
        if beside is not None:
            new, old = interleaved((sut, beside), library, **common)
            return new, old, DOUBT
        if self.scenario == "idle-gap":
            gaps = {"pauses_ns": self.pauses_ns, "keep_warm_ns": self.keep_warm_ns}
            return idle_gap(sut, library, **gaps, **common), None, DOUBT  # type: ignore[arg-type]
        if self.scenario == "offline":
            return offline(suts, library, **common), None, DOUBT
        if self.scenario == "multi-camera":
            assert fps is not None
            return multi_camera(suts, library, fps=fps, **paced_by, **common), None, DOUBT
        if self.scenario == "soak":
            limits_ns = self.targets.limits_ns
            return soak(sut, library, fps=fps, limits_ns=limits_ns, **paced_by, **common), None, DOUBT
        early = EarlyStopping(self.targets, self._so_far) if self.early else None
        if self.scenario == "paced":
            assert fps is not None
            run = paced(sut, library, fps=fps, **paced_by, **common, stop=early)
        else:
            run = single_stream(sut, library, **common, stop=early)
        return run, None, DOUBT if early is None else early.doubt

    def judged(self, run: Run | Soak) -> Run | None:
        """What verdicts are about, None = all of the run: in idle-gap, the queries after a real pause."""
        if not isinstance(run, Run) or self.scenario != "idle-gap":
            return None
        names = [name for name in run.groups if name.endswith("kept warm") == self.judge_warm]
        return run.select(tuple(names[1:] or names) if min(self.pauses_ns) == 0 else tuple(names))

    def _so_far(self, times: Any) -> Run:
        return Run(
            scenario=self.scenario,
            rate=self.targets.fps if self.scenario == "paced" else None,
            stages=(),
            times=times,
            warmup_queries=0,
            complete=True,
        )


def _only(value: object, option: str, fits: bool, where: str) -> None:
    if value is not None and not fits:
        raise UsageError(f"{option} is for {where}; leave it out, or choose another --scenario")


def _pause(text: str) -> int:
    return 0 if text.strip() in ("0", "0s", "0ms") else parse_duration(text, "--pauses")


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _streams(scenario: str, streams: int | None) -> int:
    if streams is None:
        return {"multi-camera": 2, "offline": _cores()}.get(scenario, 1)
    if not 1 <= streams <= 64:
        raise UsageError(f"--streams {streams} is out of range; give 1 to 64")
    return streams


def _limits(
    scenario: str, queries: int | None, seconds: float | None, combinations: int, has_limit: bool
) -> Limits:
    if seconds is not None and not 0 < seconds <= _LONGEST_S:
        raise UsageError(f"--seconds {seconds:g} is out of range; give a time above 0, at most a month")
    if scenario == "soak":  # lasts as long as it was told to
        if queries is None:
            lasts = SOAK_SECONDS if seconds is None else seconds
            return Limits(min_queries=1, min_duration_ns=round(lasts * 1e9))
        return Limits(min_queries=queries, max_duration_ns=round((seconds or 0.0) * 1e9))
    if scenario == "idle-gap":
        wanted = ROUNDS * combinations if queries is None else queries
        return Limits(min_queries=wanted, max_duration_ns=round((seconds or 0.0) * 1e9))
    if seconds is None:
        seconds = SECONDS if queries is None else 0.0
    if queries is None:  # early stopping ends it, or the time does
        wanted = OPEN_END if has_limit and scenario in ("single-stream", "paced") else QUERIES
    else:
        wanted = queries
    return Limits(min_queries=wanted, max_duration_ns=round(seconds * 1e9))
