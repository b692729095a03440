"""The graph contract (DESIGN §4): what every engine must see in a graph before it runs it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgead.errors import EngineError, UsageError
from edgead.runtimes._base import RawOutput

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from edgead.runtimes._device_engine import DeviceEngine
    from edgead.runtimes.cuda._device import Device

INPUT = "image"
MAP = "anomaly_map"
SCORE = "image_score"


def check_input(
    graph: Path, name: str, element_type: str, shape: Sequence[object]
) -> tuple[int, int, int, int]:
    """The static input shape (N, H, W, 3).

    Args:
        graph: for the message.
        name: the graph's only input.
        element_type: as the engine spells it, lower case.
        shape: the input's dimensions; a dynamic one is anything but an int.

    Raises:
        EngineError: it is not ``image``, uint8 (N, H, W, 3) with fixed sizes.
    """
    sizes = [size for size in shape if isinstance(size, int) and size > 0]
    if name != INPUT or element_type not in ("u8", "tensor(uint8)") or len(sizes) != 4 or sizes[3] != 3:
        raise EngineError(
            f"{graph.name}: input {name!r} is {element_type} {list(shape)}, "
            f"edgead runs graphs with one static input {INPUT!r}, uint8 (N, H, W, 3); export the MODEL again"
        )
    return sizes[0], sizes[1], sizes[2], sizes[3]


class GraphOutputs(ABC):
    """Which outputs an engine's graph has, and what becomes of them."""

    @abstractmethod
    def check(self, graph: Path, names: Sequence[str]) -> tuple[str, ...]:
        """The outputs to bind, of those that the graph has.

        Raises:
            EngineError: one is missing, or is there and should not be.
        """

    @abstractmethod
    def dtype(self, name: str) -> str:
        """NumPy's name of the output's element type."""

    @abstractmethod
    def bind(self, graph: Path, arrays: Mapping[str, npt.NDArray[np.generic]]) -> RawOutput:
        """Keep the arrays that each run fills; what `finish` leaves the result in.

        Raises:
            EngineError: an array has not the shape that it must have.
        """

    def on_device(self, graph: Path, engine: DeviceEngine, device: Device) -> DeviceEngine:
        """`engine`, whose tensors lie on `device`, with what is left to do after each run behind it.

        Raises:
            EngineError: a tensor has not the shape that it must have, or there is not enough device memory.
        """
        return engine

    def finish(self) -> None:  # noqa: B027  # most graphs need nothing more
        """What is left to do after each run.

        Raises:
            EngineError: the graph's values cannot be used.
        """


class MapOutputs(GraphOutputs):
    """``anomaly_map``, and ``image_score`` where the graph gives one."""

    def check(self, graph: Path, names: Sequence[str]) -> tuple[str, ...]:
        """One or both."""
        if MAP not in names or not set(names) <= {MAP, SCORE}:
            raise EngineError(
                f"{graph.name}: outputs are {', '.join(names)}; edgead runs graphs with {MAP} and at most "
                f"{SCORE}"
            )
        return (MAP, SCORE) if SCORE in names else (MAP,)

    def dtype(self, name: str) -> str:
        """float32."""
        return "float32"

    def bind(self, graph: Path, arrays: Mapping[str, npt.NDArray[np.generic]]) -> RawOutput:
        """The arrays themselves."""
        return RawOutput(arrays[MAP], arrays.get(SCORE))  # type: ignore[arg-type]  # of the type that `dtype` gave


def check_file(graph: Path) -> None:
    """Refuse a graph that is not there before an engine puts it in its own words.

    Raises:
        UsageError: there is no such file.
    """
    if not graph.is_file():
        raise UsageError(f"graph {graph} does not exist")


def last_line(error: BaseException) -> str:
    """The last line of an engine's message: engines lead with their own source lines."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
