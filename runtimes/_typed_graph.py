"""A typed ONNX graph on the CPU, in the place of an engine that cannot run here: values, not speed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from edgead.runtimes._base import Availability
from edgead.runtimes.ort_runtime import OnnxRuntime
from edgead.types import Target


class TypedGraphRuntime(OnnxRuntime):
    """Runs a Q/DQ graph as it is written, or the fp16 form with its roundings written out in float32.

    Q/DQ pairs are computed as they stand, in float32 on 8-bit values: fused, a CPU without VNNI would
    saturate sums of products where no GPU does.
    """

    entries: ClassVar[Mapping[str, str]] = {"session.disable_quant_qdq": "1"}

    @classmethod
    def availability_for(cls, target: Target) -> Availability:
        """Any target: it is the graph that runs."""
        return cls.availability()

    @classmethod
    def provider_of(cls, onnxruntime: Any, target: Target) -> str:
        """The CPU."""
        return "CPUExecutionProvider"
