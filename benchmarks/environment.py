"""The machine that a figure was taken on. What cannot be read here is None; nothing raises."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from edgead import __version__
from edgead.errors import EdgeadError

# As Linux names them: the instruction sets that the engines and libedgead choose their kernels by.
_FLAGS = (
    "avx2",
    "fma",
    "f16c",
    "avx_vnni",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "avx512_fp16",
    "amx_tile",
    "amx_int8",
    "amx_bf16",
    "asimd",
    "asimddp",
    "bf16",
    "i8mm",
    "sve",
)
_PACKAGES = ("numpy", "opencv-python-headless", "onnxruntime", "openvino", "tensorrt", "hdrhistogram")
_BUSY_LOAD = 0.25  # per usable core, before the run


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """Where and with what a run was made.

    Attributes:
        cpu_flags: instruction sets that matter for speed.
        logical_cores: all of the machine; `usable_cores` are those that this process may use (affinity).
        cgroup_cores: CPU time that the control group allows, in cores; None = no limit.
        governor: frequency governor, one name, or several joined by ``,``.
        load_1min: run queue before the run, averaged over a minute.
        temperature_c: of the hottest sensor, before the run.
        gpu: models of the NVIDIA GPUs; empty where the driver shows none.
        gpu_driver: its version.
        kernels: level of libedgead's kernels: scalar, avx2, avx512, neon.
        packages: versions of what is installed of the engines and libraries.
        time_utc: ISO 8601, when this record was made.
        warnings: what makes figures from here doubtful.
    """

    cpu: str
    architecture: str
    cpu_flags: tuple[str, ...]
    physical_cores: int | None
    logical_cores: int
    usable_cores: int
    cgroup_cores: float | None
    governor: str | None
    load_1min: float | None
    temperature_c: float | None
    gpu: tuple[str, ...]
    gpu_driver: str | None
    memory_bytes: int | None
    system: str
    python: str
    edgead: str
    kernels: str | None
    packages: dict[str, str]
    time_utc: str
    warnings: tuple[str, ...]

    @property
    def has_bf16(self) -> bool:
        """Whether the CPU computes in bfloat16."""
        return not {"avx512_bf16", "amx_bf16", "bf16"}.isdisjoint(self.cpu_flags)


def record(proc: Path = Path("/proc"), sys: Path = Path("/sys")) -> Environment:
    """Read the environment, before the run: the run itself loads the machine."""
    info = _cpu_info(proc)
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    load = _load()
    quota = _cgroup_cores(proc, sys)
    governor = _governor(sys)
    return Environment(
        cpu=info.get("model name") or platform.processor() or platform.machine(),
        architecture=platform.machine(),
        cpu_flags=tuple(f for f in _FLAGS if f in (info.get("flags") or info.get("Features") or "").split()),
        physical_cores=_physical_cores(sys),
        logical_cores=os.cpu_count() or 1,
        usable_cores=usable,
        cgroup_cores=quota,
        governor=governor,
        load_1min=load,
        temperature_c=_temperature(sys),
        gpu=_gpus(proc),
        gpu_driver=_gpu_driver(proc),
        memory_bytes=_memory(proc),
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        edgead=__version__,
        kernels=_kernels(),
        packages=_versions(),
        time_utc=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        warnings=tuple(_warnings(usable, load, quota, governor)),
    )


def _warnings(usable: int, load: float | None, quota: float | None, governor: str | None) -> Iterator[str]:
    if load is not None and load > _BUSY_LOAD * usable:
        yield f"the machine is busy: load {load:.2f} on {usable} cores before the run; figures are too high"
    if quota is not None and quota < usable:
        yield f"the control group allows {quota:g} of {usable} cores; more threads than that are throttled"
    if governor is not None and governor != "performance":
        yield f"frequency governor is {governor}, not performance; queries after a pause run slower"


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None


def _cpu_info(proc: Path) -> dict[str, str]:
    """The first processor's fields."""
    first = (_read(proc / "cpuinfo") or "").split("\n\n")[0]
    pairs = (line.partition(":") for line in first.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def _physical_cores(sys: Path) -> int | None:
    siblings = {
        _read(path) for path in sys.glob("devices/system/cpu/cpu[0-9]*/topology/thread_siblings_list")
    }
    return len(siblings - {None}) or None


def _governor(sys: Path) -> str | None:
    names = {_read(path) for path in sys.glob("devices/system/cpu/cpu[0-9]*/cpufreq/scaling_governor")}
    return ",".join(sorted(name for name in names if name)) or None


def _cgroup_cores(proc: Path, sys: Path) -> float | None:
    """The tightest quota from this process's control group up to the root, in version 2 or 1."""
    quotas = []
    for line in (_read(proc / "self" / "cgroup") or "").splitlines():
        _, controllers, group = line.split(":", 2)
        root = sys / "fs" / "cgroup"
        if controllers and "cpu" not in controllers.split(","):
            continue
        folder = root / "cpu" if controllers else root
        for place in (folder, *(folder / part for part in _prefixes(group))):
            text = _read(place / "cpu.max")
            if text is None and (quota := _read(place / "cpu.cfs_quota_us")):
                text = f"{quota} {_read(place / 'cpu.cfs_period_us')}"
            fields = (text or "").split()
            if len(fields) == 2 and all(field.isdigit() for field in fields) and int(fields[1]):
                quotas.append(int(fields[0]) / int(fields[1]))
    return min(quotas, default=None)


def _prefixes(group: str) -> Iterator[Path]:
    parts = [part for part in group.split("/") if part and part != ".."]
    for end in range(1, len(parts) + 1):
        yield Path(*parts[:end])


def _load() -> float | None:
    try:
        return os.getloadavg()[0]
    except (OSError, AttributeError):
        return None


def _temperature(sys: Path) -> float | None:
    """Millidegrees, as thermal zones and hardware monitors both give them."""
    places = ("class/thermal/thermal_zone*/temp", "class/hwmon/hwmon*/temp*_input")
    texts = [_read(path) or "" for place in places for path in sys.glob(place)]
    return max((int(text) / 1e3 for text in texts if text.isdigit()), default=None)


def _gpus(proc: Path) -> tuple[str, ...]:
    found = []
    for path in sorted(proc.glob("driver/nvidia/gpus/*/information")):
        fields = dict(line.split(":", 1) for line in (_read(path) or "").splitlines() if ":" in line)
        found.append(fields.get("Model", "unknown").strip())
    return tuple(found)


def _gpu_driver(proc: Path) -> str | None:
    """The version in «NVRM version: NVIDIA UNIX x86_64 Kernel Module  570.86.15  …»."""
    words = (_read(proc / "driver" / "nvidia" / "version") or "").split("\n")[0].split()
    return next((word for word in words if word[0].isdigit() and "." in word), None)


def _memory(proc: Path) -> int | None:
    for line in (_read(proc / "meminfo") or "").splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024
    return None


def _kernels() -> str | None:
    from edgead._native._library import kernel_name

    try:
        return kernel_name()
    except EdgeadError:
        return None


def _versions() -> dict[str, str]:
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
