"""CPU time and peak memory of `import edgead` and `edgead --help`.

    python benchmarks/suites/startup.py [--json] [--runs 15]

Bars: medians of at most 0.3 s CPU (user + system) and 100 MB peak RSS. Exits with 1 when one is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from dataclasses import asdict

from edgead.benchmarks.environment import record

CPU_BAR_S = 0.3
RSS_BAR_MB = 100.0
COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "import edgead": ["-c", "import edgead"],
    "edgead --help": ["-m", "edgead", "--help"],
}


def measure(arguments: list[str]) -> tuple[float, float]:
    """CPU seconds and peak RSS in MB of one fresh interpreter.

    Linux counts what this process held when it started the other into that one's peak; it is small.
    """
    process = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.DEVNULL, cwd=os.sep)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{arguments} exits with {process.returncode}")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024 / 1e6


def main() -> int:
    """Measure in turn, print, judge."""
    parser = argparse.ArgumentParser(description="start-up cost of edgead")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--runs", type=int, default=15)
    options = parser.parse_args()

    environment = record()
    samples: dict[str, list[tuple[float, float]]] = {name: [] for name in COMMANDS}
    for _ in range(options.runs):  # in turn, so that a busy moment hits all of them
        for name, arguments in COMMANDS.items():
            samples[name].append(measure(arguments))
    rows = {
        name: {
            "cpu_s": statistics.median(cpu for cpu, _ in pairs),
            "cpu_s_min": min(cpu for cpu, _ in pairs),
            "cpu_s_max": max(cpu for cpu, _ in pairs),
            "rss_mb": max(rss for _, rss in pairs),
        }
        for name, pairs in samples.items()
    }
    passed = all(row["cpu_s"] <= CPU_BAR_S and row["rss_mb"] <= RSS_BAR_MB for row in rows.values())
    if options.json:
        print(
            json.dumps(
                {
                    "runs": options.runs,
                    "commands": rows,
                    "passed": passed,
                    "environment": asdict(environment),
                },
                indent=2,
            )
        )
    else:
        for key, value in asdict(environment).items():
            print(f"{key:15} {value}")
        print(f"\nmedian CPU (min to max), highest peak RSS, of {options.runs} runs each")
        for name, row in rows.items():
            print(
                f"{name:15} {row['cpu_s']:.3f} s ({row['cpu_s_min']:.3f} to {row['cpu_s_max']:.3f}), "
                f"{row['rss_mb']:.0f} MB"
            )
        print("passed" if passed else "FAILED", f"(bars {CPU_BAR_S} s, {RSS_BAR_MB:g} MB)")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
