"""`Device` on the CPU: the .cu files as C++, under the same launch layer; memory ends at a guarded page."""

from __future__ import annotations

import ctypes
import mmap
import subprocess
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgead.runtimes.cuda._compile import FOLDER
from edgead.runtimes.cuda._device import Grid

_SHIM = Path(__file__).parent / "cuda_host.hpp"
# Traps where a shift, an address or an index is undefined; no contraction, as on the device.
_FLAGS = [
    "-std=c++17",
    "-O2",
    "-ffp-contract=off",
    "-fsanitize=undefined",
    "-fsanitize-undefined-trap-on-error",
    "-U_FORTIFY_SOURCE",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-Wno-unknown-pragmas",  # unroll
    "-shared",
    "-fPIC",
]
_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.mmap.restype = ctypes.c_void_p
_LIBC.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
_LIBC.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
_LIBC.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]


def build(source: Path, folder: Path) -> ctypes.CDLL:
    """Compile a .cu file for the CPU."""
    library = folder / f"{source.stem}.so"
    if not library.exists():
        command = ["g++", *_FLAGS, "-include", str(_SHIM), "-I", str(FOLDER), "-x", "c++", str(source)]
        done = subprocess.run([*command, "-o", str(library)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    found = ctypes.CDLL(str(library))
    found.cuda_host_launch.restype = ctypes.c_char_p
    return found


def run(
    library: ctypes.CDLL,
    kernel: str,
    grid: Grid,
    threads: int,
    arguments: ctypes.Structure,
    *,
    backwards: bool,
) -> None:
    """Launch once.

    Raises:
        AssertionError: the kernel does what a GPU leaves undefined, or the struct or block is another one.
    """
    assert ctypes.c_uint.in_dll(library, f"{kernel}_threads").value == threads
    assert ctypes.c_uint.in_dll(library, f"{kernel}_bytes").value == ctypes.sizeof(arguments)
    sizes = (ctypes.c_uint * 3)(*grid), (ctypes.c_uint * 3)(threads, 1, 1)
    problem = library.cuda_host_launch(
        getattr(library, kernel), ctypes.byref(arguments), *sizes, int(backwards)
    )
    assert problem is None, problem.decode()


class HostDevice:
    """Kernels as fibers. The order of threads and blocks is reversed with `backwards`."""

    stream = 0

    def __init__(self, folder: Path, *, backwards: bool = False) -> None:
        self._folder, self._backwards = folder, backwards
        self._mapped: list[tuple[int, int]] = []
        self._libraries: dict[str, ctypes.CDLL] = {}

    def allocate(self, size: int, what: str) -> int:
        pages = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
        access = mmap.PROT_READ | mmap.PROT_WRITE
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        start = _LIBC.mmap(None, pages + mmap.PAGESIZE, access, flags, -1, 0)
        assert _LIBC.mprotect(start + pages, mmap.PAGESIZE, 0) == 0
        self._mapped.append((start, pages + mmap.PAGESIZE))
        return int(start + pages - -(-size // 8) * 8)  # ends where the guarded page begins

    def pinned(self, shape: tuple[int, ...], dtype: str) -> npt.NDArray[np.generic]:
        return np.zeros(shape, dtype)

    def copy_in(self, address: int, array: npt.NDArray[np.generic]) -> None:
        assert array.flags.c_contiguous
        ctypes.memmove(address, array.ctypes.data, array.nbytes)

    def copy_out(self, array: npt.NDArray[np.generic], address: int) -> None:
        assert array.flags.c_contiguous
        ctypes.memmove(array.ctypes.data, address, array.nbytes)

    def launch(self, source: str, kernel: str, grid: Grid, threads: int, arguments: ctypes.Structure) -> None:
        if source not in self._libraries:
            self._libraries[source] = build(FOLDER / f"{source}.cu", self._folder)
        run(self._libraries[source], kernel, grid, threads, arguments, backwards=self._backwards)

    def synchronize(self) -> None:
        pass

    def close(self) -> None:
        for start, size in self._mapped:
            _LIBC.munmap(start, size)
        self._mapped.clear()
