"""`Device` on the CPU: the .cu files as C++, under the same launch layer; memory ends at a guarded page.

A lazy one does what is in the stream when it is waited for, and not before: what is changed or freed too
early, or read too soon, shows.
"""

from __future__ import annotations

import ctypes
import mmap
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt

from edgead.errors import EngineError
from edgead.runtimes.cuda._compile import FOLDER
from edgead.runtimes.cuda._device import Grid, Marker

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
    """Kernels as fibers.

    Attributes:
        taken: bytes allocated and not yet freed.
        bytes_out: copied to the host so far.
        producers: what other streams still have to do, by handle: done when this stream waits for them.
    """

    stream = 5

    def __init__(
        self,
        folder: Path,
        *,
        backwards: bool = False,
        lazy: bool = False,
        index: int = 0,
        limit: int | None = None,
    ) -> None:
        """A new device.

        Args:
            folder: for the compiled kernels.
            backwards: threads and blocks in the reverse order.
            lazy: see the module.
            index: of the GPU that it stands for.
            limit: bytes that it has.
        """
        self.index = index
        self.taken = self.bytes_out = 0
        self.producers: dict[int, Callable[[], None]] = {}
        self._folder, self._backwards, self._lazy, self._limit = folder, backwards, lazy, limit
        self._mapped: dict[
            int, tuple[int, int, int]
        ] = {}  # address → start and size of the pages, size asked
        self._libraries: dict[str, ctypes.CDLL] = {}
        self._stream: list[Callable[[], None]] = []
        self._recorded: list[Callable[[], None]] | None = None

    def __enter__(self) -> HostDevice:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def call(self, work: Callable[[], None]) -> None:
        """Put a host function into the stream."""
        if self._recorded is not None:
            self._recorded.append(work)
        elif self._lazy:
            self._stream.append(work)
        else:
            work()

    def allocate(self, size: int, what: str) -> int:
        if self._limit is not None and self.taken + size > self._limit:
            raise EngineError(
                f"{size} bytes for {what}: {self._limit - self.taken} of {self._limit} are free"
            )
        pages = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
        access = mmap.PROT_READ | mmap.PROT_WRITE
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        start = _LIBC.mmap(None, pages + mmap.PAGESIZE, access, flags, -1, 0)
        assert _LIBC.mprotect(start + pages, mmap.PAGESIZE, 0) == 0
        address = int(start + pages - -(-size // 8) * 8)  # ends where the guarded page begins
        self._mapped[address] = (start, pages + mmap.PAGESIZE, size)
        self.taken += size
        return address

    def free(self, address: int) -> None:
        self.synchronize()
        start, pages, size = self._mapped.pop(address)
        _LIBC.munmap(start, pages)
        self.taken -= size

    def pinned(self, shape: tuple[int, ...], dtype: str) -> npt.NDArray[np.generic]:
        return np.zeros(shape, dtype)

    def copy_in(self, address: int, array: npt.NDArray[np.generic]) -> None:
        assert array.flags.c_contiguous
        self.call(lambda: ctypes.memmove(address, array.ctypes.data, array.nbytes) and None)

    def copy_out(self, array: npt.NDArray[np.generic], address: int) -> None:
        assert array.flags.c_contiguous

        def work() -> None:
            ctypes.memmove(array.ctypes.data, address, array.nbytes)
            self.bytes_out += array.nbytes

        self.call(work)

    def launch(self, source: str, kernel: str, grid: Grid, threads: int, arguments: ctypes.Structure) -> None:
        if source not in self._libraries:
            self._libraries[source] = build(FOLDER / f"{source}.cu", self._folder)
        library, copied = self._libraries[source], type(arguments).from_buffer_copy(arguments)
        self.call(lambda: run(library, kernel, grid, threads, copied, backwards=self._backwards))

    def record(self, enqueue: Callable[[], None]) -> HostRecording:
        self.synchronize()
        recorded = self._recorded = []
        try:
            enqueue()
        finally:
            self._recorded = None
        return HostRecording(self, recorded)

    def marker(self) -> HostMarker:
        return HostMarker(self)

    def wait_for(self, stream: int) -> None:
        self.call(self.producers.pop(stream))

    def owner(self, address: int) -> int | None:
        for start, pages, _ in self._mapped.values():
            if start <= address < start + pages:
                return self.index
        return None

    def synchronize(self) -> None:
        if self._recorded is not None:
            raise EngineError("a stream that is being recorded cannot be waited for")
        while self._stream:
            self._stream.pop(0)()

    def close(self) -> None:
        self._stream.clear()
        for address in list(self._mapped):
            self.free(address)


class HostRecording:
    """What was put into the stream while it was recorded."""

    def __init__(self, device: HostDevice, work: list[Callable[[], None]]) -> None:
        self._device, self._work = device, work

    def replay(self) -> None:
        for work in self._work:
            self._device.call(work)


class HostMarker:
    """The clock when the stream comes by."""

    def __init__(self, device: HostDevice) -> None:
        self._device, self._ns = device, 0

    def record(self) -> None:
        def work() -> None:
            self._ns = time.perf_counter_ns()

        self._device.call(work)

    def ms_since(self, earlier: Marker) -> float:
        assert isinstance(earlier, HostMarker)
        return (self._ns - earlier._ns) / 1e6
