"""The graph contract (DESIGN §4): what every engine must see in a graph before it runs it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgead.errors import EngineError, UsageError

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


def check_outputs(graph: Path, names: Sequence[str]) -> bool:
    """Whether the graph gives an ``image_score`` beside its ``anomaly_map``.

    Raises:
        EngineError: there is no ``anomaly_map``, or an output of another name.
    """
    if MAP not in names or not set(names) <= {MAP, SCORE}:
        raise EngineError(
            f"{graph.name}: outputs are {', '.join(names)}; edgead runs graphs with {MAP} and at most {SCORE}"
        )
    return SCORE in names


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
