"""`Device` on pycuda. Built, not run: edgead's own tests have no GPU and put a stand-in under it."""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import functools
import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any

from edgead.errors import EngineError, RuntimeMissingError, UsageError
from edgead.runtimes._cuda import cuda_driver, cuda_missing, device_facts
from edgead.runtimes._graph import last_line
from edgead.runtimes.cuda import _bindings
from edgead.runtimes.cuda._compile import compile_source, require_nvrtc
from edgead.runtimes.cuda._device import Grid, Marker

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING: it does not wait for what others put into the default stream


def pipeline_missing() -> str:
    """What keeps the GPU pipeline from running here and what to do; empty where nothing does."""
    if missing := cuda_missing():
        return missing
    try:
        require_nvrtc()
    except RuntimeMissingError as err:
        return str(err)
    return ""


class PycudaDevice:
    """One GPU's primary context, which other CUDA libraries of this process share, and a stream of its own.

    Attributes:
        index: of the GPU.
        facts: its name, compute capability and memory.
        stream: the stream's handle.
    """

    def __init__(self, index: int, used_by: str) -> None:
        """Take the context and make the stream.

        Args:
            index: of the GPU.
            used_by: what runs here (a detector, a target), for messages.

        Raises:
            RuntimeMissingError: driver, pycuda or GPU is missing.
            EngineError: there is no such GPU, or it cannot be used.
        """
        self._driver = cuda_driver()
        self.index, self.facts, self._used_by = index, device_facts(index), used_by
        self._entered = threading.RLock()
        self._memory: dict[int, Any] = {}
        self._kernels: dict[tuple[str, str], Any] = {}
        self._modules: dict[str, Any] = {}
        self._graphs: list[_bindings.Graph] = []
        with self._mapped("taking its context"):
            self._context = _primary_context(index)
        with self, self._mapped("making a stream"):
            self._stream: Any = self._driver.Stream(_NON_BLOCKING)
            self.stream = int(self._stream.handle)

    def __enter__(self) -> PycudaDevice:
        """Make the context current in this thread."""
        if not self._entered.acquire(blocking=False):
            raise UsageError(
                f"{self._used_by} on {self.facts.name}: another thread is using this session; open one "
                "session per thread"
            )
        try:
            self._context.push()
        except BaseException:
            self._entered.release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the thread back the context that it had."""
        try:
            self._driver.Context.pop()
        finally:
            self._entered.release()

    def allocate(self, size: int, what: str) -> int:
        """See `Device.allocate`; the driver aligns to 256 bytes or more."""
        try:
            memory = self._driver.mem_alloc(size)
        except self._driver.MemoryError as err:
            raise self._full(size, what, "device") from err
        address = int(memory)
        self._memory[address] = memory
        with self._mapped(f"clearing {what}"):
            self._driver.memset_d8_async(address, 0, size, self._stream)
        return address

    def free(self, address: int) -> None:
        """See `Device.free`."""
        self._memory.pop(address).free()

    def pinned(self, shape: tuple[int, ...], dtype: str) -> npt.NDArray[np.generic]:
        """See `Device.pinned`."""
        import numpy as np

        try:
            found: npt.NDArray[np.generic] = self._driver.pagelocked_zeros(shape, np.dtype(dtype))
        except self._driver.MemoryError as err:
            size = int(np.prod(shape)) * np.dtype(dtype).itemsize
            raise self._full(size, "its frames and results", "page-locked host") from err
        return found

    def copy_in(self, address: int, array: npt.NDArray[np.generic]) -> None:
        """See `Device.copy_in`."""
        with self._mapped("a copy to the device"):
            self._driver.memcpy_htod_async(address, array, self._stream)

    def copy_out(self, array: npt.NDArray[np.generic], address: int) -> None:
        """See `Device.copy_out`."""
        with self._mapped("a copy to the host"):
            self._driver.memcpy_dtoh_async(array, address, self._stream)

    def launch(self, source: str, kernel: str, grid: Grid, threads: int, arguments: ctypes.Structure) -> None:
        """See `Device.launch`; a source is compiled, or taken from the cache, when it is first asked for."""
        function = self._kernels.get((source, kernel))
        if function is None:
            function = self._load(source, kernel, ctypes.sizeof(arguments))
        with self._mapped(f"the kernel {kernel}"):
            function.prepared_async_call(grid, (threads, 1, 1), self._stream, bytes(arguments))

    def record(self, enqueue: Callable[[], None]) -> _bindings.Graph:
        """See `Device.record`."""
        self.synchronize()
        graph = _bindings.Graph(self.stream, enqueue)
        self._graphs.append(graph)
        return graph

    def marker(self) -> _Event:
        """See `Device.marker`."""
        return _Event(self._driver.Event(), self._stream)

    def wait_for(self, stream: int) -> None:
        """See `Device.wait_for`."""
        _bindings.wait_for(self.stream, stream)

    def owner(self, address: int) -> int | None:
        """See `Device.owner`."""
        return _bindings.owner(address)

    def synchronize(self) -> None:
        """See `Device.synchronize`."""
        with self._mapped("its work"):
            self._stream.synchronize()

    def close(self) -> None:
        """See `Device.close`. The primary context stays until the process ends, as CUDA's runtime has it."""
        if self._stream is None:
            return
        with self:
            for graph in self._graphs:
                graph.destroy()
            self._graphs.clear()
            self._kernels.clear()
            self._modules.clear()
            for memory in self._memory.values():
                memory.free()
            self._memory.clear()
            self._stream = None

    def _load(self, source: str, kernel: str, size: int) -> Any:
        if source not in self._modules:
            compiled = compile_source(source, self.facts.capability)
            with self._mapped(f"loading {source}.cu, for which its driver may be too old,"):
                self._modules[source] = self._driver.module_from_buffer(compiled.cubin)
        function = self._modules[source].get_function(kernel)
        function.prepare([f"{size}s"])
        self._kernels[source, kernel] = function
        return function

    @contextlib.contextmanager
    def _mapped(self, what: str) -> Iterator[None]:
        try:
            yield
        except self._driver.Error as err:
            raise EngineError(
                f"{self._used_by}: {what} failed on {self.facts.name}: {last_line(err)}; end the process and "
                "start it again, a CUDA context does not survive most errors"
            ) from err

    def _full(self, size: int, what: str, kind: str) -> EngineError:
        free, total = self._driver.mem_get_info()
        return EngineError(
            f"{self._used_by} needs {size / 2**20:,.1f} MiB of {kind} memory for {what}; {self.facts.name} "
            f"has {free / 2**20:,.0f} of {total / 2**20:,.0f} MiB free; end other programs on the GPU, or "
            "use a smaller detector"
        )


class _Event:
    """`Marker` on a pycuda event."""

    def __init__(self, event: Any, stream: Any) -> None:
        self._event, self._stream = event, stream

    def record(self) -> None:
        """Put it into the stream."""
        self._event.record(self._stream)

    def ms_since(self, earlier: Marker) -> float:
        """See `Marker.ms_since`."""
        assert isinstance(earlier, _Event)
        return float(self._event.time_since(earlier._event))


@functools.cache
def _primary_context(index: int) -> Any:
    """Retained once per process, and given back at its end.

    `detach` does that. A primary context that is only forgotten, pycuda treats as another kind of context:
    that fails and is said on stderr.
    """
    context = cuda_driver().Device(index).retain_primary_context()
    atexit.register(context.detach)
    return context
