"""What makes well-measured figures doubtful: drift, and slow queries that come together."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from edgead.benchmarks.order_statistics import interval_ranks

PARTS = 10
DRIFT = 0.1  # between the slowest and the fastest tenth: below this, nobody minds
INFLATION = 2.0
_RESAMPLES = 400
_SURE_Z = 2.576  # 99 %, two-sided
_MOST_POINTS = 400


def drift(latency_ns: npt.NDArray[np.int64]) -> tuple[float, float] | None:
    """Medians in ms of the fastest and the slowest tenth of the run, where they differ beyond doubt.

    Beyond doubt: by more than 10 %, and the 99 % intervals of the two medians do not touch.
    """
    if len(latency_ns) < PARTS * 10:
        return None
    parts = [np.sort(part) for part in np.array_split(latency_ns, PARTS)]
    parts.sort(key=lambda part: float(np.median(part)))
    fast, slow = parts[0], parts[-1]
    _, high = interval_ranks(0.5, len(fast))
    low, _ = interval_ranks(0.5, len(slow))
    if low < 1 or high > len(fast) or slow[low - 1] <= fast[high - 1]:
        return None
    medians = float(np.median(fast)), float(np.median(slow))
    return (medians[0] / 1e6, medians[1] / 1e6) if medians[1] > (1 + DRIFT) * medians[0] else None


def variance_inflation(latency_ns: npt.NDArray[np.int64], percentile: float, seed: int = 0) -> float:
    """How many times more the share of slow queries varies than it would if queries were independent.

    Slow means over the percentile. A moving-block bootstrap (Künsch 1989) of the exceedances against the
    binomial variance; independent queries give about 1. The block length √n keeps a burst whole that is much
    shorter than the run.

    Args:
        latency_ns: in the order of issue, n ≥ 1.
        percentile: as a fraction.
        seed: of the resampling.
    """
    n = len(latency_ns)
    over = latency_ns > np.quantile(latency_ns, percentile, method="inverted_cdf")
    share = float(over.mean())
    if share in (0.0, 1.0):
        return 1.0
    length = max(2, math.isqrt(n))
    sums = np.concatenate([[0], np.cumsum(over)])
    blocks = sums[length:] - sums[:-length]
    chosen = np.random.default_rng(seed).integers(0, len(blocks), (_RESAMPLES, max(1, n // length)))
    means = blocks[chosen].mean(axis=1) / length
    return float(means.var() * (chosen.shape[1] * length) / (share * (1.0 - share)))


def warnings(latency_ns: npt.NDArray[np.int64]) -> Iterator[str]:
    """What a person should know before trusting percentiles of these latencies, in the order of issue."""
    moved = drift(latency_ns)
    if moved is not None:
        yield (
            f"unstable: the median was {moved[0]:.4g} ms in one tenth of the run and {moved[1]:.4g} ms in "
            "another; something else runs on this machine, or it grows hot"
        )
    if len(latency_ns) >= 1_000:
        inflation = max(variance_inflation(latency_ns, p) for p in (0.5, 0.9, 0.99))
        if inflation > INFLATION:
            yield (
                f"slow queries come together: {len(latency_ns)} queries say as much as "
                f"{len(latency_ns) / inflation:.0f} independent ones, so the intervals are too narrow; "
                "measure longer"
            )


def trend(times: npt.NDArray[np.float64], values: npt.NDArray[np.float64]) -> tuple[float, bool]:
    """Theil-Sen slope per unit of time, and whether Mann-Kendall's test is 99 % sure that it is not 0.

    Neither minds single spikes. More than 400 points are first put together by medians.
    """
    if len(times) > _MOST_POINTS:
        times = np.array([float(np.median(part)) for part in np.array_split(times, _MOST_POINTS)])
        values = np.array([float(np.median(part)) for part in np.array_split(values, _MOST_POINTS)])
    n = len(times)
    if n < 2:
        return 0.0, False
    later, earlier = np.triu_indices(n, 1)[::-1]
    rises = values[later] - values[earlier]
    slope = float(np.median(rises / np.maximum(times[later] - times[earlier], 1e-12)))
    score = int(np.sign(rises).sum())
    _, ties = np.unique(values, return_counts=True)
    variance = (n * (n - 1) * (2 * n + 5) - int((ties * (ties - 1) * (2 * ties + 5)).sum())) / 18
    if variance <= 0:
        return slope, False
    return slope, bool((abs(score) - 1) / math.sqrt(variance) > _SURE_Z)
