from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import binom

from edgead.benchmarks.compare import read_result, with_result, with_run
from edgead.benchmarks.environment import record
from edgead.benchmarks.histogram import Histogram
from edgead.benchmarks.interleaved import interleaved
from edgead.benchmarks.report import VERSION, BenchReport, summarise
from edgead.benchmarks.run import Limits, Run
from edgead.benchmarks.sut import SampleLibrary
from edgead.benchmarks.targets import Targets
from edgead.benchmarks.warmup import Warmup
from edgead.errors import InputError, UsageError

MS = 1_000_000
ENVIRONMENT = record()
VERSION_1 = Path(__file__).with_name("bench_v1.json")


def run_of(latency_ns: Any, **values: Any) -> Run:
    latency = np.asarray(latency_ns, np.int64)
    done = np.cumsum(latency)
    times = np.stack([done - latency, done - latency, done], axis=1).reshape(-1, 3)
    facts = {"scenario": "single-stream", "rate": None, "stages": (), "warmup_queries": 0, "complete": True}
    return Run(times=times, **{**facts, **values})


def report_of(run: Run, targets: Targets | None = None) -> BenchReport:
    return summarise(
        run,
        targets or Targets(),
        ENVIRONMENT,
        target="onnxruntime:fp32",
        runtime="native",
        threads=0,
        images=3,
        skipped={},
        bundle="a.edgead",
    )


def log_normal(seed: int, median_ms: float, n: int = 2_000) -> np.ndarray:  # type: ignore[type-arg]
    return median_ms * MS * np.random.default_rng(seed).lognormal(0, 0.1, n)


def saved(report: BenchReport, path: Path) -> Path:
    path.write_text(json.dumps(report.as_json(), allow_nan=False))
    return path


@pytest.mark.parametrize(
    ("median_ms", "verdict"), [(10.0, "pass"), (9.0, "pass"), (10.4, "inconclusive"), (12.0, "fail")]
)
def test_a_result_is_held_against_an_earlier_one(tmp_path: Path, median_ms: float, verdict: str) -> None:
    earlier = read_result(saved(report_of(run_of(log_normal(1, 10.0))), tmp_path / "old.json"))
    found = with_result(report_of(run_of(log_normal(2, median_ms))), earlier, "old.json")
    assert found.verdict == verdict
    [judgement] = found.judgements
    assert judgement.target == "not slower than old.json by more than 5 %"
    if verdict == "fail":
        assert "slower: p50 by " in judgement.advice
    assert found.comparison is not None
    ratio: dict[str, Any] = found.comparison["ratios"]["p50"]  # type: ignore[index]
    assert ratio["ratio"] == pytest.approx(median_ms / 10, rel=0.01)
    assert ratio["low"] < median_ms / 10 < ratio["high"]
    assert f"p50 {ratio['ratio']:.3f}" in judgement.reason
    assert found.comparison["kind"] == "result"
    json.dumps(found.as_json(), allow_nan=False)


def test_the_tail_alone_can_be_a_regression(tmp_path: Path) -> None:
    base = log_normal(3, 10.0)
    slow = base.copy()
    slow[::30] *= 3
    earlier = read_result(saved(report_of(run_of(base)), tmp_path / "old.json"))
    found = with_result(report_of(run_of(slow)), earlier, "old.json")
    assert found.verdict == "fail"
    assert "slower: p99 by" in found.judgements[-1].advice


def test_a_regression_adds_to_the_other_targets(tmp_path: Path) -> None:
    earlier = read_result(saved(report_of(run_of(log_normal(1, 10.0))), tmp_path / "old.json"))
    new = report_of(run_of(log_normal(2, 14.0)), Targets(p99_ns=100 * MS))
    assert new.verdict == "pass"
    found = with_result(new, earlier, "old.json")
    assert [judgement.verdict for judgement in found.judgements] == ["pass", "fail"]
    assert found.verdict == "fail"


def test_few_queries_or_an_interruption_pass_nothing(tmp_path: Path) -> None:
    earlier = read_result(saved(report_of(run_of(log_normal(1, 10.0))), tmp_path / "old.json"))
    few = with_result(report_of(run_of([10 * MS] * 3)), earlier, "old.json")
    assert few.verdict == "inconclusive"
    assert "no percentile that both carry" in few.judgements[-1].reason
    partial = run_of(log_normal(2, 8.0), complete=False)
    assert with_result(report_of(partial), earlier, "old.json").verdict == "inconclusive"


def test_another_machine_or_version_is_told(tmp_path: Path) -> None:
    old = replace(
        ENVIRONMENT, cpu="Old CPU", packages={**ENVIRONMENT.packages, "onnxruntime": "0.9"}, governor="x"
    )
    before = replace(report_of(run_of(log_normal(1, 10.0))), environment=old, threads=7)
    found = with_result(
        report_of(run_of(log_normal(2, 10.0))),
        read_result(saved(before, tmp_path / "old.json")),
        "old.json",
    )
    told = " ".join(found.warnings)
    for part in ("cpu Old CPU then", "onnxruntime 0.9 then", "governor x then", "threads 7 then, 0 now"):
        assert part in told


def test_another_scenario_cannot_be_compared(tmp_path: Path) -> None:
    before = replace(report_of(run_of([MS] * 10)), scenario="paced", rate=20.0)
    earlier = read_result(saved(before, tmp_path / "old.json"))
    with pytest.raises(UsageError, match="scenario paced, this run with single-stream"):
        with_result(report_of(run_of([MS] * 10)), earlier, "old.json")


def test_a_file_of_version_1_is_still_read() -> None:
    """Written by edgead before its results carried a histogram."""
    earlier = read_result(VERSION_1)
    assert earlier["report_version"] == 1
    p50 = earlier["latency_ms"]["p50"]
    found = with_result(report_of(run_of([2 * p50 * MS] * 1_000)), earlier, VERSION_1.name)
    assert found.verdict == "fail"
    assert found.comparison is not None
    assert found.comparison["ratios"]["p50"]["ratio"] == pytest.approx(2, rel=1e-3)  # type: ignore[index]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is no result of a bench"),
        ("[1]", "is no result of a bench"),
        ('{"verdict": "pass"}', "is no result of a bench"),
        ("\x00\xff", "is no result of a bench"),
        (None, "is no result of a bench"),
    ],
)
def test_a_file_of_something_else(tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / "x.json"
    if content is not None:
        path.write_text(content, encoding="latin-1")
    with pytest.raises(InputError, match=message):
        read_result(path)


def test_a_result_of_a_later_version_is_refused(tmp_path: Path) -> None:
    later = replace(report_of(run_of([MS] * 10)), report_version=VERSION + 1)
    with pytest.raises(InputError, match=f"report version {VERSION + 1}, this edgead reads 1 to {VERSION}"):
        read_result(saved(later, tmp_path / "x.json"))


def test_a_result_carries_all_its_latencies(tmp_path: Path) -> None:
    from hdrh.histogram import HdrHistogram

    latency = log_normal(5, 10.0).astype(np.int64)
    found = read_result(saved(report_of(run_of(latency)), tmp_path / "x.json"))
    decoded = HdrHistogram.decode(found["latency_histogram"])
    assert decoded.get_total_count() == len(latency)
    exact = np.quantile(latency, 0.9, method="inverted_cdf")
    assert decoded.get_value_at_percentile(90.0) == pytest.approx(exact, rel=1e-3)


def test_the_buckets_of_a_histogram_are_its_counts() -> None:
    buckets = list(Histogram([5, 5, 1_000, 10**9]).buckets())
    assert [count for _, count in buckets] == [2, 1, 1]
    assert [value for value, _ in buckets] == pytest.approx([5, 1_000, 10**9], rel=1e-3)


def test_two_systems_are_measured_in_turn(clock: Any, scripted: Any) -> None:
    order: list[str] = []

    class Named:
        runtime, stages = "python", ()

        def __init__(self, name: str, duration: int) -> None:
            self.name, self.duration = name, duration

        def issue(self, sample: object) -> tuple[int, ...]:
            order.append(f"{self.name}{sample}")
            clock.time += self.duration
            return ()

    new, old = interleaved(
        (Named("a", 3 * MS), Named("b", 5 * MS)),
        SampleLibrary([0, 1, 2]),
        limits=Limits(min_queries=4),
        warmup=Warmup(max_queries=1),
        clock=clock,
    )
    assert order[2:] == ["a0", "b0", "b1", "a1", "a2", "b2", "b0", "a0"]
    assert new.latency_ns.tolist() == [3 * MS] * 4
    assert old.latency_ns.tolist() == [5 * MS] * 4


def test_ctrl_c_in_turn_keeps_whole_pairs(clock: Any, scripted: Any) -> None:
    def interrupted() -> Any:
        yield from [MS] * 5
        raise KeyboardInterrupt

    suts = (scripted([MS] * 100), scripted(interrupted()))
    runs = interleaved(
        suts, SampleLibrary("a"), limits=Limits(min_queries=50), warmup=Warmup(max_queries=1), clock=clock
    )
    assert [len(run) for run in runs] == [4, 4]
    assert not any(run.complete for run in runs)


@pytest.mark.parametrize(
    ("factor", "verdict"),
    [(0.9, "pass"), (1.0, "pass"), (1.03, "pass"), (1.05, "inconclusive"), (1.08, "fail")],
)
def test_pairs_see_what_two_runs_apart_cannot(factor: float, verdict: str) -> None:
    """Both follow the machine, which drifts by 60 %; the ratio of each pair does not."""
    machine = np.linspace(10, 16, 400) * MS
    noise = np.random.default_rng(11).lognormal(0, 0.02, (2, 400))
    new, old = run_of(machine * noise[0] * factor), run_of(machine * noise[1])
    found = with_run(report_of(new), new, old, "old.edgead")
    assert found.verdict == verdict
    assert found.comparison is not None
    ratio = found.comparison["ratios"]["paired p50"]  # type: ignore[index]
    assert ratio["ratio"] == pytest.approx(factor, rel=0.01)
    # Order statistics of Binomial(400, ½), as in scipy: ranks 174 and 227.
    assert binom.cdf(173, 400, 0.5) <= 0.005 < binom.cdf(174, 400, 0.5)
    pairs = np.sort(new.latency_ns / old.latency_ns)
    assert (ratio["low"], ratio["high"]) == (pairs[173], pairs[226])


def test_a_pair_of_nothing_is_inconclusive() -> None:
    empty = run_of([])
    assert with_run(report_of(empty), empty, empty, "old").verdict == "inconclusive"
    assert asdict(with_run(report_of(empty), empty, empty, "old"))["comparison"]["ratios"] == {}
