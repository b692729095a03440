"""The runtime interface: checks once in the public methods, work in `_impl`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, ClassVar

from edgead.errors import InternalError, RuntimeMissingError, UsageError
from edgead.types import Precision, Rest, Target

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from edgead.runtimes._device_engine import DeviceEngine
    from edgead.runtimes.cuda._device import Device


@dataclass(frozen=True, slots=True)
class Availability:
    """Whether a runtime can run here; `why` says what is missing and how to get it."""

    available: bool
    why: str = ""
    version: str = ""


@dataclass(frozen=True, slots=True)
class RawOutput:
    """What a graph gives for one input.

    Attributes:
        anomaly_map: (N, K, h, w) float32, raw units, higher = more anomalous. Valid until the next `infer`:
            copy what you keep.
        image_score: (N,) float32, or None where the score is a function of the map.
    """

    anomaly_map: npt.NDArray[np.float32]
    image_score: npt.NDArray[np.float32] | None = None


class Runtime(ABC):
    """One opened engine. Not for concurrent use: one instance per thread.

    Subclasses set `engine` and `precisions` and implement `availability`, `open_impl`, `infer_impl`,
    `close_impl`. `open_impl` returns the input shape (N, H, W, 3).
    """

    engine: ClassVar[str]
    precisions: ClassVar[tuple[Precision, ...]]

    def __init__(self) -> None:
        self._input_shape: tuple[int, int, int, int] | None = None
        self._rest: Rest = "fp32"

    @classmethod
    @abstractmethod
    def availability(cls) -> Availability:
        """Whether this runtime's packages and device are here. Must not raise."""

    @classmethod
    def availability_for(cls, target: Target) -> Availability:
        """The same for one target, whose device may ask for more than the engine does. Must not raise."""
        return cls.availability()

    def open(self, graph: Path, target: Target, *, threads: int = 0, rest: Rest = "fp32") -> Runtime:
        """Load and compile `graph` for `target`.

        Args:
            graph: the target's main file (graph.onnx, model.xml, a plan).
            target: engine, explicit precision, device.
            threads: compute threads, 0 = the engine's own choice.
            rest: of int8, what is not quantised is computed in it where the device has it, elsewhere in fp32;
                for an engine that has the choice.

        Raises:
            UsageError: the target is another engine's, or of a precision that this engine has not.
            RuntimeMissingError: the engine's package is not installed.
            EngineError: the engine refuses the graph or the precision.
        """
        if target.engine != self.engine or target.precision not in self.precisions:
            raise UsageError(
                f"{type(self).__name__} runs {self.engine} in {', '.join(self.precisions)}, not {target}"
            )
        if self._input_shape is not None:
            raise InternalError(f"{type(self).__name__} is open already")
        self._rest = rest
        self._input_shape = self.open_impl(graph, target, threads)
        return self

    def on_device(self, graph: Path, target: Target, device: Device) -> DeviceEngine:
        """The engine with its tensors in a GPU's memory; this object itself is not opened.

        Args:
            graph: as for `open`.
            target: as there.
            device: the GPU, whose context is current.

        Raises:
            RuntimeMissingError: the engine's package is not installed, or the engine has its tensors in host
                memory.
            EngineError: the engine refuses the graph or the precision.
        """
        raise RuntimeMissingError(
            f"{target}: {self.engine} is not driven on a GPU as a whole; use --runtime python"
        )

    @property
    def input_shape(self) -> tuple[int, int, int, int]:
        """(N, H, W, 3) of the graph's uint8 input.

        Raises:
            InternalError: the runtime is not open.
        """
        if self._input_shape is None:
            raise InternalError(f"{type(self).__name__} is not open")
        return self._input_shape

    def infer(self, image: npt.NDArray[np.uint8]) -> RawOutput:
        """Run the graph once.

        Args:
            image: (N, H, W, 3) uint8 RGB, C-contiguous, exactly `input_shape`.

        Raises:
            InternalError: not open, or an array of another shape or dtype.
            EngineError: the engine failed.
        """
        if image.shape != self.input_shape or image.dtype.name != "uint8" or not image.flags.c_contiguous:
            raise InternalError(
                f"{type(self).__name__} wants contiguous uint8 {self.input_shape}, "
                f"got {image.dtype} {image.shape}"
            )
        return self.infer_impl(image)

    def close(self) -> None:
        """Free the engine; closing twice is harmless."""
        if self._input_shape is not None:
            self._input_shape = None
            self.close_impl()

    def __enter__(self) -> Runtime:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @abstractmethod
    def open_impl(self, graph: Path, target: Target, threads: int) -> tuple[int, int, int, int]:
        """Load the graph and return its input shape."""

    @abstractmethod
    def infer_impl(self, image: npt.NDArray[np.uint8]) -> RawOutput:
        """Run the graph on a checked input."""

    @abstractmethod
    def close_impl(self) -> None:
        """Release the engine."""
