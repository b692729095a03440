"""pycuda's driver and cuda-bindings', as far as edgead calls them, on a `HostDevice`.

It shows that edgead's calls fit together, not that they are the right ones: that needs a GPU.
"""

from __future__ import annotations

import ctypes
import re
import threading
from collections.abc import Callable
from enum import IntEnum
from types import SimpleNamespace
from typing import Any

import numpy as np

from edgead.runtimes.cuda._compile import FOLDER, SOURCES


def _first_kernel(source: str) -> bytes:
    found = re.search(rb"^EDGEAD_KERNEL\((\w+)", (FOLDER / f"{source}.cu").read_bytes(), re.MULTILINE)
    assert found is not None
    return found[1]


class Status(IntEnum):
    """Of the driver's own calls."""

    SUCCESS = 0
    STREAM_CAPTURE_INVALIDATED = 901
    INVALID_VALUE = 1


class StandIn:
    """Two drivers over one device.

    Attributes:
        pycuda: for ``pycuda.driver``.
        bindings: for ``cuda.bindings.driver``.
        host: the device.
        fail: raised by the next wait for the stream.
        graphs: CUDA graphs that there are.
    """

    def __init__(self, host: Any, run: Callable[..., None], build: Callable[[str], ctypes.CDLL]) -> None:
        """Both drivers.

        Args:
            host: a `HostDevice`.
            run: launches a kernel of a library.
            build: a source's library.
        """
        self.host, self._run, self._build = host, run, build
        self.fail: Exception | None = None
        self.graphs = 0
        self._current = threading.local()
        self._capture: Any = None
        self.pycuda = self._pycuda()
        self.bindings = self._bindings()

    def depth(self) -> int:
        """Of this thread's stack of contexts."""
        return getattr(self._current, "depth", 0)

    def _within(self) -> None:
        assert self.depth() > 0, "no context is current"

    def _push(self, change: int) -> None:
        self._current.depth = self.depth() + change
        assert self.depth() >= 0, "no context to pop"

    def _pycuda(self) -> SimpleNamespace:
        stand_in, host = self, self.host

        class Error(Exception):
            pass

        class OutOfMemory(Error):
            pass

        class Allocation:
            def __init__(self, size: int) -> None:
                stand_in._within()
                try:
                    self._address = host.allocate(size, "pycuda")
                except Exception as err:
                    raise OutOfMemory("cuMemAlloc failed: out of memory") from err
                ctypes.memset(self._address, 0xA5, size)  # what was there before

            def __int__(self) -> int:
                return self._address

            def free(self) -> None:
                stand_in._within()
                host.free(self._address)

        class Stream:
            handle = host.stream

            def __init__(self, flags: int = 0) -> None:
                stand_in._within()
                assert flags == 1

            def synchronize(self) -> None:
                stand_in._within()
                failure, stand_in.fail = stand_in.fail, None
                if failure is not None:
                    raise failure
                try:
                    host.synchronize()
                except Exception as err:
                    raise Error(f"cuStreamSynchronize failed: {err}") from err

        class Event:
            def __init__(self) -> None:
                stand_in._within()
                self._marker = host.marker()

            def record(self, stream: Stream) -> None:
                self._marker.record()

            def time_since(self, earlier: Event) -> float:
                return float(self._marker.ms_since(earlier._marker))

        class Function:
            def __init__(self, library: ctypes.CDLL, name: str) -> None:
                self._library, self._name = library, name

            def prepare(self, kinds: list[str]) -> None:
                (self._kind,) = kinds

            def prepared_async_call(self, grid: Any, block: Any, stream: Stream, arguments: bytes) -> None:
                stand_in._within()
                assert self._kind == f"{len(arguments)}s"

                class Bytes(ctypes.Structure):
                    _fields_ = (("bytes", ctypes.c_char * len(arguments)),)

                copied = Bytes.from_buffer_copy(arguments)
                assert block[1:] == (1, 1)
                host.call(
                    lambda: stand_in._run(self._library, self._name, grid, block[0], copied, backwards=False)
                )

        def module_from_buffer(cubin: bytes) -> Any:
            stand_in._within()
            assert cubin.startswith(b"\x7fELF")
            (source,) = (name for name in SOURCES if _first_kernel(name) in cubin)
            library = stand_in._build(source)
            return SimpleNamespace(get_function=lambda name: Function(library, name))

        def memset(address: int, value: int, size: int, stream: Stream) -> None:
            stand_in._within()
            host.call(lambda: ctypes.memset(address, value, size) and None)

        def copy_in(address: int, array: Any, stream: Stream) -> None:
            stand_in._within()
            host.copy_in(address, array)

        def copy_out(array: Any, address: int, stream: Stream) -> None:
            stand_in._within()
            host.copy_out(array, address)

        def pinned(shape: Any, kind: Any) -> Any:
            stand_in._within()
            return np.zeros(shape, kind)

        class Device:
            def __init__(self, index: int) -> None:
                assert index == 0

            @staticmethod
            def count() -> int:
                return 1

            def name(self) -> str:
                return "Stand-in GPU"

            def compute_capability(self) -> tuple[int, int]:
                return (9, 0)

            def total_memory(self) -> int:
                return 1 << 30

            def retain_primary_context(self) -> Any:
                return SimpleNamespace(push=lambda: stand_in._push(1), detach=lambda: None)

        return SimpleNamespace(
            init=lambda: None,
            Error=Error,
            MemoryError=OutOfMemory,
            Device=Device,
            Context=SimpleNamespace(pop=lambda: stand_in._push(-1)),
            Stream=Stream,
            Event=Event,
            mem_alloc=Allocation,
            memset_d8_async=memset,
            memcpy_htod_async=copy_in,
            memcpy_dtoh_async=copy_out,
            pagelocked_zeros=pinned,
            mem_get_info=lambda: (5 << 20, 1 << 30),
            module_from_buffer=module_from_buffer,
        )

    def _bindings(self) -> SimpleNamespace:
        stand_in, host = self, self.host
        ok = Status.SUCCESS

        def begin(stream: int, mode: str) -> tuple[Status]:
            stand_in._within()
            assert (stream, mode) == (host.stream, "thread local")
            host.synchronize()
            host._recorded = []
            return (ok,)

        def end(stream: int) -> tuple[Status, Any]:
            recorded, host._recorded = host._recorded, None
            return ok, recorded

        def launch(work: Any, stream: int) -> tuple[Status]:
            stand_in._within()
            for one in work:
                host.call(one)
            return (ok,)

        def instantiate(graph: Any, flags: int) -> tuple[Status, Any]:
            stand_in.graphs += 1
            return ok, graph

        def destroy(graph: Any) -> tuple[Status]:
            stand_in.graphs -= 1
            return (ok,)

        def record_event(event: Any, stream: int) -> tuple[Status]:
            if stream not in host.producers:
                return (Status.INVALID_VALUE,)
            event.stream = stream
            return (ok,)

        def wait_event(stream: int, event: Any, flags: int) -> tuple[Status]:
            assert stream == host.stream
            host.wait_for(event.stream)
            return (ok,)

        def attribute(which: str, address: int) -> tuple[Status, int]:
            found = host.owner(address)
            return (Status.INVALID_VALUE, 0) if found is None else (ok, found)

        return SimpleNamespace(
            CUstream=int,
            CUdeviceptr=int,
            CUstreamCaptureMode=SimpleNamespace(CU_STREAM_CAPTURE_MODE_THREAD_LOCAL="thread local"),
            CUpointer_attribute=SimpleNamespace(CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL="ordinal"),
            cuStreamBeginCapture=begin,
            cuStreamEndCapture=end,
            cuGraphInstantiate=instantiate,
            cuGraphDestroy=lambda graph: (ok,),
            cuGraphLaunch=launch,
            cuGraphExecDestroy=destroy,
            cuEventCreate=lambda flags: (ok, SimpleNamespace(stream=None)),
            cuEventRecord=record_event,
            cuStreamWaitEvent=wait_event,
            cuEventDestroy=lambda event: (ok,),
            cuPointerGetAttribute=attribute,
        )
