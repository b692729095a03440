"""The null engine: gives back a stored map at once, so that a measurement shows edgead's own cost."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edgead.errors import EngineError
from edgead.runtimes._base import Availability, RawOutput, Runtime
from edgead.runtimes._graph import INPUT, MAP, SCORE, check_file, check_input
from edgead.types import Target

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


class NullRuntime(Runtime):
    """Its graph is an .npz file.

    ``anomaly_map`` is float32 (N, K, h, w), ``input_shape`` is (N, H, W, 3), ``image_score``, optional, is
    float32 (N,).
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
        import numpy as np

        check_file(graph)
        try:
            with np.load(graph, allow_pickle=False) as file:
                stored = {name: file[name] for name in file.files}
            anomaly_map = np.ascontiguousarray(stored[MAP], np.float32)
            sizes = [int(size) for size in stored["input_shape"]]
        except Exception as err:
            raise EngineError(
                f"null engine: {graph.name} is not an .npz with {MAP} and input_shape ({err})"
            ) from err
        shape = check_input(graph, INPUT, "u8", sizes)
        self._output = RawOutput(anomaly_map, stored.get(SCORE))
        return shape

    def infer_impl(self, image: npt.NDArray[np.uint8]) -> RawOutput:
        """The stored output, whatever the image shows."""
        assert self._output is not None
        return self._output

    def close_impl(self) -> None:
        """Forget the stored output."""
        self._output = None
