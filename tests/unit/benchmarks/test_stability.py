from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kendalltau, theilslopes

from edgead.benchmarks.stability import drift, trend, variance_inflation, warnings

MS = 1_000_000


def log_normal(seed: int, n: int) -> np.ndarray:  # type: ignore[type-arg]
    return (10 * MS * np.random.default_rng(seed).lognormal(0, 0.1, n)).astype(np.int64)


def test_a_steady_system_gives_no_warning() -> None:
    told = [list(warnings(log_normal(seed, 2_000))) for seed in range(200)]
    assert sum(map(bool, told)) <= 2


@pytest.mark.parametrize("n", [0, 1, 5, 99])
def test_few_queries_say_nothing_of_stability(n: int) -> None:
    assert list(warnings(log_normal(0, n))) == []


def test_a_machine_that_grows_slower_is_unstable() -> None:
    latency = (log_normal(1, 2_000) * np.linspace(1.0, 1.4, 2_000)).astype(np.int64)
    found = drift(latency)
    assert found is not None
    # The first and the last tenth: 10 ms × 1.02 and × 1.38, give or take the noise of 200 values.
    assert found == pytest.approx((10.2, 13.8), rel=0.03)
    assert any("unstable: the median was 10." in warning for warning in warnings(latency))


def test_a_difference_that_nobody_minds_is_not_told() -> None:
    latency = np.concatenate([np.full(500, 100 * MS), np.full(500, 105 * MS)])
    assert drift(latency) is None


def test_independent_queries_have_no_inflation() -> None:
    found = [variance_inflation(log_normal(seed, 4_000), 0.9) for seed in range(50)]
    assert np.mean(found) == pytest.approx(1.0, abs=0.1)
    assert max(found) < 2


def test_bursts_inflate_by_their_length() -> None:
    """Each value stands 8 times in a row: the share of slow ones varies as with an eighth of the queries."""
    latency = np.repeat(log_normal(5, 4_000), 8)
    found = [variance_inflation(np.repeat(log_normal(seed, 2_000), 8), 0.9, seed=seed) for seed in range(20)]
    assert np.mean(found) == pytest.approx(8, rel=0.2)
    [told] = warnings(latency)
    assert "slow queries come together: 32000 queries say as much as" in told


def test_equal_latencies_are_no_burst() -> None:
    assert variance_inflation(np.full(1_000, MS), 0.9) == 1.0


@pytest.mark.parametrize("slope", [0.0, 0.05, -0.2])
def test_the_trend_is_theil_sen_and_mann_kendall(slope: float) -> None:
    random = np.random.default_rng(8)
    for n in (3, 12, 60, 300):
        times = np.sort(random.random(n)) * 10
        values = slope * times + random.normal(0, 0.2, n).round(1)  # ties
        found, sure = trend(times, values)
        assert found == pytest.approx(theilslopes(values, times).slope, rel=1e-6, abs=1e-9)
        p = kendalltau(times, values, method="asymptotic").pvalue
        assert sure == (p < 0.01) or abs(p - 0.01) < 0.004  # scipy makes no correction for continuity


def test_the_trend_of_many_points_is_that_of_their_medians() -> None:
    times = np.arange(50_000) / 100
    found, sure = trend(times, 3.0 * times + np.random.default_rng(2).normal(0, 5, 50_000))
    assert found == pytest.approx(3.0, rel=0.01)
    assert sure


def test_one_point_has_no_trend() -> None:
    assert trend(np.array([1.0]), np.array([5.0])) == (0.0, False)
    assert trend(np.array([]), np.array([])) == (0.0, False)
    assert trend(np.arange(50.0), np.full(50, 7.0)) == (0.0, False)
