"""TensorRT-RTX: the same interface as TensorRT, another library."""

from __future__ import annotations

from edgead.runtimes._tensorrt import TENSORRT_RTX
from edgead.runtimes.tensorrt_runtime import TensorRTRuntime


class TensorRTRtxRuntime(TensorRTRuntime):
    """The first opening on a GPU compiles the plan to its last step, which takes seconds."""

    engine = "tensorrt_rtx"
    package = TENSORRT_RTX
