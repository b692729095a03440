from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgead.benchmarks.activity import Activity

HZ = os.sysconf("SC_CLK_TCK")


def stat(proc: Path, user_s: float, idle_s: float, steal_s: float = 0.0, cores: int = 4) -> None:
    """`cores` processors alike; the first line, of all of them, must not be counted."""
    fields = [round(value * HZ) for value in (user_s, 0, 0, idle_s, 0, 0, 0, steal_s, user_s, 0)]
    line = " ".join(map(str, fields))
    lines = [f"cpu  {line}", *(f"cpu{core} {line}" for core in range(cores)), "intr 5", "ctxt 7"]
    (proc / "stat").write_text("\n".join(lines))


@pytest.fixture
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {1, 3}, raising=False)


@pytest.mark.usefixtures("two_cores")
def test_what_others_took_is_all_less_what_this_process_took(tmp_path: Path) -> None:
    own = [3.0]
    stat(tmp_path, 100, 900)
    activity = Activity(tmp_path, lambda: own[0])
    # 10 s pass: each of 2 cores is busy for 6 s and 1 s of it was stolen; this process had 5 s of the 12.
    stat(tmp_path, 105, 904, steal_s=1)
    own[0] = 8.0
    assert activity.others_cores() == pytest.approx((12 - 5) / 10)
    [warning] = activity.warnings()
    assert "took 0.70 of 2 cores" in warning


@pytest.mark.usefixtures("two_cores")
def test_a_process_alone_is_not_warned_of(tmp_path: Path) -> None:
    own = [0.0]
    stat(tmp_path, 1, 1)
    activity = Activity(tmp_path, lambda: own[0])
    stat(tmp_path, 7, 5)
    own[0] = 11.9
    assert activity.others_cores() == pytest.approx(0.01, abs=0.005)
    assert activity.warnings() == []


def test_what_cannot_be_read_is_none(tmp_path: Path) -> None:
    activity = Activity(tmp_path)
    assert activity.others_cores() is None
    assert activity.warnings() == []
    (tmp_path / "stat").write_text("cpu0 0 0 0 0 0 0 0 0\n")
    assert Activity(tmp_path).others_cores() is None


def test_this_machine_can_be_asked() -> None:
    activity = Activity()
    sum(range(3_000_000))
    found = activity.others_cores()
    assert found is None or 0 <= found <= (os.cpu_count() or 1)
