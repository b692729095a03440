"""What the harness itself costs: the null SUT in both scenarios.

    python benchmarks/suites/harness_overhead.py [--json]

Bars: at most 5 µs per query back to back, and planned starts met within 200 µs (p99) at 500 Hz.
Exits with 1 when one is missed.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict

import numpy as np

from edgead.benchmarks.environment import record
from edgead.benchmarks.run import Limits
from edgead.benchmarks.scenarios import paced, single_stream
from edgead.benchmarks.sut import NullSut, SampleLibrary

OVERHEAD_BAR_US = 5.0
START_BAR_US = 200.0
LIBRARY = SampleLibrary(range(16))


def overhead_us(queries: int, repetitions: int) -> list[float]:
    """Wall time per query of each repetition: the null SUT takes none of it."""
    limits = Limits(min_queries=queries)
    runs = (single_stream(NullSut(), LIBRARY, limits=limits) for _ in range(repetitions))
    return sorted(1e6 / run.fps for run in runs)


def start_errors_us(fps: float, queries: int) -> list[float]:
    """p50, p99 and maximum of actual − planned start."""
    run = paced(NullSut(), LIBRARY, fps=fps, limits=Limits(min_queries=queries))
    late = run.times[:, 1] - run.times[:, 0]
    return [float(value) / 1e3 for value in np.quantile(late, [0.5, 0.99, 1.0], method="inverted_cdf")]


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description="overhead of the latency harness")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--queries", type=int, default=100_000)
    options = parser.parse_args()

    environment = record()
    overhead = overhead_us(options.queries, 5)
    start = start_errors_us(500.0, max(1_000, options.queries // 50))
    median = overhead[len(overhead) // 2]
    passed = median <= OVERHEAD_BAR_US and start[1] <= START_BAR_US
    if options.json:
        result = {
            "overhead_us": {
                "median": median,
                "min": overhead[0],
                "max": overhead[-1],
                "bar": OVERHEAD_BAR_US,
            },
            "start_error_us": {"p50": start[0], "p99": start[1], "max": start[2], "bar": START_BAR_US},
            "passed": passed,
            "environment": asdict(environment),
        }
        print(json.dumps(result, indent=2))
    else:
        for name, value in asdict(environment).items():
            print(f"{name:15} {value}")
        print(
            f"\nsingle-stream, null SUT: {median:.2f} µs per query "
            f"({overhead[0]:.2f} to {overhead[-1]:.2f} over 5 runs of {options.queries}; "
            f"bar {OVERHEAD_BAR_US:g})"
        )
        print(
            f"paced, 500 Hz: start late by p50 {start[0]:.1f}, p99 {start[1]:.1f}, max {start[2]:.1f} µs "
            f"(bar {START_BAR_US:g} at p99)"
        )
        print("passed" if passed else "FAILED")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
