"""What pycuda has no call for, through NVIDIA's own binding: CUDA graphs, others' streams and memory.

`cuda.bindings` comes by pip with NVRTC (``edgead[cuda]``). Every function wants the context to be current.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from edgead.errors import EngineError, RuntimeMissingError

_NO_TIMING = 2  # CU_EVENT_DISABLE_TIMING


def bindings() -> Any:
    """``cuda.bindings.driver``.

    Raises:
        RuntimeMissingError: it is not installed.
    """
    try:
        from cuda.bindings import driver
    except ImportError as err:
        raise RuntimeMissingError(
            f"cuda-bindings is not installed ({err}): pip install 'edgead[cuda]'"
        ) from err
    return driver


class Graph:
    """A CUDA graph of what was put into a stream."""

    def __init__(self, stream: int, enqueue: Callable[[], None]) -> None:
        """Record.

        Args:
            stream: handle of a stream that is not a default one.
            enqueue: puts the work into it, and waits for nothing.

        Raises:
            EngineError: something in it cannot be recorded; recording has ended.
        """
        driver = self._driver = bindings()
        self._stream = driver.CUstream(stream)
        mode = driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        _call(driver.cuStreamBeginCapture(self._stream, mode), "recording cannot begin")
        try:
            enqueue()
        except BaseException as err:
            _, graph = driver.cuStreamEndCapture(self._stream)
            with contextlib.suppress(TypeError):  # it is None where recording was broken off
                driver.cuGraphDestroy(graph)
            if not isinstance(err, Exception):
                raise
            raise EngineError(f"the work cannot be recorded: {err}") from err
        (graph,) = _call(driver.cuStreamEndCapture(self._stream), "the work cannot be recorded")
        try:
            (self._graph,) = _call(driver.cuGraphInstantiate(graph, 0), "the recorded work is no graph")
        finally:
            driver.cuGraphDestroy(graph)

    def replay(self) -> None:
        """Put the work into the stream again.

        Raises:
            EngineError: the driver refuses.
        """
        launched = self._driver.cuGraphLaunch(self._graph, self._stream)
        _call(launched, "a CUDA graph cannot be launched; open the session again")

    def destroy(self) -> None:
        """Free it; it is not replayed any more."""
        self._driver.cuGraphExecDestroy(self._graph)


def wait_for(stream: int, other: int) -> None:
    """Let `stream` wait for what is in `other` now.

    Raises:
        EngineError: `other` is no stream of this GPU.
    """
    driver = bindings()
    refused = f"the stream {other:#x} that makes the frame cannot be waited for; is it this GPU's?"
    (event,) = _call(driver.cuEventCreate(_NO_TIMING), refused)
    try:
        _call(driver.cuEventRecord(event, driver.CUstream(other)), refused)
        _call(driver.cuStreamWaitEvent(driver.CUstream(stream), event, 0), refused)
    finally:
        driver.cuEventDestroy(event)  # the driver keeps it until the stream has passed it


def owner(address: int) -> int | None:
    """Index of the GPU whose memory lies at `address`, or None."""
    driver = bindings()
    attribute = driver.CUpointer_attribute.CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL
    status, index = driver.cuPointerGetAttribute(attribute, driver.CUdeviceptr(address))
    return None if int(status) != 0 else int(index)


def _call(result: tuple[Any, ...], failed: str) -> tuple[Any, ...]:
    """What a call gave besides its status; `failed` says what it means that there is another one than 0."""
    status, *values = result
    if int(status) != 0:
        raise EngineError(f"{failed} (the driver says {status.name})")
    return tuple(values)
