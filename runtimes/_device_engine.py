"""What a GPU pipeline needs of an engine: tensors on the device, and work put on the caller's stream."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class DeviceTensor:
    """Shape and NumPy's name of the element type (``float32``, ``float16``, ``int32``)."""

    shape: tuple[int, ...]
    dtype: str


class DeviceEngine(Protocol):
    """An engine whose tensors lie in device memory, in C order. One thread at a time.

    An engine that stops at query tensors becomes one together with its search
    (`edgead.runtimes.cuda.searched_engine`), so that nothing behind it need know that there is one.
    """

    @property
    def input_shape(self) -> tuple[int, int, int, int]:
        """(N, H, W, 3) of the input ``image``, uint8 RGB."""

    @property
    def outputs(self) -> Mapping[str, DeviceTensor]:
        """Output tensors by name: ``anomaly_map`` and, where the graph has one, ``image_score``."""

    def enqueue(self, addresses: Mapping[str, int], stream: int) -> None:
        """Put one run on `stream` and return at once; it can be captured into a CUDA graph.

        Args:
            addresses: device address of every input and output by its name; the memory stays until the work
                is done.
            stream: handle of a CUDA stream of the engine's context, which is current.

        Raises:
            EngineError: the engine refuses the work.
        """

    def check(self) -> None:
        """Look, once the stream has done the last run, whether its values can be used.

        Raises:
            EngineError: they cannot; the next run may be sound again.
        """
