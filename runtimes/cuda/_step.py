"""Work that is put into a device's stream again and again: recorded where it can be."""

from __future__ import annotations

import math
from collections.abc import Callable

from edgead.errors import EngineError
from edgead.runtimes._device_engine import DeviceEngine
from edgead.runtimes._graph import INPUT
from edgead.runtimes.cuda._device import Device

_WARM_UP = 3  # engines choose algorithms and take memory in their first runs


class Step:
    """One piece of work, always with the same addresses.

    Attributes:
        why_plain: why it is put into the stream call by call each time; empty where it was recorded.
    """

    def __init__(self, device: Device, enqueue: Callable[[], None]) -> None:
        """Warm up and record.

        Args:
            device: whose stream.
            enqueue: puts the work into the stream and waits for nothing.

        Raises:
            EngineError: the work fails.
        """
        for _ in range(_WARM_UP):
            enqueue()
            device.synchronize()
        self.why_plain = ""
        self.enqueue = enqueue
        """Put it into the stream."""
        try:
            self.enqueue = device.record(enqueue).replay
        except EngineError as err:
            self.why_plain = str(err)


def engine_memory(device: Device, engine: DeviceEngine) -> dict[str, int]:
    """Device memory for every tensor of `engine`, all 0: name → address.

    Raises:
        EngineError: there is not so much.
    """
    import numpy as np

    tensors = {INPUT: (tuple(engine.input_shape), "uint8")}
    tensors |= {name: (tensor.shape, tensor.dtype) for name, tensor in engine.outputs.items()}
    return {
        name: device.allocate(math.prod(shape) * np.dtype(kind).itemsize, f"the engine's {name}")
        for name, (shape, kind) in tensors.items()
    }
