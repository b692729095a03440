from __future__ import annotations

import sys

import numpy as np
import pytest

from edgead.benchmarks.histogram import LONGEST_NS, Histogram
from edgead.errors import RuntimeMissingError


def test_one_stall_among_ten_thousand_equal_values() -> None:
    histogram = Histogram([1_000] * 10_000 + [100_000_000])
    summary = histogram.summary()
    assert len(histogram) == 10_001
    assert summary == {"p50": 0.001, "p90": 0.001, "p99": 0.001, "p99.9": 0.001, "max": 100.0}
    assert histogram.at_ranks([10_000, 10_001]) == [1_000, 100_000_000]


def test_percentiles_are_within_a_thousandth_of_the_exact_ones() -> None:
    durations = np.random.default_rng(1).lognormal(15.0, 1.0, 20_000).astype(np.int64)
    exact = np.quantile(durations, [0.5, 0.9, 0.99, 0.999], method="inverted_cdf") / 1e6
    summary = Histogram(durations.tolist()).summary()
    assert [summary[p] for p in ("p50", "p90", "p99", "p99.9")] == pytest.approx(exact, rel=1e-3)
    assert summary["max"] == durations.max() / 1e6


@pytest.mark.parametrize(
    ("samples", "carried"),
    [
        (6, set()),
        (7, {"p50"}),
        (43, {"p50"}),
        (44, {"p50", "p90"}),
        (458, {"p50", "p90"}),
        (459, {"p50", "p90", "p99"}),
    ],
)
def test_a_percentile_that_the_samples_cannot_carry_is_none(samples: int, carried: set[str]) -> None:
    summary = Histogram([5_000_000] * samples).summary()
    assert summary.pop("max") == 5.0
    assert {name for name, value in summary.items() if value is not None} == carried


def test_an_empty_histogram_says_nothing() -> None:
    assert set(Histogram().summary().values()) == {None}
    assert Histogram().intervals() == {}


def test_intervals_are_the_order_statistics_of_the_binomial() -> None:
    # 1,000 samples 1 … 1000 µs; ranks by scipy.stats.binom: p99 between 981 and 998, p99.9 from 996 upward.
    intervals = Histogram([1_000 * i for i in range(1, 1_001)]).intervals()
    assert intervals["p99"] == pytest.approx((0.981, 0.998), rel=1e-3)
    assert intervals["p99.9"][0] == pytest.approx(0.996, rel=1e-3)
    assert intervals["p99.9"][1] is None


def test_extreme_durations_are_kept() -> None:
    histogram = Histogram([0] * 10 + [LONGEST_NS * 5])
    assert len(histogram) == 11
    assert histogram.summary()["p50"] == 0.0
    assert histogram.max_ns == LONGEST_NS * 5
    assert histogram.at_ranks([11])[0] == pytest.approx(LONGEST_NS, rel=1e-3)


def test_without_hdrhistogram_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hdrh", None)
    monkeypatch.setitem(sys.modules, "hdrh.histogram", None)
    with pytest.raises(RuntimeMissingError, match=r"pip install 'edgead\[bench\]'"):
        Histogram()
