"""A device engine between pinned host arrays: image in, raw tensors out, as every other runtime has it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from edgead.runtimes._device_engine import DeviceEngine
from edgead.runtimes._graph import INPUT
from edgead.runtimes.cuda._device import Device
from edgead.runtimes.cuda._step import Step, engine_memory

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


class HostIo:
    """Copies and engine as one step. Made and used inside ``with device``.

    Attributes:
        outputs: pinned arrays by the tensor's name, which each run fills.
        why_plain: as `Step` has it.
    """

    def __init__(self, device: Device, engine: DeviceEngine) -> None:
        """Take the memory, warm up, record.

        Raises:
            EngineError: not enough memory, or the engine fails.
        """
        addresses = engine_memory(device, engine)
        self._device, self._engine = device, engine
        self._image = device.pinned(engine.input_shape, "uint8")
        self.outputs: Mapping[str, npt.NDArray[np.generic]] = {
            name: device.pinned(tensor.shape, tensor.dtype) for name, tensor in engine.outputs.items()
        }

        def enqueue() -> None:
            device.copy_in(addresses[INPUT], self._image)
            engine.enqueue(addresses, device.stream)
            for name, array in self.outputs.items():
                device.copy_out(array, addresses[name])

        self._step = Step(device, enqueue)
        self.why_plain = self._step.why_plain

    def run(self, image: npt.NDArray[np.uint8]) -> None:
        """Copy `image`, (N, H, W, 3), to where it is read from, run, wait.

        Raises:
            EngineError: the engine failed.
        """
        self._image[...] = image
        self._step.enqueue()
        self._device.synchronize()
        self._engine.check()
