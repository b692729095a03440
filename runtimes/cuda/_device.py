"""What the launch layer needs of a device: memory, copies and launches in the order of one stream."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Grid = tuple[int, int, int]


class Device(Protocol):
    """One GPU and one stream; tests run the kernels on the CPU behind it.

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
