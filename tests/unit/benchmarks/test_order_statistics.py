from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import binom, norm

from edgead.benchmarks.order_statistics import binomial_cdf, interval_ranks, rank, samples_needed

# Exact binomial, computed apart from this code; t = 1 at p99 is the 662 of MLPerf's mlperf.conf.
NEEDED = {
    0.90: (44, 64, 81, 127, 197),
    0.95: (90, 130, 165, 259, 398),
    0.99: (459, 662, 838, 1307, 2010),
    0.999: (4603, 6636, 8403, 13105, 20140),
    0.9999: (46050, 66381, 84057, 131081, 201442),
}


@pytest.mark.parametrize("percentile", NEEDED)
def test_samples_needed_is_the_published_table(percentile: float) -> None:
    assert tuple(samples_needed(percentile, t) for t in (0, 1, 2, 5, 10)) == NEEDED[percentile]


def test_samples_needed_without_exceedance_is_a_logarithm() -> None:
    # Smallest n with p^n ≤ 1 − confidence: 0.5^6 = 0.0156 > 0.01 ≥ 0.0078 = 0.5^7, and 0.5^5 = 0.031 ≤ 0.05.
    assert samples_needed(0.5) == 7
    assert samples_needed(0.5, confidence=0.95) == 5


@pytest.mark.parametrize("n", [1, 2, 50, 1000, 100_000])
@pytest.mark.parametrize("probability", [0.001, 0.01, 0.5, 0.99])
def test_binomial_cdf_agrees_with_scipy(n: int, probability: float) -> None:
    mode = int(n * probability)
    for k in {-1, 0, 1, mode // 2, mode - 1, mode, mode + 1, mode + mode // 10, n - 1, n, n + 1}:
        assert binomial_cdf(k, n, probability) == pytest.approx(
            binom.cdf(k, n, probability), rel=1e-7, abs=1e-14
        )


def test_binomial_cdf_keeps_precision_far_in_the_tail() -> None:
    assert binomial_cdf(0, 2000, 0.5) == pytest.approx(0.5**1000 * 0.5**1000, rel=1e-9, abs=0.0)


@pytest.mark.parametrize(
    ("percentile", "n", "expected"),
    [
        (0.5, 1, 1),
        (0.5, 2, 1),
        (0.5, 3, 2),
        (0.99, 1000, 990),
        (0.99, 1001, 991),
        (0.999, 1000, 999),
        (0.9, 10, 9),
    ],
)
def test_rank_is_the_inverted_cdf(percentile: float, n: int, expected: int) -> None:
    assert rank(percentile, n) == expected


@pytest.mark.parametrize(
    ("percentile", "n"), [(0.5, 7), (0.5, 1000), (0.9, 300), (0.99, 1000), (0.99, 100_000)]
)
def test_interval_ranks_are_the_tightest_that_hold(percentile: float, n: int) -> None:
    low, high = interval_ranks(percentile, n)
    assert binom.cdf(low - 1, n, percentile) <= 0.005 < binom.cdf(low, n, percentile)
    assert binom.sf(high - 1, n, percentile) <= 0.005 + 1e-12
    assert high == 1 or binom.sf(high - 2, n, percentile) > 0.005


def test_few_samples_do_not_bound_a_high_percentile() -> None:
    low, high = interval_ranks(0.99, 100)
    assert low >= 1
    assert high == 101
    assert interval_ranks(0.5, 1) == (0, 2)


def _log_normal(random: np.random.Generator, shape: tuple[int, int]) -> npt.NDArray[np.float64]:
    return random.lognormal(0.0, 1.0, shape)


def _bimodal(random: np.random.Generator, shape: tuple[int, int]) -> npt.NDArray[np.float64]:
    """97 % on [0, 1], 3 % on [9, 10]."""
    slow = random.random(shape) < 0.03
    return random.random(shape) + 9.0 * slow


@pytest.mark.parametrize("percentile", [0.5, 0.9, 0.99])
@pytest.mark.parametrize(
    ("draw", "quantile"),
    [
        (_log_normal, lambda p: float(np.exp(norm.ppf(p)))),
        (_bimodal, lambda p: p / 0.97 if p < 0.97 else 9.0 + (p - 0.97) / 0.03),
    ],
    ids=["log-normal", "bimodal"],
)
def test_the_true_percentile_lies_inside_the_interval(
    draw: Callable[[np.random.Generator, tuple[int, int]], npt.NDArray[np.float64]],
    quantile: Callable[[float], float],
    percentile: float,
) -> None:
    runs, n = 1_000, 1_000
    samples = np.sort(draw(np.random.default_rng(20_261_123), (runs, n)), axis=1)
    low, high = interval_ranks(percentile, n)
    true = quantile(percentile)
    inside = (samples[:, low - 1] <= true) & (true <= samples[:, high - 1])
    assert inside.mean() >= 0.975
