"""What this machine can run, found by loading it rather than by asking a package list."""

from __future__ import annotations

import contextlib
import importlib
import os
import platform
import subprocess
from pathlib import Path
from typing import TypedDict

from edgead import __version__
from edgead.errors import EdgeadError, RuntimeMissingError


class RuntimeState(TypedDict):
    """One runtime: `why` says what is missing and what to type; of ``native`` also what it can open."""

    available: bool
    why: str
    version: str


class CpuState(TypedDict):
    """The processor; `flags` are those of its instruction sets that matter for speed here."""

    model: str
    architecture: str
    usable_cores: int
    flags: list[str]


class GpuState(TypedDict):
    """NVIDIA GPUs that the driver reports."""

    available: bool
    why: str
    names: list[str]


class LibraryState(TypedDict):
    """libedgead: `kernels` is the instruction set that its pixel and map kernels run with here."""

    loaded: bool
    why: str
    version: str
    kernels: str


class DoctorReport(TypedDict):
    """What `edgead doctor --json` prints."""

    edgead: str
    python: str
    runtimes: dict[str, RuntimeState]
    libedgead: LibraryState
    cpu: CpuState
    gpu: GpuState


_SPEED_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "amx_bf16", "asimd")

_PLANS = ("tensorrt", "tensorrt_rtx")
_BUILT_ONLY = (
    "this edgead was tested without a GPU: plans of tensorrt_rtx were built, not run; those of tensorrt were "
    "neither built nor run"
)
_BUILDS_HERE = (
    "plans are built here all the same, and not verified here: edgead export --unverified "
    "tensorrt_rtx:fp16:cuda"
)


def doctor() -> DoctorReport:
    """Look at this machine. Never raises for something that is missing: that is the report."""
    return {
        "edgead": __version__,
        "python": platform.python_version(),
        "runtimes": _runtimes(),
        "libedgead": _library(),
        "cpu": _cpu(),
        "gpu": _gpu(),
    }


def _runtimes() -> dict[str, RuntimeState]:
    from edgead.runtimes._registry import engines

    states: dict[str, RuntimeState] = {
        "native": _native(),
        "openvino": _missing("not in this version"),
        "onnxruntime": _missing("not in this version"),
        "tensorrt": _missing("not in this version"),
    }
    for name, found in engines().items():
        # null measures the harness and runs no graph; an engine with a head runs where the engine does.
        if name != "null" and "+" not in name:
            why = "; ".join((found.why, *_plan_facts(name, found.available))) if name in _PLANS else found.why
            states[name] = {
                "available": found.available,
                "why": why.removeprefix("; "),
                "version": found.version,
            }
    return states | {"torch": _torch()}


def _plan_facts(engine: str, runs_here: bool) -> list[str]:
    """What else to know of an engine of plans."""
    from edgead.runtimes._tensorrt import TENSORRT_RTX

    facts = []
    if engine == TENSORRT_RTX.engine and not runs_here:
        with contextlib.suppress(RuntimeMissingError):
            TENSORRT_RTX.load()
            facts.append(_BUILDS_HERE)
    return [*facts, _BUILT_ONLY]


def _native() -> RuntimeState:
    """The driver in libedgead: its kernels, and each engine that it can or cannot open, with the reason."""
    from edgead.runtimes._probe import native_engines

    library = _library()
    if not library["loaded"]:
        return _missing(library["why"])
    found = native_engines()
    opened = [f"{name} {state.version}".strip() for name, state in found.items() if state.available]
    told = [f"opens {', '.join(opened)}"] if opened else ["opens no engine here"]
    told.append(f"{library['kernels']} kernels")
    told += [f"not {name} ({state.why})" for name, state in found.items() if not state.available]
    return {"available": bool(opened), "why": "; ".join(told), "version": library["version"]}


def _missing(why: str) -> RuntimeState:
    return {"available": False, "why": why, "version": ""}


def _torch() -> RuntimeState:
    try:
        torch = importlib.import_module("torch")
    except ModuleNotFoundError as error:
        if error.name == "torch":
            return _missing("needed to train and export only; type: pip install 'edgead[train]'")
        return _missing(f"installed but broken: {error}")
    except (ImportError, OSError) as error:
        return _missing(f"installed but cannot be loaded: {error}")
    return {"available": True, "why": "", "version": str(torch.__version__)}


def _library() -> LibraryState:
    from edgead._native._library import kernel_name, library

    try:
        version: bytes = library().edgead_version_string()
        return {"loaded": True, "why": "", "version": version.decode(), "kernels": kernel_name()}
    except EdgeadError as error:
        return {"loaded": False, "why": str(error), "version": "", "kernels": ""}


def _cpu() -> CpuState:
    model, flags = platform.processor() or platform.machine(), set[str]()
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                model = value.strip()
            elif key.strip() in ("flags", "Features"):
                flags = set(value.split())
    return {
        "model": model,
        "architecture": platform.machine(),
        "usable_cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count() or 1,
        "flags": [flag for flag in _SPEED_FLAGS if flag in flags],
    }


def _gpu() -> GpuState:
    try:
        found = subprocess.run(
            ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        ).stdout.split("\n")
    except FileNotFoundError:
        return {"available": False, "why": "no NVIDIA driver here (nvidia-smi is missing)", "names": []}
    except (subprocess.SubprocessError, OSError) as error:
        return {"available": False, "why": f"nvidia-smi fails: {error}", "names": []}
    names = [line.strip() for line in found if line.strip()]
    return {"available": bool(names), "why": "" if names else "the driver reports no GPU", "names": names}
