from __future__ import annotations

from dataclasses import replace

import numpy as np

from edgead.benchmarks.environment import record
from edgead.benchmarks.report import BenchReport, summarise
from edgead.benchmarks.run import Run
from edgead.benchmarks.summary import markdown
from edgead.benchmarks.targets import Targets

MS = 1_000_000


def report_of(latency_ms: int, target: str, **targets: int) -> BenchReport:
    latency = np.full(1_000, latency_ms * MS, np.int64)
    done = np.cumsum(latency)
    times = np.stack([done - latency, done - latency, done], axis=1)
    run = Run(scenario="single-stream", rate=None, stages=(), times=times, warmup_queries=0, complete=True)
    return summarise(
        run,
        Targets(**targets),
        replace(record(), cpu="A|B CPU", warnings=()),
        target=target,
        runtime="native",
        threads=0,
        images=3,
        skipped={},
        bundle="part.edgead",
        warnings=["mind | this"],
    )


def test_the_summary_is_a_table_with_the_verdict_first() -> None:
    reports = (
        report_of(5, "a:fp32", p99_ns=6 * MS, deadline_ns=4 * MS),
        replace(report_of(9, "b:fp32"), complete=False),
    )
    lines = markdown(reports).splitlines()
    assert lines[0] == "### part.edgead: single-stream"
    assert lines[2:7] == [
        "| verdict | target | required | what was seen |",
        "|---|---|---|---|",
        "| ✅ PASS | `a:fp32` | p99 ≤ 6 ms | 0 of 1000 queries over 6 ms |",
        "| ❌ FAIL | `a:fp32` | deadline 4 ms | 1000 of 1000 queries missed it; "
        "the slowest query took 5 ms |",
        "| no target | `b:fp32` | | |",
    ]
    assert lines[8] == "| latency in ms | p50 | p90 | p99 | p99.9 | max | images/s | queries | dropped |"
    assert lines[10] == "| `a:fp32` | 5.000 | 5.000 | 5.000 | – | 5.000 | 200 | 1000 | 0 |"
    assert lines[11].startswith("| `b:fp32` (interrupted) | 9.0")
    assert lines[13] == "> ⚠️ mind \\| this"  # once, though both say it; a bar would end the cell
    assert lines[-1].startswith("A\\|B CPU, ")


def test_every_row_has_as_many_cells_as_its_head() -> None:
    lines = markdown((report_of(5, "a:fp32", p99_ns=6 * MS),)).splitlines()
    tables = [line.replace("\\|", "") for line in lines if line.startswith("|")]
    counts = [line.count("|") for line in tables]
    assert counts[:3] == [5] * 3
    assert counts[3:] == [10] * 3
