"""ONNX Runtime up to the patch vectors, then libedgead's search for the nearest ones of a bank."""

from __future__ import annotations

from pathlib import Path

from edgead.runtimes._bank_head import BankOutputs
from edgead.runtimes._graph import GraphOutputs
from edgead.runtimes.ort_runtime import OnnxRuntime


class OnnxBankSearchRuntime(OnnxRuntime):
    """As ONNX Runtime; ``head.json`` beside the graph says what is searched."""

    engine = "onnxruntime+bank_search"

    def outputs_of(self, graph: Path) -> GraphOutputs:
        """Patch vectors."""
        return BankOutputs(graph)
