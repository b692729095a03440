"""The scripts behind the figures still run; whether their bars hold is for a quiet machine."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SUITES = Path(__file__).resolve().parents[2] / "benchmarks" / "suites"


@pytest.mark.parametrize(
    "command",
    [
        ("bank_search.py", "--rounds", "1", "--cases", "0", "--growth", "1000"),
        ("harness_overhead.py", "--queries", "2000"),
        ("native_runtime.py", "--rounds", "1"),
        ("startup.py", "--runs", "1"),
        ("window_search.py", "--rounds", "1", "--dims", "16", "--max-gib", "0.1"),
    ],
)
def test_a_suite_prints_its_figures_as_json(command: tuple[str, ...]) -> None:
    script, *options = command
    done = subprocess.run(
        [sys.executable, str(SUITES / script), "--json", *options],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 1), done.stderr
    found = json.loads(done.stdout)
    assert found["passed"] == (done.returncode == 0)
    assert found["environment"]["cpu"]


def test_the_readme_lists_every_suite() -> None:
    table = (SUITES / "README.md").read_text(encoding="utf-8")
    assert [path.name for path in sorted(SUITES.glob("*.py")) if f"`{path.name}`" not in table] == []
