from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from edgead.benchmarks._issue import warm_up
from edgead.benchmarks.sut import SampleLibrary
from edgead.benchmarks.warmup import Warmup

MS = 1_000_000
ONE = SampleLibrary("a")


Queries = Callable[[list[int], Warmup], tuple[int, bool]]


@pytest.fixture
def queries(clock: Any, scripted: Any) -> Queries:
    return lambda durations_ns, warmup: warm_up(scripted(durations_ns), ONE, warmup, clock)


def test_it_lasts_as_long_as_the_service_time_falls(queries: Queries) -> None:
    # 20 ms falling by a tenth per window of 10: 20, 18, 16.2, … 5.9, then 5 for good.
    falling = [round(20 * MS * 0.9 ** (i // 10)) for i in range(130)]
    found, settled = queries(falling + [5 * MS] * 1_000, Warmup())
    assert settled
    assert found == 130 + 30  # the first three windows that do not fall


def test_a_steady_system_is_warm_after_three_windows_and_half_a_second(queries: Queries) -> None:
    assert queries([50 * MS] * 100, Warmup()) == (30, True)
    assert queries([MS] * 1_000, Warmup()) == (500, True)


def test_noise_does_not_keep_it_from_settling(queries: Queries) -> None:
    random = np.random.default_rng(3)
    found = [
        queries((20 * MS * random.lognormal(0, 0.05, 4_000)).astype(int).tolist(), Warmup())[0]
        for _ in range(50)
    ]
    assert np.median(found) < 100
    assert max(found) < 500


def test_a_rise_is_no_warming_up(queries: Queries) -> None:
    assert queries([(20 + i) * MS for i in range(100)], Warmup()) == (30, True)


@pytest.mark.parametrize(
    ("warmup", "count"),
    [(Warmup(max_queries=7), 7), (Warmup(max_duration_ns=150 * MS), 2)],
)
def test_it_gives_up_in_the_end_and_says_so(queries: Queries, warmup: Warmup, count: int) -> None:
    assert queries([(100_000 - i * 1_000) * 1_000 for i in range(100)], warmup) == (count, False)
