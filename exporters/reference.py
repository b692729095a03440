"""The torch MODEL in its straightforward form, behind the runtime interface: what engines are held to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from edgead.errors import EngineError
from edgead.runtimes._base import Availability, RawOutput, Runtime
from edgead.types import Target

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from edgead.detectors._base import Detector


class TorchReference(Runtime):
    """Its graph is a MODEL; with `detector`, that one is run and the MODEL is not read again."""

    engine = "torch"
    precisions = ("fp32",)

    def __init__(self, detector: Detector | None = None) -> None:
        super().__init__()
        self._given = detector
        self._detector: Detector | None = None

    @classmethod
    def availability(cls) -> Availability:
        """This module cannot be imported without torch, so it is there."""
        return Availability(True, version=str(torch.__version__).split("+")[0])

    def open_impl(self, graph: Path, target: Target, threads: int) -> tuple[int, int, int, int]:
        """Load the MODEL; torch's thread count is the process's own, so `threads` sets it there."""
        if target.device != "cpu":
            raise EngineError(f"{target}: the reference runs on the cpu")
        if threads:
            torch.set_num_threads(threads)
        if self._given is None:
            from edgead.detectors import model_file

            detector, _ = model_file.load(graph)
        else:
            detector = self._given
        self._detector = detector.eval()
        return (1, *detector.geometry.input_size, 3)

    def infer_impl(self, image: npt.NDArray[np.uint8]) -> RawOutput:
        """One forward pass."""
        assert self._detector is not None
        with torch.inference_mode():
            output = self._detector(torch.tensor(image))
        score = None if output.image_score is None else output.image_score.numpy()
        return RawOutput(output.anomaly_map.numpy(), score)

    def close_impl(self) -> None:
        """Let go of the detector."""
        self._detector = None
