"""A typed ONNX graph on the CPU, in the place of an engine that cannot run here: values, not speed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from edgead.bundle.head import BANK_SEARCH, WINDOW_SEARCH
from edgead.runtimes._bank_head import BankOutputs
from edgead.runtimes._base import Availability
from edgead.runtimes._graph import GraphOutputs
from edgead.runtimes._head import SearchedOutputs
from edgead.runtimes.ort_runtime import OnnxRuntime
from edgead.types import Target


class TypedGraphRuntime(OnnxRuntime):
    """Runs a Q/DQ graph as it is written, or the fp16 form with its roundings written out in float32.

    Q/DQ pairs are computed as they stand, in float32 on 8-bit values: fused, a CPU without VNNI would
    saturate sums of products where no GPU does.
    """

    entries: ClassVar[Mapping[str, str]] = {"session.disable_quant_qdq": "1"}

    def __init__(self, engine: str = "onnxruntime") -> None:
        """A new one.

        Args:
            engine: in whose place; where its name asks for a search, libedgead's follows.
        """
        super().__init__()
        self._stands_for = engine

    def outputs_of(self, graph: Path) -> GraphOutputs:
        """What an engine of that name has behind `graph`."""
        if self._stands_for.endswith(WINDOW_SEARCH):
            return SearchedOutputs(graph)
        return BankOutputs(graph) if self._stands_for.endswith(BANK_SEARCH) else super().outputs_of(graph)

    @classmethod
    def availability_for(cls, target: Target) -> Availability:
        """Any target: it is the graph that runs."""
        return cls.availability()

    @classmethod
    def provider_of(cls, onnxruntime: Any, target: Target) -> str:
        """The CPU."""
        return "CPUExecutionProvider"
