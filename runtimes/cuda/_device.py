"""What the launch layer needs of a device: memory, copies and launches in the order of one stream."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Grid = tuple[int, int, int]


class Recorded(Protocol):
    """Work that was recorded once and runs again as a whole."""

    def run(self) -> None:
        """Put it into the stream."""


class Device(Protocol):
    """One GPU and one stream. `CudaDevice` is the real one; tests run the kernels on the CPU behind this.

    Addresses are plain integers. Everything but `allocate`, `pinned` and `synchronize` is put into the
    stream and may not have happened when the call returns.
    """

    stream: int
    """The stream's handle, for engines."""

    def allocate(self, size: int, what: str) -> int:
        """`size` bytes of device memory, all 0, at an address that is a multiple of 256, until `close`.

        Raises:
            EngineError: there is not so much; the message names `what` it is for.
        """

    def pinned(self, shape: tuple[int, ...], dtype: str) -> npt.NDArray[np.generic]:
        """A page-locked host array, until `close`."""

    def copy_in(self, address: int, array: npt.NDArray[np.generic]) -> None:
        """Host to device; the array is C-contiguous and must stay as it is until the stream has come here."""

    def copy_out(self, array: npt.NDArray[np.generic], address: int) -> None:
        """Device to host."""

    def launch(self, source: str, kernel: str, grid: Grid, threads: int, arguments: ctypes.Structure) -> None:
        """Run `kernel` of ``SOURCE.cu``; the arguments are copied."""

    def synchronize(self) -> None:
        """Wait for the stream.

        Raises:
            EngineError: something in it failed.
        """

    def record(self, work: Callable[[], None]) -> Recorded | None:
        """Record what `work` puts into the stream, without running it; None where that cannot be done."""

    def owner(self, address: int) -> int | None:
        """Number of the device whose memory `address` is; None where it is no device memory."""

    def wait_for(self, stream: int) -> None:
        """Let this stream wait for what has been put into another one."""

    def close(self) -> None:
        """Free all memory; closing twice is harmless."""


def constant(device: Device, array: npt.NDArray[np.generic], what: str) -> int:
    """A copy of `array` on the device; 0 elements have an address, too."""
    import numpy as np

    packed = np.ascontiguousarray(array)
    address = device.allocate(max(1, packed.nbytes), what)
    device.copy_in(address, packed)
    device.synchronize()  # the array may go
    return address
