from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from edgead.benchmarks.run import Run
from edgead.benchmarks.targets import EarlyStopping, Targets, judge, overall, parse_duration
from edgead.errors import UsageError

MS = 1_000_000


def run_of(latency_ns: list[int] | npt.NDArray[np.int64], *, complete: bool = True) -> Run:
    """Back-to-back queries of these durations."""
    latency = np.asarray(latency_ns, dtype=np.int64)
    done = np.cumsum(latency)
    times = np.stack([done - latency, done - latency, done], axis=1).reshape(-1, 3)
    return Run(
        scenario="single-stream", rate=None, stages=(), times=times, warmup_queries=0, complete=complete
    )


def over(count: int, total: int) -> Run:
    """`count` of `total` queries take 6 ms, the others exactly 5 ms."""
    return run_of([6 * MS] * count + [5 * MS] * (total - count))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("5ms", 5 * MS),
        ("800us", 800_000),
        ("800µs", 800_000),
        ("0.01s", 10 * MS),
        (" 2.5 ms ", 2_500_000),
        (".5s", 500 * MS),
        ("1ns", 1),
        ("3600s", 3_600 * 10**9),
        ("0.1ms", 100_000),  # exact, though 0.1 is no binary fraction
        ("5MS", 5 * MS),
    ],
)
def test_durations(text: str, expected: int) -> None:
    assert parse_duration(text, "--p99") == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("5", "--p99 5ms"),
        ("5.5", r"--p99 5\.5ms"),
        ("5min", "'min' is unknown"),
        ("", "not a duration"),
        ("fast", "not a duration"),
        ("-5ms", "not a duration"),
        ("1e3ms", "not a duration"),
        ("nan", "not a duration"),
        ("0ms", "out of range"),
        ("0.1ns", "out of range"),
        ("3601s", "out of range"),
    ],
)
def test_what_is_no_duration_is_told_how_to_write_one(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_duration(text, "--p99")


# Binomial(n, 0.01): P(X ≤ x) ≤ 0.01 passes, P(X ≥ x) ≤ 0.01 fails. Limits worked out with scipy.stats.binom.
@pytest.mark.parametrize(
    ("exceeding", "total", "verdict"),
    [
        (0, 458, "inconclusive"),
        (0, 459, "pass"),
        (1, 661, "inconclusive"),
        (1, 662, "pass"),
        (2, 1_000, "pass"),
        (3, 1_000, "inconclusive"),
        (10, 1_000, "inconclusive"),
        (18, 1_000, "inconclusive"),
        (19, 1_000, "fail"),
        (1, 2, "inconclusive"),
        (2, 2, "fail"),
        (0, 1, "inconclusive"),
    ],
)
def test_p99_is_judged_by_the_binomial(exceeding: int, total: int, verdict: str) -> None:
    [judgement] = judge(over(exceeding, total), Targets(p99_ns=5 * MS))
    assert judgement.verdict == verdict
    assert f"{exceeding} of {total}" in judgement.reason
    assert bool(judgement.advice) == (verdict != "pass")


def test_a_latency_that_equals_the_limit_is_within() -> None:
    [judgement] = judge(over(0, 1_000), Targets(p99_ns=5 * MS))
    assert judgement.verdict == "pass"
    [judgement] = judge(over(0, 1_000), Targets(p99_ns=5 * MS - 1))
    assert judgement.verdict == "fail"


def test_too_few_queries_say_how_many_it_takes() -> None:
    [judgement] = judge(over(1, 500), Targets(p99_ns=5 * MS))
    assert "662 queries" in judgement.advice
    assert "--queries" in judgement.advice


def test_the_proven_p99_is_the_tightest_target_that_passes() -> None:
    latency = np.arange(1, 1_001) * MS
    assert run_of(latency[::-1].copy()).proven(0.99) == 998 * MS  # 2 of 1,000 may be over
    assert judge(run_of(latency), Targets(p99_ns=998 * MS))[0].verdict == "pass"
    assert judge(run_of(latency), Targets(p99_ns=998 * MS - 1))[0].verdict != "pass"
    assert run_of(latency[:458]).proven(0.99) is None
    assert run_of(latency[:0]).proven(0.99) is None
    [judgement] = judge(run_of(latency), Targets(p99_ns=900 * MS))
    assert "998 ms" in judgement.advice


@pytest.mark.parametrize(
    ("exceeding", "total", "verdict"),
    [(0, 458, "inconclusive"), (0, 459, "pass"), (1, 459, "fail"), (1, 1_000_000, "fail"), (1, 1, "fail")],
)
def test_a_deadline_allows_no_miss(exceeding: int, total: int, verdict: str) -> None:
    assert judge(over(exceeding, total), Targets(deadline_ns=5 * MS))[0].verdict == verdict


def test_no_miss_states_the_rate_that_it_excludes() -> None:
    # 1 − 0.01^(1/1000) = 0.004595: one in 217.6.
    assert "1 in 217 " in judge(over(0, 1_000), Targets(deadline_ns=5 * MS))[0].reason


@pytest.mark.parametrize(
    ("fps", "verdict"),
    [(150, "pass"), (199, "pass"), (201, "fail"), (300, "fail")],
)
def test_throughput_of_a_steady_system(fps: float, verdict: str) -> None:
    assert judge(run_of([5 * MS] * 100), Targets(fps=fps))[0].verdict == verdict


@pytest.mark.parametrize(("fast_blocks", "verdict"), [(20, "pass"), (16, "pass"), (15, "inconclusive")])
def test_throughput_near_the_target_is_a_sign_test_over_twenty_blocks(fast_blocks: int, verdict: str) -> None:
    # P(X ≥ 16 | 20, 0.5) = 0.0059, P(X ≥ 15) = 0.0207. Fast blocks by 10 %, slow by 1 %, so the mean is fast.
    blocks = [4_500_000] * fast_blocks + [5_050_000] * (20 - fast_blocks)
    run = run_of(np.repeat(blocks, 10))
    assert judge(run, Targets(fps=200))[0].verdict == verdict


@pytest.mark.parametrize(("queries", "verdict"), [(0, "inconclusive"), (6, "inconclusive"), (7, "pass")])
def test_throughput_needs_seven_queries(queries: int, verdict: str) -> None:
    assert judge(run_of([5 * MS] * queries), Targets(fps=100))[0].verdict == verdict  # 0.5^7 = 0.0078


# Binomial(n, 0.001), by scipy.stats.binom: P(X ≤ x) ≤ 0.01 passes, P(X ≥ x) ≤ 0.01 fails.
@pytest.mark.parametrize(
    ("exceeding", "total", "verdict"),
    [
        (0, 500, "inconclusive"),  # nothing that 500 queries show can carry a p99.9
        (1, 500, "inconclusive"),
        (3, 500, "inconclusive"),
        (4, 500, "fail"),  # P(X ≥ 4 | 500) = 0.0017, P(X ≥ 3) = 0.0143
        (0, 4_602, "inconclusive"),
        (0, 4_603, "pass"),
        (1, 6_635, "inconclusive"),
        (1, 6_636, "pass"),
    ],
)
def test_p99_9_is_judged_by_the_binomial(exceeding: int, total: int, verdict: str) -> None:
    [judgement] = judge(over(exceeding, total), Targets(p999_ns=5 * MS))
    assert (judgement.target, judgement.verdict) == ("p99.9 ≤ 5 ms", verdict)
    if (exceeding, total) == (0, 500):
        assert "4603 queries carry a p99.9" in judgement.advice


def test_what_was_dropped_counts_as_over_every_limit() -> None:
    run = replace(over(0, 1_000), dropped=19, queue=5)
    targets = Targets(fps=100, p99_ns=5 * MS, deadline_ns=5 * MS)
    rate, p99, deadline = judge(run, targets)
    assert {judgement.verdict for judgement in (rate, p99, deadline)} == {"fail"}
    assert "19 of 1019 arrivals found the queue full" in rate.reason
    assert "19 of 1019 queries over 5 ms, 19 of them dropped" in p99.reason
    assert "19 were dropped" in deadline.advice
    assert run.proven(0.99) is None
    assert replace(run, dropped=1).proven(0.99) == 5 * MS


def test_a_rate_that_is_not_held_says_by_how_much() -> None:
    # 15 ms a query hold 66.7 images/s; 100 are 50 % more.
    run = replace(run_of([15 * MS] * 200), dropped=90, queue=10)
    [judgement] = judge(run, Targets(fps=100))
    assert judgement.verdict == "fail"
    assert "takes 15 ms and may take 10 ms" in judgement.advice
    assert "50 % more images come than can be answered" in judgement.advice


@pytest.mark.parametrize(("fps", "verdict"), [(190, "pass"), (210, "fail")])
def test_workers_share_the_rate_and_cameras_do_not(fps: float, verdict: str) -> None:
    """Two streams of 10 ms a query each: 200 images/s together, 100 each."""
    done = np.repeat(10 * MS * np.arange(1, 301), 2)
    times = np.stack([done - 10 * MS, done - 10 * MS, done], axis=1)
    group = np.tile([0, 1], 300)
    run = replace(run_of([]), times=times, group=group, groups=("camera 1", "camera 2"))
    assert judge(replace(run, scenario="offline"), Targets(fps=fps))[0].verdict == verdict
    cameras = replace(run, scenario="multi-camera", rate=100.0)
    assert cameras.throughput() == pytest.approx(100)
    assert judge(cameras, Targets(fps=95))[0].verdict == "pass"
    assert judge(cameras, Targets(fps=105))[0].verdict == "fail"


def test_the_slowest_camera_decides() -> None:
    done = np.repeat(20 * MS * np.arange(1, 101), 2)
    service = np.tile([5 * MS, 12 * MS], 100)
    times = np.stack([done - service, done - service, done], axis=1)
    run = replace(
        run_of([]), times=times, group=np.tile([0, 1], 100), groups=("a", "b"), scenario="multi-camera"
    )
    assert judge(run, Targets(fps=80))[0].verdict == "pass"
    assert judge(run, Targets(fps=90))[0].verdict == "fail"  # 83.3 is all that the second one takes


def test_early_stopping_ends_where_all_is_decided() -> None:
    targets = Targets(p99_ns=5 * MS, fps=100)
    early = EarlyStopping(targets, lambda times: run_of(times[:, 2] - times[:, 0]))
    assert not early(over(5, 1_000).times)
    assert early.doubt == pytest.approx(0.01 / 4)  # of the look to come
    assert early(over(5, 2_000).times)
    assert early.doubt == pytest.approx(0.01 / 4)  # of the one that decided
    assert early.decided


def test_early_stopping_does_not_err_more_often_than_a_single_look() -> None:
    """A system exactly at the limit: 1.2 % of its queries are over, so that every PASS is wrong."""
    random = np.random.default_rng(20_261_125)
    passed = 0
    for _ in range(2_000):
        slow = random.random(16_000) < 0.012
        early = EarlyStopping(Targets(p99_ns=5 * MS), lambda times: run_of(times[:, 2] - times[:, 0]))
        latency = np.where(slow, 6 * MS, 5 * MS)
        for look in (1_000, 2_000, 4_000, 8_000, 16_000):
            run = run_of(latency[:look])
            if early(run.times):
                passed += overall(judge(run, Targets(p99_ns=5 * MS), early.doubt)) == "pass"
                break
    assert passed <= 20


def test_an_interrupted_run_may_fail_but_not_pass() -> None:
    targets = Targets(p99_ns=5 * MS)
    good, bad = [5 * MS] * 1_000, [6 * MS] * 1_000
    assert judge(run_of(good, complete=False), targets)[0].verdict == "inconclusive"
    assert judge(run_of(bad, complete=False), targets)[0].verdict == "fail"


def test_the_worst_judgement_is_the_verdict() -> None:
    run = over(0, 459)
    assert overall(judge(run, Targets())) == "none"
    assert overall(judge(run, Targets(fps=100, p99_ns=5 * MS, deadline_ns=5 * MS))) == "pass"
    assert overall(judge(run, Targets(fps=100, p99_ns=4 * MS))) == "fail"
    assert overall(judge(over(0, 458), Targets(fps=100, p99_ns=5 * MS))) == "inconclusive"
    assert overall(judge(over(0, 458), Targets(fps=1_000, p99_ns=5 * MS))) == "fail"


@pytest.mark.parametrize("fps", [0.0, -1.0, float("nan"), float("inf")])
def test_a_rate_must_be_positive(fps: float) -> None:
    with pytest.raises(UsageError, match="--fps"):
        Targets(fps=fps)
