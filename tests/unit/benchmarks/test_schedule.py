from __future__ import annotations

import itertools

import numpy as np
import pytest

from edgead.benchmarks.schedule import pauses, periodic
from edgead.errors import UsageError

MS = 1_000_000


def first(count: int, *arguments: object, **options: object) -> np.ndarray:  # type: ignore[type-arg]
    return np.array(list(itertools.islice(periodic(*arguments, **options), count)))  # type: ignore[arg-type]


def test_a_period_that_is_no_whole_nanosecond_does_not_drift() -> None:
    starts = first(30_001, 3)
    assert starts[0] == 0
    assert starts[-1] == 10_000 * 10**9
    assert set(np.diff(starts)) == {333_333_333, 333_333_334}


def test_jitter_moves_each_start_uniformly_and_none_overtakes() -> None:
    starts = first(20_000, 100, jitter_ns=5 * MS, seed=4)
    moved = starts - 10 * MS * np.arange(20_000) - 5 * MS
    assert moved.min() >= -5 * MS
    assert moved.max() <= 5 * MS
    assert (np.diff(starts) >= 0).all()
    assert starts[0] >= 0
    # Uniform on ±5 ms: mean 0, standard deviation 10/√12 = 2.887 ms; four standard errors of 20,000 draws.
    assert abs(moved.mean()) < 4 * 2.887 * MS / np.sqrt(20_000)
    assert moved.std() == pytest.approx(2.887 * MS, rel=0.02)


def test_a_seed_gives_the_same_arrivals_and_another_one_others() -> None:
    assert (first(50, 100, jitter_ns=MS, seed=1) == first(50, 100, jitter_ns=MS, seed=1)).all()
    assert (first(50, 100, jitter_ns=MS, seed=1) != first(50, 100, jitter_ns=MS, seed=2)).any()


@pytest.mark.parametrize("jitter_ns", [-1, 5 * MS + 1])
def test_jitter_that_would_reorder_frames_is_refused(jitter_ns: int) -> None:
    with pytest.raises(UsageError, match="at most half of the period, 5 ms"):
        next(periodic(100, jitter_ns))


def test_every_round_of_pauses_has_each_once_cold_and_warm() -> None:
    plan = list(itertools.islice(pauses((0, MS), seed=1), 40))
    for begin in range(0, 40, 4):
        assert sorted(plan[begin : begin + 4]) == [(0, False), (0, True), (MS, False), (MS, True)]
    assert len({tuple(plan[begin : begin + 4]) for begin in range(0, 40, 4)}) > 1  # the order is drawn
