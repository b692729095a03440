"""ONNX to a plan of TensorRT 10 or 11, for the GPU of this machine."""

from __future__ import annotations

from typing import Any

from edgead.errors import UsageError
from edgead.exporters._tensorrt import TypedPlanExporter
from edgead.runtimes._cuda import device_facts
from edgead.runtimes._tensorrt import TENSORRT


class TensorRTExporter(TypedPlanExporter):
    """TensorRT measures kernels while it builds, so it needs the GPU."""

    engine = "tensorrt"
    package = TENSORRT

    def choose_devices(self, library: Any, config: Any, index: int) -> tuple[str, tuple[str, ...], str]:
        """The GPU that is here, or more of them by the compatibility that was asked for."""
        if self.options.compute_capabilities:
            raise UsageError(
                "tensorrt builds for the GPU that is here; compute capabilities are named to tensorrt_rtx"
            )
        facts = device_facts(index)
        own = f"{facts.capability[0]}.{facts.capability[1]}"
        levels = library.HardwareCompatibilityLevel.__members__
        config.hardware_compatibility_level = levels[self.options.compatibility.upper()]
        if self.options.compatibility == "ampere_plus":
            return facts.name, (), "8.0"
        return facts.name, (own,), own
