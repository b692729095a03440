from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path

import pytest

import edgead
from edgead.benchmarks.environment import Environment, record


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def machine(tmp_path: Path) -> tuple[Path, Path]:
    """Parts of /proc and /sys: 4 threads on 2 cores, in a control group that allows 1.5 cores."""
    proc, sys = tmp_path / "proc", tmp_path / "sys"
    cores = [
        f"processor\t: {i}\nmodel name\t: Test CPU @ 3 GHz\nflags\t\t: fpu avx2 avx512_vnni sse2\n"
        for i in range(4)
    ]
    write(proc / "cpuinfo", "\n".join(cores))
    write(proc / "meminfo", "MemTotal:        4096 kB\nMemFree:         1 kB\n")
    write(proc / "self/cgroup", "0::/line/edgead\n")
    for i in range(4):
        cpu = sys / f"devices/system/cpu/cpu{i}"
        write(cpu / "topology/thread_siblings_list", f"{i % 2},{i % 2 + 2}\n")
        write(cpu / "cpufreq/scaling_governor", "powersave\n")
    write(sys / "fs/cgroup/line/cpu.max", "150000 100000\n")
    write(sys / "fs/cgroup/line/edgead/cpu.max", "max 100000\n")
    return proc, sys


def test_the_record_of_a_known_machine(machine: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (3.0, 0.0, 0.0))
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3}, raising=False)
    found = record(*machine)
    assert found.cpu == "Test CPU @ 3 GHz"
    assert found.cpu_flags == ("avx2", "avx512_vnni")
    assert (found.physical_cores, found.usable_cores, found.cgroup_cores) == (2, 4, 1.5)
    assert (found.governor, found.memory_bytes, found.load_1min) == ("powersave", 4 * 2**20, 3.0)
    assert found.edgead == edgead.__version__
    assert [warning.split()[2] for warning in found.warnings] == ["is", "group", "is"]
    assert "load 3.00" in found.warnings[0]
    assert "1.5 of 4 cores" in found.warnings[1]
    assert "powersave" in found.warnings[2]


def test_the_hottest_sensor_and_the_gpus(machine: tuple[Path, Path]) -> None:
    proc, sys = machine
    assert (record(proc, sys).temperature_c, record(proc, sys).gpu, record(proc, sys).gpu_driver) == (
        None,
        (),
        None,
    )
    write(sys / "class/thermal/thermal_zone0/temp", "41000\n")
    write(sys / "class/hwmon/hwmon1/temp2_input", "67500\n")
    write(sys / "class/hwmon/hwmon1/temp3_input", "none\n")
    write(proc / "driver/nvidia/gpus/0000:01:00.0/information", "Model: \t Test GPU 5\nIRQ:\t 7\n")
    write(
        proc / "driver/nvidia/version",
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  570.86.15  Thu Jan 1 00:00:00 UTC 2026\nGCC 12.2.0",
    )
    found = record(proc, sys)
    assert (found.temperature_c, found.gpu, found.gpu_driver) == (67.5, ("Test GPU 5",), "570.86.15")


def test_a_quota_of_control_groups_version_1(machine: tuple[Path, Path]) -> None:
    proc, sys = machine
    write(proc / "self/cgroup", "4:memory:/x\n3:cpu,cpuacct:/line\n")
    write(sys / "fs/cgroup/line/cpu.max", "max 100000\n")
    write(sys / "fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n")
    write(sys / "fs/cgroup/cpu/line/cpu.cfs_quota_us", "50000\n")
    write(sys / "fs/cgroup/cpu/line/cpu.cfs_period_us", "100000\n")
    assert record(proc, sys).cgroup_cores == 0.5


def test_a_quiet_machine_without_limits_gives_no_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (0.0, 0.0, 0.0))
    found = record(tmp_path / "no-proc", tmp_path / "no-sys")
    assert found.warnings == ()
    assert (found.physical_cores, found.cgroup_cores, found.governor, found.memory_bytes) == (None,) * 4
    assert found.cpu
    assert found.usable_cores >= 1


def test_this_machine_as_json() -> None:
    found = record()
    assert isinstance(found, Environment)
    read = json.loads(json.dumps(asdict(found)))
    assert read["packages"]["numpy"]
    assert read["kernels"] in ("scalar", "avx2", "avx512", "neon")
    assert read["time_utc"].endswith("+00:00")
