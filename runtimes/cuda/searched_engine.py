"""A network that stops at query tensors and the search behind it, as one `DeviceEngine`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from edgead.runtimes._device_engine import DeviceEngine, DeviceTensor
from edgead.runtimes._graph import INPUT
from edgead.runtimes.cuda._device import Device


class SearchedEngine:
    """The queries lie in memory of its own, taken once and freed with the device.

    Attributes:
        input_shape: (N, H, W, 3), the network's.
        outputs: those of the search, by name.
    """

    def __init__(
        self,
        network: DeviceEngine,
        device: Device,
        outputs: Mapping[str, DeviceTensor],
        search: Callable[[Mapping[str, int], Mapping[str, int]], None],
        check: Callable[[], None] | None = None,
    ) -> None:
        """Take the memory of the queries.

        Args:
            network: gives the queries; of the same context and stream.
            device: where the search runs.
            outputs: what the search writes.
            search: puts it into the device's stream; given the addresses of queries and outputs by name.
            check: looks at what the last search left, see `DeviceEngine.check`.

        Raises:
            EngineError: not enough device memory.
        """
        self.input_shape, self.outputs = network.input_shape, outputs
        self._network, self._search, self._check = network, search, check
        self._queries = {
            name: device.allocate(
                math.prod(tensor.shape) * np.dtype(tensor.dtype).itemsize, f"the engine's {name}"
            )
            for name, tensor in network.outputs.items()
        }

    def enqueue(self, addresses: Mapping[str, int], stream: int) -> None:
        """Network, then search; see `DeviceEngine.enqueue`."""
        self._network.enqueue({INPUT: addresses[INPUT], **self._queries}, stream)
        self._search(self._queries, addresses)

    def check(self) -> None:
        """See `DeviceEngine.check`."""
        self._network.check()
        if self._check is not None:
            self._check()
