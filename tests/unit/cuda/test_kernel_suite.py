"""benchmarks/suites/cuda_kernels.py with kernels on the CPU: what it finds right and wrong, not how fast."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SUITES = Path(__file__).resolve().parents[3] / "benchmarks" / "suites"


@pytest.fixture
def suite(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SUITES))
    return importlib.import_module("cuda_kernels")


def test_kernels_that_agree_pass(suite: ModuleType, make_device: Callable[..., Any]) -> None:
    device = make_device(lazy=True)
    cases = [*suite.preprocess_cases(device, (20, 30), 1), *suite.post_cases(device, ((9, 40),), 2)]
    rows = suite.measure(device, cases, 1, 1e12, warm_up=0)
    assert [row["error"] for row in rows[:4]] == [0.0] * 4
    assert all(row["passed"] and row["device_us"] > 0 and row["bandwidth_fraction"] > 0 for row in rows)
    assert [row["images"] for row in rows] == [1] * 4 + [2] * 2
    result = {"rows": rows, "device": "host", "copy_gb_per_s": 1000.0, "resources": suite.resources(["9.0"])}
    assert suite.tables(result).count("\n| p") == len(rows) + len(result["resources"])


def test_a_kernel_that_does_nothing_is_seen(suite: ModuleType, make_device: Callable[..., Any]) -> None:
    device = make_device()
    device.launch = lambda *arguments: None
    cases = [*suite.preprocess_cases(device, (20, 30), 1), *suite.post_cases(device, ((9, 40),), 1)]
    rows = suite.measure(device, cases, 1, None, warm_up=0)
    assert not any(row["passed"] for row in rows)
