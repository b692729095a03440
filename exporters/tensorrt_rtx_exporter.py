"""ONNX to a plan of TensorRT-RTX, on a machine with or without a GPU."""

from __future__ import annotations

from typing import Any

from edgead.errors import UsageError
from edgead.exporters._tensorrt import TypedPlanExporter, check_capabilities
from edgead.runtimes._tensorrt import TENSORRT_RTX

# Without a choice the library builds for this one and every later one.
_LEAST = "8.0"


class TensorRTRtxExporter(TypedPlanExporter):
    """Builds for named GPUs, or one plan for all from compute capability 8.0 on."""

    engine = "tensorrt_rtx"
    package = TENSORRT_RTX

    def choose_devices(self, library: Any, config: Any, index: int) -> tuple[str, tuple[str, ...], str]:
        """Name the GPUs to the builder; whichever is here does not matter."""
        if self.options.compatibility != "none":
            raise UsageError("tensorrt_rtx: name compute capabilities instead of a compatibility")
        if self.options.timing_cache is not None:
            # Its interface is still there, has no effect on plans, and asks for a GPU.
            raise UsageError("tensorrt_rtx measures no kernels: a timing cache is for tensorrt, leave it out")
        known = library.ComputeCapability.__members__.get
        chosen = check_capabilities(known, self.options.compute_capabilities)
        if chosen:
            config.num_compute_capabilities = len(chosen)
            for place, constant in enumerate(chosen):
                config.set_compute_capability(constant, place)
        return "any", self.options.compute_capabilities, _LEAST
