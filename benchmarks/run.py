"""The raw times of a run, and when it ends. What they mean is worked out afterwards."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt

from edgead.benchmarks.histogram import Histogram
from edgead.benchmarks.order_statistics import allowed_exceedances
from edgead.errors import UsageError

OPEN_END = 10**12
"""As many queries as never come: something else ends the run."""

PLANNED, STARTED, DONE, STAGES = 0, 1, 2, 3  # columns of `Run.times`


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """When a run ends: both minima are met, or either maximum is hit.

    Attributes:
        min_queries: queries wanted.
        min_duration_ns: time wanted.
        max_queries: 0 = no limit.
        max_duration_ns: 0 = no limit. A query that runs then is waited for.
    """

    min_queries: int = 1
    min_duration_ns: int = 0
    max_queries: int = 0
    max_duration_ns: int = 0

    def __post_init__(self) -> None:
        if self.min_queries < 1:
            raise UsageError(f"a run needs at least 1 query, not {self.min_queries}")

    @property
    def total(self) -> int:
        """Queries that are known to come, for a progress bar; 0 = something else will end the run."""
        return self.min_queries if self.min_queries < OPEN_END and not self.min_duration_ns else 0

    def reached(self, queries: int, elapsed_ns: int) -> bool:
        """Whether the run is over after `queries` in `elapsed_ns`."""
        if queries >= self.min_queries and elapsed_ns >= self.min_duration_ns:
            return True
        return 0 < self.max_queries <= queries or self.overtime(elapsed_ns)

    def overtime(self, elapsed_ns: int) -> bool:
        """Whether the longest time is over."""
        return 0 < self.max_duration_ns <= elapsed_ns


class Evidence(Protocol):
    """What a verdict rests on: a `Run`, or a soak, which keeps counts in place of times."""

    @property
    def rate(self) -> float | None:
        """Planned arrivals per second and stream, None where nothing is planned."""

    @property
    def complete(self) -> bool:
        """False when it was interrupted."""

    @property
    def dropped(self) -> int:
        """Queries that were never answered: the queue was full."""

    @property
    def slowest_ns(self) -> int:
        """The longest latency; 0 without queries."""

    def __len__(self) -> int:
        """Answered queries."""

    def over(self, limit_ns: int) -> int:
        """How many latencies are over the limit; one that equals it is within."""

    def proven(self, percentile: float) -> int | None:
        """The smallest limit in ns that this percentile of the latency is proven to meet, None for none."""

    def throughput(self) -> float:
        """Queries per second that the system can take; in several streams, of the slowest one."""

    def throughputs(self, stretches: int) -> list[float]:
        """The same for at most so many stretches of consecutive queries."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Run:
    """The raw times of one run.

    Attributes:
        scenario: which one.
        rate: planned starts per second (of each stream), None where a query follows the one before.
        stages: names of the stage columns.
        times: (n, 3 + len(stages)) int64 ns: planned start, actual start, done, then what each stage took.
        warmup_queries: queries issued before, not among `times`.
        complete: False when the run was interrupted.
        settled: whether the warm-up ended because the service time no longer fell.
        dropped: arrivals that found the queue full.
        queue: arrivals that may wait.
        group: (n,) which of `groups` a query belongs to: a camera, a pause; None where there are none.
        groups: their names.
    """

    scenario: str
    rate: float | None
    stages: tuple[str, ...]
    times: npt.NDArray[np.int64]
    warmup_queries: int
    complete: bool
    settled: bool = True
    dropped: int = 0
    queue: int = 0
    group: npt.NDArray[np.int64] | None = None
    groups: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.times)

    @property
    def latency_ns(self) -> npt.NDArray[np.int64]:
        """Planned start → done: a stall counts for every query that it delays."""
        return self.times[:, DONE] - self.times[:, PLANNED]

    @property
    def service_ns(self) -> npt.NDArray[np.int64]:
        """Actual start → done."""
        return self.times[:, DONE] - self.times[:, STARTED]

    @property
    def fps(self) -> float:
        """Queries per second from the first planned start to the last answer; 0 for an empty run."""
        if not len(self):
            return 0.0
        span = int(self.times[:, DONE].max() - self.times[:, PLANNED].min())
        return len(self) / (max(span, 1) / 1e9)

    def select(self, names: tuple[str, ...]) -> Run:
        """The queries of these groups, as a run without groups."""
        assert self.group is not None
        chosen = np.isin(self.group, [self.groups.index(name) for name in names])
        return replace(self, times=self.times[chosen], group=None, groups=())

    @property
    def slowest_ns(self) -> int:
        """The longest latency; 0 without queries."""
        return int(self.latency_ns.max(initial=0))

    def over(self, limit_ns: int) -> int:
        """How many latencies are over the limit."""
        return int((self.latency_ns > limit_ns).sum())

    def proven(self, percentile: float) -> int | None:
        """The smallest limit in ns that this percentile of the latency is proven to meet."""
        allowed = allowed_exceedances(percentile, len(self) + self.dropped)
        if allowed is None or allowed < self.dropped:
            return None
        return int(np.sort(self.latency_ns)[len(self) - 1 - (allowed - self.dropped)])

    def throughput(self) -> float:
        """Queries per second that the system can take."""
        return min((_rate(part) for part in self._capacity()), default=0.0)

    def throughputs(self, stretches: int) -> list[float]:
        """The same for stretches of consecutive queries."""
        slowest = min(self._capacity(), key=_rate, default=np.empty(0, np.int64))
        return [_rate(part) for part in np.array_split(slowest, min(len(slowest), stretches)) if len(part)]

    def _capacity(self) -> list[npt.NDArray[np.int64]]:
        """Per stream that has to keep up on its own, the time that each query took of it."""
        if self.scenario == "offline":  # the streams share the work
            done = np.sort(self.times[:, DONE])
            begin = self.times[:, STARTED].min(initial=done[0]) if len(done) else 0
            return [np.diff(done, prepend=begin)] if len(done) else []
        if self.scenario == "multi-camera" and self.group is not None:
            parts = [self.service_ns[self.group == camera] for camera in range(len(self.groups))]
            return [part for part in parts if len(part)]
        return [self.service_ns] if len(self) else []

    def histograms(self) -> tuple[Histogram, Histogram, dict[str, Histogram]]:
        """Of the latency, the service time, and each stage.

        Raises:
            RuntimeMissingError: hdrhistogram is not installed.
        """
        return (
            Histogram(self.latency_ns.tolist()),
            Histogram(self.service_ns.tolist()),
            {
                name: Histogram(self.times[:, STAGES + column].tolist())
                for column, name in enumerate(self.stages)
            },
        )


def _rate(durations_ns: npt.NDArray[np.int64]) -> float:
    return len(durations_ns) / (max(int(durations_ns.sum()), 1) / 1e9)
