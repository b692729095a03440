"""Latencies in an HdrHistogram: integer nanoseconds in, milliseconds out, relative error below 1/1000."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from edgead.benchmarks.order_statistics import interval_ranks, rank, samples_needed
from edgead.errors import RuntimeMissingError

LONGEST_NS = 3_600 * 10**9
SIGNIFICANT_DIGITS = 3
PERCENTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999}


class Histogram:
    """Durations of 1 ns to 1 h; longer ones count as 1 h in percentiles, and exactly in `max_ns`."""

    def __init__(self, durations_ns: Iterable[int] = ()) -> None:
        """Start with `durations_ns`.

        Raises:
            RuntimeMissingError: the package hdrhistogram is not installed.
        """
        try:
            from hdrh.histogram import HdrHistogram
        except ModuleNotFoundError as err:
            raise RuntimeMissingError(
                "measuring latency needs the package hdrhistogram; pip install 'edgead[bench]'"
            ) from err
        self._histogram = HdrHistogram(1, LONGEST_NS, SIGNIFICANT_DIGITS)
        self.max_ns = 0
        for duration in durations_ns:
            self.record(duration)

    def record(self, duration_ns: int, count: int = 1) -> None:
        """Count a duration (≥ 0) `count` times."""
        self.max_ns = max(self.max_ns, duration_ns)
        self._histogram.record_value(min(duration_ns, LONGEST_NS), count)

    def __len__(self) -> int:
        return int(self._histogram.get_total_count())

    def buckets(self) -> Iterator[tuple[int, int]]:
        """(highest duration in ns, count) of each bucket that holds any, ascending."""
        counts = self._counts()
        for index in np.flatnonzero(counts):
            yield self._highest(int(index)), int(counts[index])

    def encoded(self) -> str:
        """All counts as HdrHistogram's compressed base64 text, which its tools in every language read."""
        return str(self._histogram.encode().decode("ascii"))

    def at_ranks(self, ranks: Sequence[int]) -> list[int]:
        """Durations in ns at 1-based ranks: the top of each value's bucket, never above the maximum."""
        places = np.searchsorted(np.cumsum(self._counts()), ranks)
        return [min(self._highest(int(place)), self.max_ns) for place in places]

    def _counts(self) -> npt.NDArray[np.int64]:
        """The buckets' counts. hdrhistogram's own ways walk over all 23,000 of them in Python."""
        return np.ctypeslib.as_array(self._histogram.counts).astype(np.int64)

    def _highest(self, index: int) -> int:
        """The longest duration in ns that a bucket takes."""
        value = self._histogram.get_value_from_index(index)
        return int(self._histogram.get_highest_equivalent_value(value))

    def summary(self) -> dict[str, float | None]:
        """Percentiles and the exact maximum in ms; None where the samples cannot carry the percentile.

        A percentile is carried when that many samples, all at or below it, would prove it at 99 % confidence.
        """
        carried = {name: p for name, p in PERCENTILES.items() if len(self) >= samples_needed(p)}
        values = self.at_ranks([rank(p, len(self)) for p in carried.values()])
        found = dict(zip(carried, values, strict=True))
        summary = {name: found[name] / 1e6 if name in found else None for name in PERCENTILES}
        summary["max"] = self.max_ns / 1e6 if len(self) else None
        return summary

    def intervals(self) -> dict[str, tuple[float | None, float | None]]:
        """Bounds in ms that hold each true percentile at 99 % confidence; None = these samples set none."""
        total = len(self)
        ranks = {name: interval_ranks(p, total) for name, p in PERCENTILES.items()} if total else {}
        wanted = sorted({r for pair in ranks.values() for r in pair if 1 <= r <= total})
        found = dict(zip(wanted, self.at_ranks(wanted), strict=True))
        bounds = {r: found[r] / 1e6 if r in found else None for pair in ranks.values() for r in pair}
        return {name: (bounds[low], bounds[high]) for name, (low, high) in ranks.items()}
