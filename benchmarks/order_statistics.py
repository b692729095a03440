"""How many samples a percentile needs, and how sure it is: exact binomial, no normal approximation.

A query is over the true percentile p with probability 1 − p, whatever the distribution of latencies is, so
counts of such queries are binomial and everything here is free of assumptions but independence.
"""

from __future__ import annotations

import math
from bisect import bisect_left

CONFIDENCE = 0.99


def binomial_cdf(k: int, n: int, probability: float) -> float:
    """P(X ≤ k) for X ~ Binomial(n, probability), 0 < probability < 1.

    Sums the smaller tail outward from k, so that small results keep their relative precision.
    """
    if k < 0:
        return 0.0
    if k >= n:
        return 1.0
    if k < n * probability:
        return _tail(k, n, probability)
    return 1.0 - _tail(n - k - 1, n, 1.0 - probability)


def _tail(k: int, n: int, probability: float) -> float:
    log_term = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
    term = math.exp(log_term + k * math.log(probability) + (n - k) * math.log1p(-probability))
    odds = (1.0 - probability) / probability
    total = 0.0
    while k >= 0 and term > total * 1e-17:
        total += term
        term *= odds * k / (n - k + 1)
        k -= 1
    return min(total, 1.0)


def rank(percentile: float, n: int) -> int:
    """1-based rank of a percentile (a fraction) among n sorted samples: inverted CDF, ⌈p·n⌉."""
    return max(1, math.ceil(percentile * n - 1e-9))


def samples_needed(percentile: float, exceedances: int = 0, confidence: float = CONFIDENCE) -> int:
    """Smallest n that carries «percentile ≤ limit» when `exceedances` of the n samples were over the limit.

    The claim holds when that few exceedances would be seen with a probability of at most 1 − confidence, were
    the limit any lower percentile (MLPerf's early stopping with tolerance 0).

    Args:
        percentile: as a fraction, in (0, 1).
        exceedances: samples over the limit, ≥ 0.
        confidence: in (0, 1).
    """

    def carries(n: int) -> bool:
        return binomial_cdf(exceedances, n, 1.0 - percentile) <= 1.0 - confidence

    high = exceedances + 1
    while not carries(high):
        high *= 2
    return bisect_left(range(high), True, lo=high // 2, key=carries)


def allowed_exceedances(percentile: float, n: int, confidence: float = CONFIDENCE) -> int | None:
    """How many of `n` samples may be over a limit for it to be proven; None where not even none proves it."""
    allowed = bisect_left(
        range(n), True, key=lambda over: binomial_cdf(over, n, 1.0 - percentile) > 1.0 - confidence
    )
    return allowed - 1 if allowed else None


def interval_ranks(percentile: float, n: int, confidence: float = CONFIDENCE) -> tuple[int, int]:
    """1-based ranks (low, high) of the sorted samples between which the true percentile lies.

    Each side errs with a probability of at most (1 − confidence)/2. 0 and n + 1 mean that n samples do
    not bound that side.
    """
    side = (1.0 - confidence) / 2.0
    # X ~ Binomial(n, percentile) samples lie below the true percentile. The sample of rank r lies above it
    # when X < r, and below it when X ≥ r.
    low = bisect_left(range(n + 1), True, key=lambda r: binomial_cdf(r, n, percentile) > side)
    high = bisect_left(range(n + 1), True, key=lambda r: binomial_cdf(r, n, percentile) >= 1.0 - side) + 1
    return low, high
