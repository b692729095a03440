from __future__ import annotations

import json

import numpy as np
import pytest

from edgead.benchmarks.environment import record
from edgead.benchmarks.report import BenchReport, summarise
from edgead.benchmarks.run import Run
from edgead.benchmarks.targets import Targets

MS = 1_000_000
ENVIRONMENT = record()


def report_of(queries: int, targets: Targets, *, rate: float | None = None) -> BenchReport:
    """Every 10 ms a query: started 1 ms late, done 4 ms later, 1, 2 and 1 ms of it in the stages."""
    planned = 10 * MS * np.arange(queries, dtype=np.int64)
    columns = [planned, planned + MS, planned + 5 * MS, *(np.full(queries, n * MS) for n in (1, 2, 1))]
    run = Run(
        scenario="paced" if rate else "single-stream",
        rate=rate,
        stages=("preprocess", "engine", "post"),
        times=np.stack(columns, axis=1),
        warmup_queries=10,
        complete=True,
    )
    return summarise(
        run,
        targets,
        ENVIRONMENT,
        target="openvino:fp32",
        runtime="python",
        threads=1,
        images=3,
        skipped={"bad.png": "is empty"},
        warnings=["mind this"],
    )


def test_the_fields_that_others_rely_on() -> None:
    found = json.loads(
        json.dumps(report_of(1_000, Targets(p99_ns=6 * MS, deadline_ns=4 * MS), rate=100).as_json())
    )
    assert found["verdict"] == "fail"
    assert (found["scenario"], found["target"], found["runtime"]) == ("paced", "openvino:fp32", "python")
    assert found["queries"] == 1_000
    assert found["fps"] == pytest.approx(1_000 / 9.995)
    assert {name: found["latency_ms"][name] for name in ("p50", "p90", "p99", "max")} == pytest.approx(
        dict.fromkeys(("p50", "p90", "p99", "max"), 5.0), rel=1e-3
    )
    assert found["latency_ms"]["p99.9"] is None
    assert {stage: row["p50"] for stage, row in found["stages_ms"].items()} == pytest.approx(
        {"preprocess": 1.0, "engine": 2.0, "post": 1.0}, rel=1e-3
    )
    assert found["service_ms"]["max"] == 4.0
    assert found["deadline_misses"] == 1_000
    assert found["environment"]["edgead"] == ENVIRONMENT.edgead
    assert found["skipped"] == {"bad.png": "is empty"}
    assert found["warnings"][-1] == "mind this"
    assert [judgement["verdict"] for judgement in found["judgements"]] == ["pass", "fail"]


def test_without_targets_there_is_no_verdict() -> None:
    report = report_of(10, Targets())
    assert report.verdict == "none"
    assert report.deadline_misses is None
    assert report.latency_ms["p90"] is None
    assert report.judgements == ()


def test_an_empty_run_has_no_figures() -> None:
    report = report_of(0, Targets(fps=10, p99_ns=MS, deadline_ns=MS))
    assert report.verdict == "inconclusive"
    assert (report.queries, report.fps) == (0, 0.0)
    assert set(report.latency_ms.values()) == {None}
    json.dumps(report.as_json(), allow_nan=False)
