"""The null engine: gives back a stored map at once, so that a measurement shows edgead's own cost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgead.errors import EngineError
from edgead.runtimes._base import Availability, RawOutput, Runtime
from edgead.runtimes._graph import INPUT, check_file, check_input
from edgead.types import Target

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


class NullRuntime(Runtime):
    """Its graph is JSON beside a raw map, as `runtimes/native/src/engines/null.cpp` reads it.

    ``{"input": [N, H, W, 3], "map": [N, K, h, w], "map_file": "name.f32", "score": number or null}``; the
    map is little-endian float32; every image of a batch has the same score.
    """

    engine = "null"
    precisions = ("fp32",)

    def __init__(self) -> None:
        super().__init__()
        self._output: RawOutput | None = None

    @classmethod
    def availability(cls) -> Availability:
        """It is always there."""
        return Availability(True)

    def open_impl(self, graph: Path, target: Target, threads: int) -> tuple[int, int, int, int]:
        """Read the stored output."""
        check_file(graph)
        try:
            stored = json.loads(graph.read_text("utf-8"))
            map_file = stored["map_file"]
            if not map_file or "/" in map_file:
                raise ValueError(f"map_file must be a plain file name, not {map_file!r}")
            anomaly_map = _read_map(graph.parent / map_file, stored["map"])
            shape = check_input(graph, INPUT, "u8", stored["input"])
            self._output = RawOutput(anomaly_map, _scores(stored["score"], shape[0]))
        except EngineError:
            raise
        except Exception as err:
            raise EngineError(f"null engine: {graph.name} is not a stored output ({err})") from err
        return shape

    def infer_impl(self, image: npt.NDArray[np.uint8]) -> RawOutput:
        """The stored output, whatever the image shows."""
        assert self._output is not None
        return self._output

    def close_impl(self) -> None:
        """Forget the stored output."""
        self._output = None


def _read_map(path: Path, shape: list[int]) -> npt.NDArray[np.float32]:
    import numpy as np

    if len(shape) != 4:
        raise ValueError(f"map has shape {shape}, not (N, K, h, w)")
    return np.frombuffer(path.read_bytes(), "<f4").reshape(shape).astype(np.float32)


def _scores(score: Any, batch: int) -> npt.NDArray[np.float32] | None:
    import numpy as np

    return None if score is None else np.full(batch, score, np.float32)
