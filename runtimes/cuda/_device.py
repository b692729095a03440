"""What the launch layer needs of a device: memory, copies and launches in the order of one stream."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Grid = tuple[int, int, int]


class Recording(Protocol):
    """Work that was recorded once, with the addresses and values that it had then."""

    def replay(self) -> None:
        """Put it into the stream again.

        Raises:
            EngineError: the driver refuses.
        """


class Marker(Protocol):
    """A place in the stream, to take times between two."""

    def record(self) -> None:
        """Here; an earlier place is forgotten."""

    def ms_since(self, earlier: Marker) -> float:
        """Milliseconds on the device between two places that the stream has passed."""


class Device(Protocol):
    """One GPU and one stream; tests run the kernels on the CPU behind it.

    Everything happens inside ``with device``, which makes the GPU's context current. Addresses are plain
    integers. `copy_in`, `copy_out`, `launch`, `wait_for`, and what recordings and markers do, is put into the
    stream and may not have happened when the call returns.
    """

    index: int
    """Which GPU of this machine."""

    stream: int
    """The stream's handle, for engines."""

    def __enter__(self) -> Device:
        """Make the context current in this thread; may be nested.

        Raises:
            UsageError: another thread is inside.
        """

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def allocate(self, size: int, what: str) -> int:
        """`size` bytes of device memory, all 0, at an address that is a multiple of 256, until `free`.

        Raises:
            EngineError: there is not so much; the message names `what` it is for.
        """

    def free(self, address: int) -> None:
        """Give back what `allocate` gave, once the stream has done what is in it."""

    def pinned(self, shape: tuple[int, ...], dtype: str) -> npt.NDArray[np.generic]:
        """A page-locked host array, all 0, as long as it is held; let it go inside ``with device``, too.

        Raises:
            EngineError: there is not so much.
        """

    def copy_in(self, address: int, array: npt.NDArray[np.generic]) -> None:
        """Host to device; the array is C-contiguous and must stay as it is until the stream has come here."""

    def copy_out(self, array: npt.NDArray[np.generic], address: int) -> None:
        """Device to host."""

    def launch(self, source: str, kernel: str, grid: Grid, threads: int, arguments: ctypes.Structure) -> None:
        """Run `kernel` of ``SOURCE.cu``; the arguments are copied."""

    def record(self, enqueue: Callable[[], None]) -> Recording:
        """What `enqueue` puts into the stream, kept instead of done (a CUDA graph).

        Raises:
            EngineError: something in it cannot be recorded. The stream is as before.
        """

    def marker(self) -> Marker:
        """A new one."""

    def wait_for(self, stream: int) -> None:
        """Let this stream wait for what is in another one now: a handle, 1 or 2 for the default streams."""

    def owner(self, address: int) -> int | None:
        """Index of the GPU whose memory lies at `address`; None where CUDA knows of no memory there."""

    def synchronize(self) -> None:
        """Wait for the stream.

        Raises:
            EngineError: something in it failed.
        """

    def close(self) -> None:
        """Free all device memory; closing twice is harmless."""


def constant(device: Device, array: npt.NDArray[np.generic], what: str) -> int:
    """A copy of `array` on the device; 0 elements have an address, too."""
    import numpy as np

    packed = np.ascontiguousarray(array)
    address = device.allocate(max(1, packed.nbytes), what)
    device.copy_in(address, packed)
    device.synchronize()  # the array may go
    return address
