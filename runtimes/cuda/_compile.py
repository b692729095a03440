"""Compile a .cu file of this folder for one GPU with NVRTC, and keep the result in the user's cache.

NVRTC and its binding come by pip (``edgead[cuda]``) and need no driver, so every file is compiled and its
resources are read on machines without a GPU, too. The kernels are compiled without contraction: only what
says ``fmaf`` is one, and sums round as libedgead's do.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgead.errors import EngineError, InternalError, RuntimeMissingError

FOLDER = Path(__file__).parent
HEADER = "common.cuh"
SOURCES = ("bank_search", "post", "preprocess", "window_search")
"""Stems of the .cu files."""

_OPTIONS = ("--std=c++17", "--fmad=false", "--ptxas-options=-v")


@dataclass(frozen=True, slots=True)
class KernelResources:
    """What one thread block of a kernel takes, as ptxas reports it.

    Attributes:
        registers: per thread.
        shared_bytes: per block, static.
        stack_bytes: per thread, in local memory.
        spill_bytes: stored to and loaded from local memory for want of registers.
    """

    registers: int
    shared_bytes: int
    stack_bytes: int
    spill_bytes: int


@dataclass(frozen=True, slots=True)
class Compiled:
    """Machine code of one .cu file for one compute capability.

    Attributes:
        cubin: for `cuModuleLoadData`.
        log: what the compiler said.
    """

    cubin: bytes
    log: str

    def resources(self) -> dict[str, KernelResources]:
        """Kernel → what it takes."""
        found = {}
        for block in re.split(r"Compiling entry function '", self.log)[1:]:
            stack, stores, loads = _numbers(
                r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+)", block
            )
            (registers,) = _numbers(r"Used (\d+) registers", block)
            shared = re.search(r"(\d+) bytes smem", block)
            found[block.partition("'")[0]] = KernelResources(
                registers, int(shared[1]) if shared else 0, stack, stores + loads
            )
        return found


def compile_source(name: str, capability: tuple[int, int], *, cache: Path | None = None) -> Compiled:
    """Machine code of ``NAME.cu``, from the cache where it is there.

    Args:
        name: one of `SOURCES`.
        capability: of the GPU: (9, 0) for sm_90.
        cache: folder to keep results in; None = `cache_folder`. One that cannot be written to is not used.

    Raises:
        RuntimeMissingError: NVRTC or its binding is not installed.
        EngineError: NVRTC does not know that GPU.
        InternalError: the file does not compile.
    """
    nvrtc = _nvrtc()
    source = (FOLDER / f"{name}.cu").read_bytes()
    header = (FOLDER / HEADER).read_bytes()
    version = ".".join(map(str, _call(nvrtc.nvrtcVersion())))
    options = (f"--gpu-architecture=sm_{capability[0]}{capability[1]}", *_OPTIONS)
    archs = _call(nvrtc.nvrtcGetSupportedArchs())[0]
    if capability[0] * 10 + capability[1] not in archs:
        raise EngineError(
            f"NVRTC {version} compiles for sm_{min(archs)} to sm_{max(archs)}, this GPU is "
            f"sm_{capability[0]}{capability[1]}; install another release of nvidia-cuda-nvrtc-cu12"
        )
    key = hashlib.sha256("\n".join((version, *options, "")).encode() + header + b"\0" + source).hexdigest()
    entry = (cache if cache is not None else cache_folder()) / f"{name}-{key[:32]}"
    cubin, log = entry.with_suffix(".cubin"), entry.with_suffix(".log")
    with contextlib.suppress(OSError):
        return Compiled(cubin.read_bytes(), log.read_text())
    compiled = _compile(nvrtc, name, source, header, options)
    with contextlib.suppress(OSError):
        cubin.parent.mkdir(parents=True, exist_ok=True)
        _write(log, compiled.log.encode())
        _write(cubin, compiled.cubin)  # last: where it is, the log is
    return compiled


def require_nvrtc() -> None:
    """Look whether kernels can be compiled here.

    Raises:
        RuntimeMissingError: NVRTC or its binding is not installed.
    """
    _nvrtc()


def cache_folder() -> Path:
    """``edgead/cuda`` in the user's cache."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "edgead" / "cuda"


def _write(path: Path, content: bytes) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
    Path(temporary).replace(path)


@functools.cache
def _nvrtc() -> Any:
    try:
        from cuda.bindings import nvrtc

        nvrtc.nvrtcVersion()  # the library itself is opened by the first call
    except (ImportError, RuntimeError) as err:
        raise RuntimeMissingError(
            f"the CUDA kernels cannot be compiled: {err}; install it with: pip install 'edgead[cuda]'"
        ) from err
    return nvrtc


def _compile(nvrtc: Any, name: str, source: bytes, header: bytes, options: tuple[str, ...]) -> Compiled:
    program = _call(nvrtc.nvrtcCreateProgram(source, f"{name}.cu".encode(), 1, [header], [HEADER.encode()]))[
        0
    ]
    try:
        status = nvrtc.nvrtcCompileProgram(program, len(options), [option.encode() for option in options])[0]
        text = b" " * _call(nvrtc.nvrtcGetProgramLogSize(program))[0]  # which the binding writes to
        _call(nvrtc.nvrtcGetProgramLog(program, text))
        words = text.rstrip(b"\0").decode(errors="replace")
        if int(status) != 0:
            raise InternalError(f"{name}.cu does not compile ({status.name}):\n{words}")
        cubin = b" " * _call(nvrtc.nvrtcGetCUBINSize(program))[0]
        _call(nvrtc.nvrtcGetCUBIN(program, cubin))
        return Compiled(cubin, words)
    finally:
        nvrtc.nvrtcDestroyProgram(program)


def _call(result: tuple[Any, ...]) -> tuple[Any, ...]:
    """What a call gave besides its status."""
    status, *values = result
    if int(status) != 0:
        raise InternalError(f"NVRTC failed with {status.name}")
    return tuple(values)


def _numbers(pattern: str, text: str) -> tuple[int, ...]:
    found = re.search(pattern, text)
    if found is None:
        raise InternalError(f"the compiler's report has no {pattern!r}:\n{text}")
    return tuple(map(int, found.groups()))
